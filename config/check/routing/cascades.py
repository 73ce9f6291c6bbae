"""Checks cascades: their two stages, the deferral rule, `when_busy`, `emit`, and the calibration with its models."""

import datetime as dt

from config.check.names import emitting, known, known_adapter, known_rung, rungs_of
from config.model.calibration import Calibration
from config.model.conditions import SignalSettings
from config.model.routing import TARGETS, CascadeSettings, Defer, Emit, Target
from config.model.settings import Settings
from config.model_digest import served_digest
from config.problems.problems import Problems
from config.problems.source_map import Path

_STAGES = 2


def check_cascades(settings: Settings, problems: Problems, today: dt.date | None) -> None:
    """With `today`, warn about stale calibrations."""
    rungs = set(rungs_of(settings))
    for name, cascade in settings.cascades.items():
        path: Path = ("cascades", name)
        if len(cascade.stages) != _STAGES:
            problems.add((*path, "stages"), f"got {len(cascade.stages)}", expected="exactly two rungs, smallest first")
        elif cascade.stages[0] == cascade.stages[1]:
            problems.add((*path, "stages", 1), "both stages are the same rung", expected="two different rungs")
        for index, stage in enumerate(cascade.stages):
            known_rung(settings, (*path, "stages", index), stage, problems)
        all_stages = all(stage in rungs for stage in cascade.stages)
        for stage, adapter in cascade.adapters.items():
            if stage not in cascade.stages:
                if not all_stages:
                    continue  # the unknown stage was reported
                problems.unknown_name((*path, "adapters", stage), "stage", stage, cascade.stages)
            else:
                known_adapter(settings, (*path, "adapters", stage), stage, adapter, problems)
        known(settings, (*path, "on_failure"), "ladder", cascade.on_failure, problems)
        if cascade.when_busy is not None:
            _check_when_busy(settings, (*path, "when_busy"), cascade, problems)
        if cascade.skip_to_large == SignalSettings() and not problems.is_broken_below((*path, "skip_to_large")):
            problems.add(
                (*path, "skip_to_large"),
                "the small stage is never used: the condition always holds",
                expected="a condition, or a ladder instead of the cascade",
            )
        _check_decision(settings, path, cascade, problems)
        if cascade.defer.artefact is not None:
            _check_calibration(path, cascade, cascade.defer.artefact, problems, today)


def check_emits(settings: Settings, problems: Problems) -> None:
    for path, cascade in emitting(settings):
        _check_emit(path, cascade, problems)
    for index, route in enumerate(settings.routes):
        if route.emit is None:
            continue
        cascade_used = settings.cascades.get(route.use.cascade or "")
        if route.use.ladder is not None:
            problems.add_at_key(("routes", index, "emit"), "only the answers of a cascade have an emit mode")
        elif (
            cascade_used is not None
            and route.emit.mode != "verified"
            and cascade_used.emit.mode == "verified"
            and cascade_used.defer == Defer()
        ):
            problems.add(
                ("routes", index, "emit", "mode"),
                f"no threshold decides when the small answer of '{route.use.cascade}' is escalated",
                expected="a threshold, or a calibration and a target, in its `defer`",
            )


def _check_decision(settings: Settings, path: Path, cascade: CascadeSettings, problems: Problems) -> None:
    """Check that there is a threshold, or a calibration with one target. Mode "verified" needs neither."""
    defer, target = cascade.defer, cascade.target
    if target is not None:
        _check_target(settings, path, cascade, target, problems)
    emits = [route.emit for route in settings.routes if route.use.cascade == path[-1]]
    if cascade.emit.mode == "verified" and all(emit is None or emit.mode == "verified" for emit in emits):
        for place, given in ((("defer",), defer != Defer()), (("target",), target is not None)):
            if given:
                problems.warn_at_key(
                    (*path, *place), 'this has no effect: in mode "verified" the large stage verifies every token'
                )
        return
    if cascade.emit.mode == "verified" and defer == Defer():
        return  # reported at the route that emits it in another mode
    if defer.threshold is not None and defer.calibration is not None:
        problems.add_at_key(
            (*path, "defer", "threshold"),
            "there is a calibration, too",
            expected="a threshold, or a calibration and a target, not both",
        )
    elif defer.threshold is not None and target is not None:
        problems.add_at_key(
            (*path, "target"),
            "a target needs a calibration, and there is a threshold",
            expected="defer = { calibration = ... } made by `penstock policy calibrate`, or no target",
        )
    elif target is not None and defer.calibration is None and cascade.judge is not None:
        problems.add_at_key(
            (*path, "target"),
            "a target needs a calibration, and there is none: the judge decides alone",
            expected="defer = { calibration = ... } made by `penstock policy calibrate`, or no target",
        )
    elif defer.threshold is None and defer.calibration is None and cascade.judge is None:
        problems.add_at_key(
            (*path, "defer"),
            "no threshold decides when the small answer is escalated",
            expected="defer = { calibration = ... } and a target, or defer = { threshold = ... }, or a judge",
        )
    elif defer.calibration is not None and target is None:
        problems.add_at_key(
            (*path, "defer", "calibration"),
            "a calibration needs a target",
            expected=f"target = {{ ... }} with one of: {', '.join(TARGETS)}",
        )


def _check_target(settings: Settings, path: Path, cascade: CascadeSettings, target: Target, problems: Problems) -> None:
    given = [word for word in TARGETS if getattr(target, word) is not None]
    if len(given) != 1:
        got = f"{' and '.join(given)} are given" if given else "none is given"
        problems.add((*path, "target"), f"a target is exactly one of {', '.join(TARGETS)}; {got}")
    usual = Target()
    for word, wanted in (("hold", "large_share"), ("burst", "budget_per_day")):
        if getattr(target, word) != getattr(usual, word) and getattr(target, wanted) is None:
            problems.add_at_key(
                (*path, "target", word),
                f"it belongs to {wanted}, which is not the target",
                expected=f"a target with {wanted}, or no `{word}`",
            )
    if target.budget_per_day is not None:
        prices = [settings.prices.get(stage) for stage in cascade.stages]
        if all(price is None or price.input + price.output == 0 for price in prices):
            problems.add(
                (*path, "target", "budget_per_day"),
                "no money is ever spent: neither stage has a price",
                expected=f"[prices] for {' and '.join(cascade.stages)}",
            )
        elif None in prices:
            free = cascade.stages[prices.index(None)]
            problems.warn(
                (*path, "target", "budget_per_day"),
                f"'{free}' has no price and counts as free",
                expected="one in [prices]",
            )


def _check_emit(path: Path, cascade: CascadeSettings, problems: Problems) -> None:
    emit, usual = cascade.emit, Emit()
    for word, mode in (("window", "window"), ("draft_tokens", "verified"), ("off_above_batch", "verified")):
        if getattr(emit, word) != getattr(usual, word) and emit.mode != mode:
            problems.warn_at_key(
                (*path, "emit", word), f'this has no effect in mode "{emit.mode}"', expected=f'mode = "{mode}"'
            )
    if cascade.judge is not None and emit.mode != "gate":
        problems.add(
            (*path, "emit", "mode"),
            f'the judge reads an answer when it is whole, and in mode "{emit.mode}" the client has a part by then',
            expected='mode = "gate", or no judge',
        )


def _check_when_busy(settings: Settings, path: Path, cascade: CascadeSettings, problems: Problems) -> None:
    busy = cascade.when_busy
    assert busy is not None
    if busy.stay_on not in cascade.stages and set(cascade.stages) <= set(rungs_of(settings)):
        problems.unknown_name((*path, "stay_on"), "stage", busy.stay_on, cascade.stages)
    if not known(settings, (*path, "signal"), "signal", busy.signal, problems):
        return
    if problems.is_touched(("signals", busy.signal)):
        return
    signal = settings.signals[busy.signal]
    load = signal.load
    given = [bounds for bounds in (load.queue_wait_over_slo, load.kv_usage) if bounds is not None] if load else []
    if (
        signal != SignalSettings(load=load)
        or (load is not None and load.breaker)
        or len(given) != 1
        or given[0].at_least is None
        or given[0].below is not None
    ):
        problems.add(
            (*path, "signal"),
            f"the signal '{busy.signal}' is not exactly one measure of the load",
            expected="a signal that is `load = { of = ..., MEASURE = { at_least = ... } }` and nothing else",
        )
    elif busy.release_at > given[0].at_least:
        problems.add(
            (*path, "release_at"),
            f"{busy.release_at:g} is above the signal's at_least, {given[0].at_least:g}",
            expected="a lower value, so that the cascade does not switch back and forth",
        )


def _check_calibration(
    path: Path, cascade: CascadeSettings, calibration: Calibration, problems: Problems, today: dt.date | None
) -> None:
    defer, target = cascade.defer, cascade.target
    place: Path = (*path, "defer", "calibration")
    if len(cascade.stages) == _STAGES and (calibration.small, calibration.large) != cascade.stages:
        problems.add(
            place,
            f"it was made for the stages {calibration.small} and {calibration.large}",
            expected=f"one that `penstock policy calibrate` made for {' and '.join(cascade.stages)}",
        )
    if calibration.statistic != defer.statistic:
        problems.add(
            (*path, "defer", "statistic"),
            f'the calibration "{calibration.name}" was made for "{calibration.statistic}", not "{defer.statistic}"',
            expected=f'statistic = "{calibration.statistic}", or another calibration',
            suggestion=calibration.statistic,
        )
    if today is not None:
        age = (today - calibration.created).days
        if age * 86_400 > defer.stale_after:
            problems.warn(
                place,
                f"it is {age} days old, older than stale_after ({defer.stale_after / 86_400:g} days)",
                expected="a new one: `penstock policy calibrate`",
            )
    if target is not None and target.large_share is not None:
        lowest, highest = calibration.rows[0].large_share, calibration.rows[-1].large_share
        if not lowest <= target.large_share <= highest:
            problems.warn(
                (*path, "target", "large_share"),
                f"the calibration reaches from {lowest:g} to {highest:g} only",
                expected="a share within that, or another calibration",
            )


def check_calibrated_weights(settings: Settings, problems: Problems) -> None:
    """Compare the digests in the calibrations with those of the models' files, where both exist."""
    digests: dict[str, str | None] = {}
    for name, cascade in settings.cascades.items():
        made = cascade.defer.artefact
        if made is None or (made.small, made.large) != cascade.stages:
            continue  # reported by `check_cascades`
        for stage, expected in zip(cascade.stages, (made.small_digest, made.large_digest), strict=True):
            if not expected or stage not in settings.engines:
                continue
            if stage not in digests:
                try:
                    digests[stage] = served_digest(settings.engines[stage])
                except OSError:
                    digests[stage] = None  # reported by `config.check.engines`
            digest = digests[stage]
            if digest is not None and digest != expected:
                problems.add(
                    ("cascades", name, "defer", "calibration"),
                    f"the calibration \"{made.name}\" was made for other weights of '{stage}' than those in "
                    f"{settings.engines[stage].model}",
                    expected=f"one for these weights: `penstock policy calibrate --cascade {name}`",
                )
