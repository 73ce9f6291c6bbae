"""From a request's features and the live load to a plan: what will be tried, in which order, until when, and why."""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from config.settings import BreakerSettings, CascadeSettings, RouteSettings, RungSettings, Settings, SignalSettings
from policies.features import Features
from policies.load import Load
from policies.match import Matcher, Test, compile_routes, condition_compiler

Midstream = Literal["error", "continue", "restart"]


class PlannedRung(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One rung: an engine (`to`) or a static answer, exactly one of them."""

    to: str | None = None
    answer: str | None = None
    ttft_s: float | None = None
    """For an attempt on this rung; None: whatever the plan still allows."""
    retries: int = 0
    mark: str | None = None
    tokenizer: str = ""
    """Two rungs with equal, non-empty values have the same tokenizer."""


class PlannedCascade(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Small first, large if the small one is probably wrong; each stage without retries of its own."""

    small: PlannedRung
    large: PlannedRung
    threshold: float
    """Nats."""
    mode: Literal["gate", "window"]
    window: int
    """Tokens held back in mode "window"."""
    start_on: Literal["small", "large"]
    may_escalate: bool
    """False: what the small model says is taken unseen (`when_busy`), and nothing is held back."""
    why: str
    """Of `start_on` and `may_escalate`, a short stable word: "default", "asked_large", "busy", "small_unavailable"."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was decided before the first token. `str(plan)` prints it."""

    route: str
    rungs: tuple[PlannedRung, ...]
    """The ladder; with a cascade, the ladder that takes over when a stage cannot serve."""
    cascade: PlannedCascade | None
    ttft_at: float
    """First content is due; for the climb as a whole."""
    total_at: float
    stall_s: float
    """Between two tokens."""
    output_cap: int | None
    """Output tokens of a choice at the most, by the route."""
    midstream: Midstream
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"route {self.route}", *(f"  because {reason}" for reason in self.reasons)]
        if self.cascade is not None:
            cascade = self.cascade
            lines.append(
                f"  cascade {cascade.small.to} → {cascade.large.to}: starts on {cascade.start_on} ({cascade.why}), "
                f"{cascade.mode}, escalates below {cascade.threshold:g} nats"
                + ("" if cascade.may_escalate else ", does not escalate")
            )
        for number, rung in enumerate(self.rungs, 1):
            what = rung.to if rung.to is not None else f"answer {rung.answer!r}"
            extras = [f"ttft {rung.ttft_s:g} s"] if rung.ttft_s is not None else []
            extras += [f"{rung.retries} retries"] if rung.retries else []
            extras += [f"marked {rung.mark}"] if rung.mark else []
            lines.append(f"  rung {number}: {what}" + (f" ({', '.join(extras)})" if extras else ""))
        return "\n".join(lines)


class _CompiledCascade(msgspec.Struct, frozen=True):
    name: str
    settings: CascadeSettings
    small: PlannedRung
    large: PlannedRung
    skip_to_large: Test | None
    same_tokenizer: bool


class _CompiledRoute(msgspec.Struct, frozen=True):
    settings: RouteSettings
    rungs: tuple[PlannedRung, ...]
    cascade: _CompiledCascade | None


class Policy(msgspec.Struct, frozen=True):
    """The settings' decisions, compiled once. Immutable, so the router publishes it as it is."""

    matcher: Matcher
    routes: tuple[_CompiledRoute, ...]
    breakers: Mapping[str, BreakerSettings]
    """One breaker for each engine."""
    digest: str
    """Twelve hex digits of what the file decides; two files that decide the same have the same digest."""

    @classmethod
    def compile(cls, settings: Settings, tokenizers: Mapping[str, str] = MappingProxyType({})) -> "Policy":
        """The policy of checked settings.

        `tokenizers` gives for each engine a digest of its tokenizer. Token ids pass from one engine to another (mode
        "window", `midstream = "continue"`) only between engines whose digests are known and equal: compile again
        when the engines have been loaded.
        """
        compile_condition = condition_compiler(settings)
        ladders = {
            name: tuple(_plan_rung(rung, tokenizers) for rung in rungs) for name, rungs in settings.ladders.items()
        }
        cascades: dict[str, _CompiledCascade] = {}
        for name, given in settings.cascades.items():
            small, large = (PlannedRung(to=stage, tokenizer=tokenizers.get(stage, "")) for stage in given.stages)
            cascades[name] = _CompiledCascade(
                name=name,
                settings=given,
                small=small,
                large=large,
                skip_to_large=compile_condition(given.skip_to_large) if given.skip_to_large is not None else None,
                same_tokenizer=bool(small.tokenizer) and small.tokenizer == large.tokenizer,
            )
        routes = []
        for route in settings.routes:
            cascade = cascades[route.use.cascade] if route.use.cascade is not None else None
            ladder = cascade.settings.on_failure if cascade is not None else route.use.ladder
            assert ladder is not None, "config.check lets exactly one of the two through"
            routes.append(_CompiledRoute(route, ladders[ladder], cascade))
        return cls(compile_routes(settings), tuple(routes), engine_breakers(settings), digest_of(settings))

    def engines_of(self, model: str) -> tuple[str, ...]:
        """All engines that may answer to this name, whatever else is said of the request."""
        names: dict[str, None] = {}
        for route in self.routes:
            when = route.settings.when
            if when.model and model not in when.model:
                continue
            stages = (route.cascade.small, route.cascade.large) if route.cascade is not None else ()
            names |= dict.fromkeys(rung.to for rung in (*stages, *route.rungs) if rung.to is not None)
            if msgspec.structs.replace(when, model=()) == SignalSettings():
                # It takes all that ask for this name.
                break
        return tuple(names)


def engine_breakers(settings: Settings) -> dict[str, BreakerSettings]:
    """The breaker of each engine: what its rungs say, or the default (config.check saw to it that they agree)."""
    breakers = dict.fromkeys(settings.engines, BreakerSettings())
    for ladder in settings.ladders.values():
        for rung in ladder:
            if rung.to is not None and rung.breaker != BreakerSettings():
                breakers[rung.to] = rung.breaker
    return breakers


def digest_of(settings: Settings) -> str:
    """See `Policy.digest`. Comments, owners, addresses and keys do not count."""
    decides = (
        sorted(settings.engines),
        sorted(settings.models),
        settings.tiers,
        settings.tenants,
        settings.signals,
        [msgspec.structs.replace(route, owner="", comment="") for route in settings.routes],
        settings.cascades,
        settings.ladders,
        settings.retry_budget,
    )
    encoded = msgspec.json.encode(decides, enc_hook=_plain, order="deterministic")
    return hashlib.sha256(encoded).hexdigest()[:12]


def make_plan(policy: Policy, features: Features, load: Load, now: float) -> Plan:
    """The plan of a request that arrived at `now`, from which its deadlines count. Raises NoRoute."""
    matched = policy.matcher.match(features, load)
    route = policy.routes[matched.index]
    reasons = matched.reasons
    cascade = None
    if route.cascade is not None:
        cascade, more = _plan_cascade(route.cascade, features, load)
        reasons += more
    deadlines = route.settings.deadlines
    total_at = now + deadlines.total
    return Plan(
        route=matched.route,
        rungs=route.rungs,
        cascade=cascade,
        ttft_at=min(now + deadlines.ttft, total_at),
        total_at=total_at,
        stall_s=float(deadlines.stall),
        output_cap=route.settings.caps.output_tokens,
        midstream=route.settings.midstream,
        reasons=reasons,
    )


def gated(plan: Plan, reason: str) -> Plan:
    """The same, but nothing is released before the cascade has decided: tokens that are out bind the large model."""
    assert plan.cascade is not None
    cascade = msgspec.structs.replace(plan.cascade, mode="gate")
    return msgspec.structs.replace(plan, cascade=cascade, reasons=(*plan.reasons, f"gate instead of window: {reason}"))


def _plan_cascade(compiled: _CompiledCascade, features: Features, load: Load) -> tuple[PlannedCascade, tuple[str, ...]]:
    settings = compiled.settings
    start_on: Literal["small", "large"] = "small"
    may_escalate = True
    why = "default"
    mode = settings.emit.mode
    reasons: tuple[str, ...] = ()
    assert compiled.small.to is not None
    assert compiled.large.to is not None
    if settings.when_busy is not None and (compiled.name, features.tier) in load.busy:
        start_on = "small" if settings.when_busy.stay_on == compiled.small.to else "large"
        may_escalate = False
        why = "busy"
        reasons = (f"signal {settings.when_busy.signal} holds: stays on {settings.when_busy.stay_on}",)
    elif compiled.skip_to_large is not None and compiled.skip_to_large.holds(features, load):
        start_on = "large"
        why = "asked_large"
        reasons = tuple(f"skips to large: {fact}" for fact in compiled.skip_to_large.facts(features, load))
    elif not load.can_serve(compiled.small.to):
        start_on = "large"
        why = "small_unavailable"
        reasons = (f"{compiled.small.to} cannot serve now",)
    if mode == "window" and start_on == "small" and may_escalate:
        # Released tokens bind: without a large model that can go on after them nothing may be released early.
        if not compiled.same_tokenizer:
            mode = "gate"
            reasons += ("gate instead of window: the stages' tokenizers differ or are unknown",)
        elif not load.can_serve(compiled.large.to):
            mode = "gate"
            reasons += (f"gate instead of window: {compiled.large.to} cannot serve now",)
    planned = PlannedCascade(
        small=compiled.small,
        large=compiled.large,
        threshold=settings.defer.threshold,
        mode=mode,
        window=settings.emit.window,
        start_on=start_on,
        may_escalate=may_escalate,
        why=why,
    )
    return planned, reasons


def _plan_rung(rung: RungSettings, tokenizers: Mapping[str, str]) -> PlannedRung:
    return PlannedRung(
        to=rung.to,
        answer=rung.answer,
        ttft_s=float(rung.ttft) if rung.ttft is not None else None,
        retries=rung.retries,
        mark=rung.mark,
        tokenizer=tokenizers.get(rung.to, "") if rung.to is not None else "",
    )


def _plain(value: object) -> object:
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        return int(value)
    return str(value)
