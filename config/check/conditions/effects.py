"""Warns about valid settings that have no effect or refuse every request, and about definitions without a use."""

from collections.abc import Iterator

from config.check.conditions.space import located, nested
from config.check.names import flat, ladder_of, reached_rungs
from config.model.conditions import SignalSettings
from config.model.media import MEDIA
from config.model.rollout import ExperimentSettings
from config.model.routing import BreakerSettings, Caps, RouteSettings
from config.model.settings import Settings
from config.model.upstreams import TAKING
from config.parse.override import steps_of
from config.problems.problems import Problems
from config.problems.source_map import Path

_MIN_TOKENS = 64
"""A chat of a few words with its template and a short answer needs this many: a smaller limit refuses everything."""
_MIN_BYTES = 64
_MIN_PROMPTS = 50
_MIN_PROMPTS_BY_WORDS = 300
"""Prompts that a calibration with a prompt model needs."""
_MAX_REQUESTS_PER_S = 200
"""The highest request rate that one rung may be expected to have."""


def check_effects(settings: Settings, problems: Problems) -> None:
    """Report warnings only, and only about places without errors."""
    for check in (_check_bounds, _check_values, _check_calibrations, _check_rungs, _check_routes, _check_experiments):
        check(settings, problems)


def _check_bounds(settings: Settings, problems: Problems) -> None:
    """Limits that are smaller than any request."""
    what = "a short chat with its answer needs more, so every request is refused"
    for name, tier in settings.tiers.items():
        path: Path = ("tiers", name, "queue")
        if tier.queue.tokens < _MIN_TOKENS:
            problems.warn(
                (*path, "tokens"),
                f"{tier.queue.tokens} tokens in the queue at the most: {what}",
                expected=f"at least {_MIN_TOKENS}, and room for the longest prompt with its max_tokens",
            )
        if tier.queue.bytes < _MIN_BYTES:
            problems.warn((*path, "bytes"), f"{tier.queue.bytes} bytes in the queue at the most: {what}")
    for name, tenant in settings.tenants.items():
        for word, quota in (("per_minute", tenant.tokens.per_minute), ("per_day", tenant.tokens.per_day)):
            if quota is not None and quota < _MIN_TOKENS:
                problems.warn(
                    ("tenants", name, "tokens", word),
                    f"{quota} tokens are less than one request needs: {what}",
                    expected=f"at least {_MIN_TOKENS}, and more than the longest prompt with its max_tokens",
                )


def _check_values(settings: Settings, problems: Problems) -> None:
    has_budget = any(tenant.budget is not None for tenant in settings.tenants.values())
    for path, whole in located(settings):
        for place, when in nested(path, whole):
            for values_path, value in _exact_values(place, when):
                if any(sign in value for sign in "*?") or value.startswith("^") or value.endswith("$"):
                    problems.warn(
                        values_path,
                        f"'{value}' looks like a pattern, but is compared literally",
                        expected="each value in full",
                    )
                elif value != value.strip():
                    problems.warn(values_path, f"no request has '{value}': spaces around a value are cut off")
            if when.budget_used is not None and not has_budget and not problems.is_touched(("tenants",)):
                problems.warn_at_key((*place, "budget_used"), "no tenant has a budget: this is always 0")


def _exact_values(path: Path, when: SignalSettings) -> Iterator[tuple[Path, str]]:
    for index, tag in enumerate(when.tag):
        yield (*path, "tag", index), tag
    for name, values in when.header.items():
        for index, value in enumerate(values):
            yield (*path, "header", name, index), value


def _check_calibrations(settings: Settings, problems: Problems) -> None:
    for name, cascade in settings.cascades.items():
        calibration = cascade.defer.artefact
        if calibration is None:
            continue
        min_prompts = _MIN_PROMPTS if calibration.prompt is None else _MIN_PROMPTS_BY_WORDS
        if calibration.data.prompts < min_prompts:
            how = "" if calibration.prompt is None else " and looks at their words"
            problems.warn(
                ("cascades", name, "defer", "calibration"),
                f"it was made from {calibration.data.prompts} prompts{how}, too few for reliable thresholds",
                expected=f"one from at least {min_prompts} prompts",
            )


def _check_rungs(settings: Settings, problems: Problems) -> None:
    """Settings of engines and rungs that other settings make ineffective."""
    for name, engine in settings.engines.items():
        if engine.kv.swap and engine.device == "cpu" and not engine.devices:
            problems.warn(
                ("engines", name, "kv", "swap"), "this has no effect on a CPU: blocks are in host memory anyway"
            )
    retries = settings.retry_budget
    for name, ladder in settings.ladders.items():
        for index, rung in enumerate(ladder):
            path: Path = ("ladders", name, index)
            if rung.retries and not retries.share and not retries.at_least:
                problems.warn_at_key((*path, "retries"), "nothing is ever retried: the retry budget is 0")
            if rung.breaker.slow_after is None and rung.breaker.slow_rate != BreakerSettings().slow_rate:
                problems.warn(
                    (*path, "breaker", "slow_rate"),
                    "this has no effect without slow_after: no answer counts as slow",
                    expected='a time such as slow_after = "3s" beside it',
                )
            if rung.breaker.at_least / rung.breaker.over > _MAX_REQUESTS_PER_S:
                problems.warn(
                    (*path, "breaker", "at_least"),
                    f"it can open only after {rung.breaker.at_least} requests within {rung.breaker.over:g} s",
                    expected="fewer requests, or a longer time",
                )


def _check_media(settings: Settings, index: int, route: RouteSettings, problems: Problems) -> None:
    """Warn about a route for images, sounds or files all of whose rungs take none."""
    asked = [medium for medium in MEDIA if medium in route.when.has]
    if not asked or len(asked) < len(route.when.has):
        return
    upstreams = [settings.upstreams.get(rung) for rung in reached_rungs(settings, route)]
    if any(upstream is not None and medium in upstream.takes for upstream in upstreams for medium in asked):
        return
    words = ", ".join([f'"{TAKING[medium]}"' for medium in asked])
    problems.warn(
        ("routes", index, "when", "has"),
        f"no rung of the route takes {', '.join(asked)}: every request is refused",
        expected=f"an upstream with supports = [{words}]",
    )


def _check_routes(settings: Settings, problems: Problems) -> None:
    if problems.is_touched(("routes",)):
        return
    for index, route in enumerate(settings.routes):
        _check_media(settings, index, route, problems)
        path: Path = ("routes", index, "caps", "output_tokens")
        cap, busy_cap = route.caps.output_tokens, route.caps.busy_output_tokens
        if busy_cap is None and route.caps.busy_at != Caps().busy_at:
            problems.warn(
                ("routes", index, "caps", "busy_at"),
                "this has no effect without busy_output_tokens",
                expected="a number of tokens, such as busy_output_tokens = 256, beside it",
            )
        if cap is not None and busy_cap is not None and busy_cap >= cap:
            problems.warn(
                ("routes", index, "caps", "busy_output_tokens"),
                f"a cap of {busy_cap} tokens has no effect beside output_tokens = {cap}",
                expected=f"less than {cap}",
            )
        thought = route.caps.reasoning_tokens
        if cap is not None and thought is not None and thought >= cap:
            problems.warn(
                ("routes", index, "caps", "reasoning_tokens"),
                f"a cap of {thought} tokens has no effect beside output_tokens = {cap}",
                expected=f"less than {cap}",
            )
        if cap is None:
            continue
        longest = [_longest(settings, rung) for rung in reached_rungs(settings, route)]
        known = [length for length in longest if length is not None]
        if known and len(known) == len(longest) and cap >= max(known):
            problems.warn(
                path,
                f"a cap of {cap} tokens has no effect: no rung of the route holds more than {max(known)}",
                expected=f"less than {max(known)}",
            )
        cascade = settings.cascades.get(route.use.cascade or "")
        emit = route.emit or (cascade.emit if cascade is not None else None)
        if emit is not None and emit.mode == "window" and cap <= emit.window:
            problems.warn(
                path,
                f"answers of at most {cap} tokens end within the window of {emit.window}: nothing is shown early",
                expected='a smaller window, or mode = "gate"',
            )


def _longest(settings: Settings, rung: str) -> int | None:
    if rung in settings.engines:
        return settings.engines[rung].max_model_len
    return settings.upstreams[rung].context if rung in settings.upstreams else None


def _check_experiments(settings: Settings, problems: Problems) -> None:
    routes = {route.name: route for route in settings.routes}
    for index, experiment in enumerate(settings.experiments):
        path: Path = ("experiments", index)
        used = [routes[name] for name in experiment.route if name in routes]
        if problems.is_touched(path) or len(used) < len(experiment.route):
            continue
        if experiment.unit == "tenant" and len(settings.tenants) < len(experiment.arms):
            count = max(len(settings.tenants), 1)
            problems.warn(
                (*path, "unit"),
                f"{count} tenant{'s' if count > 1 else ''} cannot be split into {len(experiment.arms)} arms: "
                "some arm gets no request",
                expected='unit = "user", "conversation" or "request"',
            )
        _check_overrides(settings, path, experiment, used, problems)
        if experiment.guard is not None:
            for number, metric in enumerate(experiment.guard.metrics):
                reason = _why_no_evidence(settings, experiment, used, metric)
                if reason:
                    problems.warn(
                        (*path, "guard", "metrics", number),
                        f"the guard never has evidence of '{metric}': {reason}",
                        expected="another metric",
                    )


def _check_overrides(
    settings: Settings, path: Path, experiment: ExperimentSettings, routes: list[RouteSettings], problems: Problems
) -> None:
    for arm, overrides in experiment.override.items():
        words = {str(value) for value in overrides.values()}
        cascades = {route.use.cascade for route in routes} | words
        ladders: set[str] = set(words)
        for route in routes:
            list(flat(settings, ladder_of(settings, route) or "", ladders))
        for name in words & settings.cascades.keys():
            list(flat(settings, settings.cascades[name].on_failure, ladders))
        for key in overrides:
            match steps_of(key):
                case ["cascades", name, *_] if name not in cascades:
                    kind = "cascade"
                case ["ladders", name, *_] if name not in ladders:
                    kind = "ladder"
                case _:
                    continue
            problems.warn_at_key(
                (*path, "override", arm, key),
                f"the arm '{arm}' changes the {kind} '{name}', which no route of the experiment uses",
                expected=f"a {kind} that is used by {', '.join(experiment.route)}",
            )


def _why_no_evidence(
    settings: Settings, experiment: ExperimentSettings, routes: list[RouteSettings], metric: str
) -> str:
    if any(key.endswith(".use") or ".use." in key for keys in experiment.override.values() for key in keys):
        return ""
    if metric == "escalation_rate" and all(route.use.cascade is None for route in routes):
        return "no route of the experiment uses a cascade"
    if metric == "fallback_rate" and all(len(reached_rungs(settings, route)) < 2 for route in routes):
        return "there is no second rung on its routes"
    return ""


def check_usage(settings: Settings, problems: Problems) -> None:
    """Report unused engines, upstreams, ladders, cascades and signals, if these tables have no errors."""
    rungs: set[str] = {shadow.to for shadow in settings.shadows}
    ladders: set[str] = set()
    for route in settings.routes:
        rungs |= set(reached_rungs(settings, route))
        ladder = ladder_of(settings, route)
        if ladder is not None:
            ladders |= {ladder, *(str(path[1]) for path, _ in flat(settings, ladder))}
    # A definition may be used by an experiment's arm only.
    in_arms = {word for experiment in settings.experiments for word in _words(experiment.override)}
    rungs |= in_arms
    ladders |= in_arms
    signals = {used for path, whole in located(settings) for _, when in nested(path, whole) for used in when.signal}
    signals |= {cascade.when_busy.signal for cascade in settings.cascades.values() if cascade.when_busy is not None}
    cascades = {route.use.cascade for route in settings.routes}
    cascades |= in_arms
    tables: tuple[tuple[str, str, set[str]], ...] = (
        ("engines", "engine", rungs),
        ("upstreams", "upstream", rungs),
        ("ladders", "ladder", ladders),
        ("cascades", "cascade", {name for name in cascades if name is not None}),
        ("signals", "signal", signals),
    )
    if any(problems.is_touched((table,)) for table, _, _ in tables) or problems.is_touched(("routes",)):
        return
    for table, kind, used in tables:
        for name in getattr(settings, table):
            if name not in used:
                problems.warn_at_key((table, name), f"nothing uses the {kind} '{name}'")


def _words(value: object) -> Iterator[str]:
    """All strings in an override, and all steps of its dotted keys."""
    match value:
        case str():
            yield value
        case dict():
            for key, inner in value.items():
                yield from steps_of(key)
                yield from _words(inner)
        case list():
            for inner in value:
                yield from _words(inner)
