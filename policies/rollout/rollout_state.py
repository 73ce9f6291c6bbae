"""The state of experiments, targets and budgets, updated with the result of every answer.

It provides the current thresholds of cascades, the experiments that were rolled back, and notices for operators.
"""

from collections.abc import Iterable, Mapping

import msgspec

from config.model.rollout import CONTROL, ExperimentSettings, Metric
from config.model.settings import Settings
from policies.admission.prices import cost_of
from policies.cascade.calibration import share_for_threshold, threshold_of
from policies.model.plan import Plan
from policies.rollout.budget_controller import BudgetController
from policies.rollout.experiment import RollBack, settings_digest
from policies.rollout.guard import SampleRatioTest, WorseTest
from policies.rollout.share_controller import ShareController, ShareTracker, ShareView

_MAX_UNITS = 100_000
"""Distinct units remembered per experiment; later ones are not counted for the sample ratio."""


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
    """It ended because of a token limit."""
    ttft_s: float | None
    """Time to the first content, whether streamed or not. None: there was none."""
    slo_ttft_s: float
    unit: str = ""
    cost: float = 0.0
    held: float = 0.0
    """What `RolloutState.on_start` returned for it."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class RolloutNotice(msgspec.Struct, frozen=True):
    """An event for the log and the metrics."""

    event: str
    """Its name: "cascade_drifted", "cascade_back_on_target", "experiment_rolled_back", ..."""
    subject: str
    """The cascade or experiment."""
    details: Mapping[str, object]


class ArmView(msgspec.Struct, frozen=True):
    """Figures of one arm."""

    requests: int
    units: int
    metrics: Mapping[str, tuple[int, int]]
    """(bad answers, answers), by metric."""
    evidence: Mapping[str, float]
    """By metric: the logarithm of the highest e-value against control so far."""


class ExperimentView(msgspec.Struct, frozen=True):
    """The state of one experiment."""

    rolled_back: bool
    why: str
    sample_ratio_off: bool
    arms: Mapping[str, ArmView]


class CascadeView(msgspec.Struct, frozen=True):
    """The state of one cascade with a target."""

    threshold: float
    share: ShareView | None
    """None: the target is not a share."""
    spent_today: float | None
    """None: the target is not a budget."""


class _Arm(msgspec.Struct, eq=False):
    requests: int = 0
    units: int = 0
    counts: dict[Metric, list[int]] = {}


class _Experiment:
    def __init__(self, settings: ExperimentSettings) -> None:
        self.settings = settings
        self.text = settings_digest(settings)
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

    def on_end(self, arm: str, result: AnswerResult) -> list[RolloutNotice]:
        counters = self.arms.get(arm)
        if counters is None or self.rolled_back:
            return []
        counters.requests += 1
        notices = self._count_unit(arm, counters, result)
        guard = self.settings.guard
        if guard is None:
            return notices
        alpha = guard.alpha / max(len(self.tests), 1)
        for metric in guard.metrics:
            bad = is_bad(metric, result)
            if bad is None:
                continue
            counts = counters.counts.setdefault(metric, [0, 0])
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

    def _count_unit(self, arm: str, counters: _Arm, result: AnswerResult) -> list[RolloutNotice]:
        if result.unit in self._units or len(self._units) >= _MAX_UNITS:
            return []
        if result.unit:
            self._units.add(result.unit)
        counters.units += 1
        self.ratio.add(arm)
        if self.ratio_off or not self.ratio.rejects(self.settings.sample_ratio_alpha):
            return []
        self.ratio_off = True
        return [RolloutNotice("experiment_sample_ratio_off", self.settings.name, {"units": dict(self.ratio.counts)})]

    def _alarm(self, arm: str, metric: Metric, test: WorseTest, roll_back: bool) -> RolloutNotice:
        control, worse = (test.bad[side] / max(test.answers[side], 1) for side in (0, 1))
        self.why = f"{metric} of arm {arm}: {worse:.1%} against {control:.1%} of control"
        self.rolled_back = self.rolled_back or roll_back
        event = "experiment_rolled_back" if roll_back else "experiment_guard_alarm"
        details = {"arm": arm, "metric": metric, "arm_rate": worse, "control": control}
        return RolloutNotice(event, self.settings.name, details)

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
    """State of all experiments and cascades. Mutable; requests update it at their end, the router reads it."""

    def __init__(self, settings: Settings, at: float) -> None:
        self._settings = settings
        self._experiments: dict[str, _Experiment] = {}
        self._roll_backs: dict[tuple[str, str], RollBack] = {}
        """By name and digest, all roll-backs so far: an experiment that is removed and added again stays ended."""
        self._new_roll_backs: list[RollBack] = []
        self._budget_controllers: dict[str, BudgetController] = {}
        self._trackers: dict[str, ShareTracker] = {}
        self._share_controllers: dict[str, ShareController] = {}
        self.apply_settings(settings, at)

    def apply_settings(self, settings: Settings, at: float) -> None:
        """Replace the settings. Unchanged experiments and targets keep their state."""
        before = self._settings
        self._settings = settings
        self._experiments = {
            experiment.name: kept
            if (kept := self._experiments.get(experiment.name)) is not None and kept.settings == experiment
            else _Experiment(experiment)
            for experiment in settings.experiments
        }
        self._apply_roll_backs()
        budget_controllers, trackers, share_controllers = {}, {}, {}
        for name, cascade in settings.cascades.items():
            target, artefact = cascade.target, cascade.defer.artefact
            if target is None or artefact is None or cascade.emit.mode == "verified":
                continue
            same = before.cascades.get(name) == cascade
            if target.budget_per_day is not None:
                controller = self._budget_controllers.get(name)
                if controller is None or not same:
                    spent = 0.0 if controller is None else controller.spent
                    controller = BudgetController(target.budget_per_day, artefact, at, 0.5, target.burst)
                    controller.restore(spent)
                budget_controllers[name] = controller
                continue
            share = target.large_share
            if share is None:
                share = share_for_threshold(artefact, threshold_of(cascade.defer, target))
            trackers[name] = (self._trackers.get(name) if same else None) or ShareTracker(share)
            if target.hold and target.large_share is not None:
                share_controller = self._share_controllers.get(name) if same else None
                share_controllers[name] = share_controller or ShareController(share, artefact)
        self._budget_controllers, self._trackers = budget_controllers, trackers
        self._share_controllers = share_controllers

    def restore(self, cascade: str, spent: float) -> None:
        """Add what a cascade spent today before this process started."""
        if cascade in self._budget_controllers:
            self._budget_controllers[cascade].restore(spent)

    def restore_roll_backs(self, roll_backs: Iterable[RollBack]) -> tuple[str, ...]:
        """Apply roll-backs from before this process started. Returns the current experiments that they end."""
        for roll_back in roll_backs:
            self._roll_backs[roll_back.experiment, roll_back.text] = roll_back
        return self._apply_roll_backs()

    def _apply_roll_backs(self) -> tuple[str, ...]:
        ended = []
        for name, experiment in self._experiments.items():
            known = self._roll_backs.get((name, experiment.text))
            if known is not None and not experiment.rolled_back:
                experiment.rolled_back, experiment.why = True, known.why
                ended.append(name)
        return tuple(ended)

    def roll_back(self, name: str, why: str) -> RollBack | None:
        """End an experiment by hand. Returns the roll-back to persist; None if there is no experiment of this name."""
        experiment = self._experiments.get(name)
        if experiment is None:
            return None
        experiment.rolled_back, experiment.why = True, why
        return self._record_roll_back(experiment)

    def _record_roll_back(self, experiment: _Experiment) -> RollBack:
        roll_back = RollBack(experiment.settings.name, experiment.text, experiment.why)
        self._roll_backs[roll_back.experiment, roll_back.text] = roll_back
        return roll_back

    def on_start(self, plan: Plan, at: float, max_cost: float) -> float:
        """Count a starting answer of at most this cost. Returns the value for `AnswerResult.held` at its end."""
        controller = self._budget_controllers.get(plan.cascade.name) if plan.cascade is not None else None
        return 0.0 if controller is None else controller.hold(at, max_cost)

    def on_end(self, plan: Plan, result: AnswerResult) -> list[RolloutNotice]:
        notices: list[RolloutNotice] = []
        if plan.experiment and (experiment := self._experiments.get(plan.experiment)) is not None:
            was_rolled_back = experiment.rolled_back
            notices += experiment.on_end(plan.arm, result)
            if experiment.rolled_back and not was_rolled_back:
                self._new_roll_backs.append(self._record_roll_back(experiment))
        cascade = plan.cascade
        controller = self._budget_controllers.get(cascade.name) if cascade is not None else None
        if controller is not None:
            controller.pay(result.at, result.cost, result.held)
        if cascade is None or cascade.mode == "verified" or result.outcome in {"refused", "gone"}:
            return notices
        if controller is not None:
            small, large = (
                cost_of(self._settings.prices.get(stage.to or ""), result.prompt_tokens, result.completion_tokens)
                for stage in (cascade.small, cascade.large)
            )
            controller.learn(result.at, small, large)
        # Other arms may override the target, so only control counts towards the cascade's own.
        if cascade.why == "default" and plan.arm in {"", CONTROL} and cascade.name in self._trackers:
            tracker = self._trackers[cascade.name]
            if tracker.add(result.escalated):
                view = tracker.view
                event = "cascade_drifted" if view.drifted else "cascade_back_on_target"
                notices.append(RolloutNotice(event, cascade.name, {"target": view.target, "realised": view.realised}))
            if cascade.name in self._share_controllers:
                planned = cascade.threshold if cascade.level is None else cascade.level
                self._share_controllers[cascade.name].add(planned, result.escalated)
        return notices

    def take_roll_backs(self) -> tuple[RollBack, ...]:
        """Roll-backs by guards since the last call, to be persisted."""
        new, self._new_roll_backs = tuple(self._new_roll_backs), []
        return new

    def thresholds(self, at: float) -> dict[str, float]:
        """By cascade, for those whose threshold a controller moves."""
        by_budget = {name: controller.update(at) for name, controller in self._budget_controllers.items()}
        return by_budget | {name: controller.threshold for name, controller in self._share_controllers.items()}

    @property
    def steers(self) -> bool:
        """Whether a controller may change thresholds between two decisions."""
        return bool(self._budget_controllers or self._share_controllers)

    @property
    def rolled_back(self) -> frozenset[str]:
        return frozenset(name for name, experiment in self._experiments.items() if experiment.rolled_back)

    def experiments(self) -> dict[str, ExperimentView]:
        return {name: experiment.view() for name, experiment in self._experiments.items()}

    def cascades(self, at: float) -> dict[str, CascadeView]:
        """By name, for cascades with a target, at this time."""
        self.thresholds(at)
        views = {}
        for name in {*self._budget_controllers, *self._trackers}:
            controller, tracker = self._budget_controllers.get(name), self._trackers.get(name)
            views[name] = CascadeView(
                self._threshold(name),
                tracker.view if tracker is not None else None,
                controller.spent if controller is not None else None,
            )
        return views

    def _threshold(self, cascade: str) -> float:
        controller = self._budget_controllers.get(cascade) or self._share_controllers.get(cascade)
        if controller is not None:
            return controller.threshold
        settings = self._settings.cascades[cascade]
        return threshold_of(settings.defer, settings.target)


def is_bad(metric: Metric, result: AnswerResult) -> bool | None:
    """Whether this answer counts against its arm; None if the metric does not apply to it."""
    if result.outcome == "gone":
        return None
    match metric:
        case "error_rate":
            return result.outcome in {"failed", "refused"}
        case "ttft_miss":
            if result.ttft_s is None:
                # A request that ended without any content missed its objective, unless that was a regular end.
                return None if result.outcome == "ok" else True
            return result.ttft_s > result.slo_ttft_s
        case "fallback_rate":
            return result.fell_back
        case "escalation_rate":
            return result.escalated
        case "truncation_rate":
            return result.truncated
