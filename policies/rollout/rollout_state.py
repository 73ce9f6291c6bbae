"""What a policy learns from the answers that it has led to: the state behind experiments, targets and budgets.

One book for all of it, fed with every answer's end. It says which thresholds hold now, which experiments are over, and
what somebody should hear of.
"""

from collections.abc import Iterable, Mapping

import msgspec

from config.model.rollout import ExperimentSettings, Metric
from config.model.settings import Settings
from policies.admission.prices import cost_of
from policies.cascade.calibration import share_for_threshold, threshold_of
from policies.model.plan import Plan
from policies.rollout.budget_controller import BudgetController
from policies.rollout.experiment import CONTROL, RollBack, text_of
from policies.rollout.guard import SampleRatioTest, WorseTest
from policies.rollout.share_controller import ShareController
from policies.rollout.share_tracker import ShareTracker, ShareView

_MOST_UNITS = 100_000
"""Units of an experiment that are told apart; later ones are not counted for the sample ratio."""


class AnswerResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How one answer ended."""

    at: float
    """Wall-clock time, seconds since 1970."""
    outcome: str
    """ok, failed, refused, gone, overrun."""
    rung: str
    escalated: bool
    fell_back: bool
    truncated: bool
    """It ended by length, not because it was complete."""
    ttft_s: float | None
    """When there was content, streamed or held back for a whole answer. None: there was none."""
    slo_ttft_s: float
    unit: str = ""
    """Of the experiment."""
    cost: float = 0.0
    held: float = 0.0
    """What `RolloutState.on_start` gave for it."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class RolloutNotice(msgspec.Struct, frozen=True):
    """Something that somebody should hear of."""

    event: str
    """For the log: "cascade_drifted", "cascade_back_on_target", "experiment_rolled_back", ..."""
    subject: str
    """The cascade or experiment."""
    details: Mapping[str, object]


class ArmView(msgspec.Struct, frozen=True):
    """One arm's figures."""

    requests: int
    units: int
    metrics: Mapping[str, tuple[int, int]]
    """(bad answers, answers), by metric."""
    evidence: Mapping[str, float]
    """By metric: log of the e-value against control, the highest so far."""


class ExperimentView(msgspec.Struct, frozen=True):
    """One experiment's state."""

    rolled_back: bool
    why: str
    sample_ratio_off: bool
    arms: Mapping[str, ArmView]


class CascadeView(msgspec.Struct, frozen=True):
    """One cascade's course."""

    threshold: float
    share: ShareView | None
    """None: it has no target for its share."""
    spent_today: float | None
    """None: it has no budget."""


class _Arm:
    def __init__(self) -> None:
        self.requests = 0
        self.units = 0
        self.counts: dict[Metric, list[int]] = {}


class _Experiment:
    """One experiment under way."""

    def __init__(self, settings: ExperimentSettings) -> None:
        self.settings = settings
        self.text = text_of(settings)
        self.why = ""
        self.rolled_back = False
        self.arms = {arm: _Arm() for arm in settings.arms}
        self.ratio = SampleRatioTest(settings.arms)
        self.ratio_off = False
        self._units: set[str] = set()
        self.warned: set[tuple[str, Metric]] = set()
        control = settings.arms.get(CONTROL, 0.0)
        metrics = settings.guard.metrics if settings.guard is not None else ()
        self.tests = {
            (arm, metric): WorseTest(control / percent)
            for arm, percent in settings.arms.items()
            if arm != CONTROL and percent > 0
            for metric in metrics
        }

    def on_end(self, arm: str, ending: AnswerResult) -> list[RolloutNotice]:
        mine = self.arms.get(arm)
        if mine is None or self.rolled_back:
            return []
        mine.requests += 1
        notices = self._count_unit(arm, mine, ending)
        guard = self.settings.guard
        if guard is None:
            return notices
        alpha = guard.alpha / max(len(self.tests), 1)
        for metric in guard.metrics:
            bad = is_bad(metric, ending)
            if bad is None:
                continue
            counts = mine.counts.setdefault(metric, [0, 0])
            counts[0] += bad
            counts[1] += 1
            for (other, tested), test in self.tests.items():
                if tested != metric or (arm not in {CONTROL, other}):
                    continue
                test.add(arm=arm == other, bad=bad)
                enough = test.answers[1] >= guard.min_requests
                if enough and test.rejects(alpha) and (other, metric) not in self.warned:
                    self.warned.add((other, metric))
                    notices.append(self._alarm(other, metric, test, guard.then == "roll_back"))
        return notices

    def _count_unit(self, arm: str, mine: _Arm, ending: AnswerResult) -> list[RolloutNotice]:
        if ending.unit in self._units or len(self._units) >= _MOST_UNITS:
            return []
        if ending.unit:
            self._units.add(ending.unit)
        mine.units += 1
        self.ratio.add(arm)
        if self.ratio_off or not self.ratio.rejects(self.settings.sample_ratio_alpha):
            return []
        self.ratio_off = True
        counts = dict(self.ratio.counts)
        return [RolloutNotice("experiment_sample_ratio_off", self.settings.name, {"units": counts})]

    def _alarm(self, arm: str, metric: Metric, test: WorseTest, roll_back: bool) -> RolloutNotice:
        control, worse = (test.bad[side] / max(test.answers[side], 1) for side in (0, 1))
        self.why = f"{metric} of arm {arm}: {worse:.1%} against {control:.1%} of control"
        self.rolled_back = self.rolled_back or roll_back
        event = "experiment_rolled_back" if roll_back else "experiment_guard_alarm"
        return RolloutNotice(
            event, self.settings.name, {"arm": arm, "metric": metric, "arm_rate": worse, "control": control}
        )

    def view(self) -> ExperimentView:
        return ExperimentView(
            self.rolled_back,
            self.why,
            self.ratio_off,
            {
                name: ArmView(
                    arm.requests,
                    arm.units,
                    {metric: (bad, count) for metric, (bad, count) in arm.counts.items()},
                    {metric: test.highest_log_e for (other, metric), test in self.tests.items() if other == name},
                )
                for name, arm in self.arms.items()
            },
        )


class RolloutState:
    """Mutable; fed by whoever ends a request, read by the router whenever it publishes a load."""

    def __init__(self, settings: Settings, at: float) -> None:
        self._settings = settings
        self._experiments: dict[str, _Experiment] = {}
        self._roll_backs: dict[tuple[str, str], RollBack] = {}
        """By name and text, of all that were ever rolled back: what comes back as it was stays rolled back."""
        self._news: list[RollBack] = []
        self._steerings: dict[str, BudgetController] = {}
        self._trackers: dict[str, ShareTracker] = {}
        self._holders: dict[str, ShareController] = {}
        self.apply_settings(settings, at)

    def apply_settings(self, settings: Settings, at: float) -> None:
        """Another policy from now on. Experiments and targets that it leaves as they were go on from where they are."""
        before = self._settings
        self._settings = settings
        self._experiments = {
            each.name: kept
            if (kept := self._experiments.get(each.name)) is not None and kept.settings == each
            else _Experiment(each)
            for each in settings.experiments
        }
        self._end_those_rolled_back()
        steerings, trackers, holders = {}, {}, {}
        for name, cascade in settings.cascades.items():
            target, artefact = cascade.target, cascade.defer.artefact
            if target is None or artefact is None or cascade.emit.mode == "verified":
                continue
            same = before.cascades.get(name) == cascade
            if target.budget_per_day is not None:
                kept_budget_controller = self._steerings.get(name)
                if kept_budget_controller is not None and same:
                    steerings[name] = kept_budget_controller
                else:
                    steerings[name] = BudgetController(target.budget_per_day, artefact, at, 0.5, target.burst)
                    if kept_budget_controller is not None:
                        steerings[name].restore(kept_budget_controller.spent)
                continue
            share = target.large_share
            if share is None:
                share = share_for_threshold(artefact, threshold_of(cascade.defer, target))
            kept_tracker = self._trackers.get(name)
            trackers[name] = kept_tracker if kept_tracker is not None and same else ShareTracker(share)
            if target.hold and target.large_share is not None:
                kept_holder = self._holders.get(name)
                holders[name] = kept_holder if kept_holder is not None and same else ShareController(share, artefact)
        self._steerings, self._trackers, self._holders = steerings, trackers, holders

    def restore(self, cascade: str, spent: float) -> None:
        """What a cascade had spent today before this process began."""
        if cascade in self._steerings:
            self._steerings[cascade].restore(spent)

    def restore_roll_backs(self, roll_backs: Iterable[RollBack]) -> tuple[str, ...]:
        """What was rolled back before this process began stays so; which of the present experiments these are."""
        for each in roll_backs:
            self._roll_backs[each.experiment, each.text] = each
        return self._end_those_rolled_back()

    def _end_those_rolled_back(self) -> tuple[str, ...]:
        ended = []
        for name, experiment in self._experiments.items():
            known = self._roll_backs.get((name, experiment.text))
            if known is not None and not experiment.rolled_back:
                experiment.rolled_back, experiment.why = True, known.why
                ended.append(name)
        return tuple(ended)

    def roll_back(self, experiment: str, why: str) -> RollBack | None:
        """End it by hand; what is to be written down. None: there is none of that name."""
        found = self._experiments.get(experiment)
        if found is None:
            return None
        found.rolled_back, found.why = True, why
        return self._note(found)

    def _note(self, experiment: _Experiment) -> RollBack:
        roll_back = RollBack(experiment.settings.name, experiment.text, experiment.why)
        self._roll_backs[roll_back.experiment, roll_back.text] = roll_back
        return roll_back

    def on_start(self, plan: Plan, at: float, most: float) -> float:
        """An answer begins that costs `most` at the worst; what its ending is to give back as `held`."""
        budget_controller = self._steerings.get(plan.cascade.name) if plan.cascade is not None else None
        return 0.0 if budget_controller is None else budget_controller.hold(at, most)

    def on_end(self, plan: Plan, ending: AnswerResult) -> list[RolloutNotice]:
        """One answer's end."""
        notices: list[RolloutNotice] = []
        if plan.experiment and (experiment := self._experiments.get(plan.experiment)) is not None:
            over = experiment.rolled_back
            notices += experiment.on_end(plan.arm, ending)
            if experiment.rolled_back and not over:
                self._news.append(self._note(experiment))
        cascade = plan.cascade
        budget_controller = self._steerings.get(cascade.name) if cascade is not None else None
        if budget_controller is not None:
            budget_controller.pay(ending.at, ending.cost, ending.held)
        if cascade is None or cascade.mode == "verified" or ending.outcome in {"refused", "gone"}:
            return notices
        if budget_controller is not None:
            small, large = (
                cost_of(self._settings.prices.get(stage.to or ""), ending.prompt_tokens, ending.completion_tokens)
                for stage in (cascade.small, cascade.large)
            )
            budget_controller.learn(ending.at, small, large)
        # Arms may have targets of their own: the cascade's is control's.
        if cascade.why == "default" and plan.arm in {"", CONTROL} and cascade.name in self._trackers:
            tracker = self._trackers[cascade.name]
            if tracker.add(ending.escalated):
                view = tracker.view
                event = "cascade_drifted" if view.drifted else "cascade_back_on_target"
                notices.append(RolloutNotice(event, cascade.name, {"target": view.target, "realised": view.realised}))
            if cascade.name in self._holders:
                planned = cascade.threshold if cascade.level is None else cascade.level
                self._holders[cascade.name].add(planned, ending.escalated)
        return notices

    def take_roll_backs(self) -> tuple[RollBack, ...]:
        """Those that guards have brought about since the last time: to be written down."""
        news, self._news = tuple(self._news), []
        return news

    def thresholds(self, at: float) -> dict[str, float]:
        """By cascade, where something else holds than the policy's own."""
        steered = {name: budget_controller.update(at) for name, budget_controller in self._steerings.items()}
        return steered | {name: holder.threshold for name, holder in self._holders.items()}

    @property
    def steers(self) -> bool:
        """Whether the next decision's thresholds may differ from the last one's."""
        return bool(self._steerings or self._holders)

    @property
    def rolled_back(self) -> frozenset[str]:
        """Experiments that are over."""
        return frozenset(name for name, each in self._experiments.items() if each.rolled_back)

    def experiments(self) -> dict[str, ExperimentView]:
        """Their state."""
        return {name: each.view() for name, each in self._experiments.items()}

    def cascades(self, at: float) -> dict[str, CascadeView]:
        """Their course at this time: those with a target."""
        self.thresholds(at)
        views = {}
        for name in {*self._steerings, *self._trackers}:
            budget_controller, tracker = self._steerings.get(name), self._trackers.get(name)
            views[name] = CascadeView(
                self._threshold(name),
                tracker.view if tracker is not None else None,
                budget_controller.spent if budget_controller is not None else None,
            )
        return views

    def _threshold(self, cascade: str) -> float:
        mover = self._steerings.get(cascade) or self._holders.get(cascade)
        if mover is not None:
            return mover.threshold
        settings = self._settings.cascades[cascade]
        return threshold_of(settings.defer, settings.target)


def is_bad(metric: Metric, ending: AnswerResult) -> bool | None:
    """Whether this answer counts against its arm; None: it says nothing of the metric."""
    if ending.outcome == "gone":
        return None
    match metric:
        case "error_rate":
            return ending.outcome in {"failed", "refused"}
        case "ttft_miss":
            if ending.ttft_s is None:
                # Nobody ever saw a first token: that is the worst way to miss it.
                return None if ending.outcome == "ok" else True
            return ending.ttft_s > ending.slo_ttft_s
        case "fallback_rate":
            return ending.fell_back
        case "escalation_rate":
            return ending.escalated
        case "truncation_rate":
            return ending.truncated
