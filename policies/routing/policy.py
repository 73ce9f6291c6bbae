"""Compiles the settings into a `Policy`, and makes the plan of a request from its features and the live load."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from config.check.conditions.space import located, nested
from config.check.names import flat, routes_of
from config.model.calibration import PromptModel
from config.model.conditions import SignalSettings
from config.model.media import Medium
from config.model.routing import LOWEST_THRESHOLD, BreakerSettings, CascadeSettings, RouteSettings, RungSettings
from config.model.settings import Settings
from config.model.tenancy import Price, TierSettings
from config.model.units import encodable
from config.parse.override import apply_override
from config.problems.problems import Problems
from policies.admission.prices import cheapest
from policies.cascade.calibration import threshold_of
from policies.cascade.prompt_model import Priors, neutral_priors, priors_of, threshold_at, words_of
from policies.cascade.statistic import falls
from policies.errors import NoRoute
from policies.model.features import Features
from policies.model.load import Load
from policies.model.plan import Degraded, EmitMode, Plan, PlannedCascade, PlannedRung, PlannedShadow
from policies.rollout.experiment import Split
from policies.routing.conditions import Test, condition_compiler
from policies.routing.media import not_taken, takes_all, taking
from policies.routing.route_match import Matcher

Need = Literal["prompt_tokens", "code", "language", "conversation"]


class CompiledCascade(msgspec.Struct, frozen=True):
    """One cascade with everything that planning needs."""

    name: str
    settings: CascadeSettings
    small: PlannedRung
    large: PlannedRung
    threshold: float
    skip_to_large: Test | None
    same_tokenizer: bool
    follows_controller: bool
    """False in an arm with another target or deferral rule than the one that the cascade's controller keeps."""

    def threshold_under(self, load: Load) -> float:
        """The threshold now: where it follows a controller, the one that the controller has set."""
        return load.thresholds.get(self.name, self.threshold) if self.follows_controller else self.threshold


class CompiledRoute(msgspec.Struct, frozen=True):
    """One route, or its variant in one arm of an experiment."""

    settings: RouteSettings
    ladder: str
    rungs: tuple[PlannedRung, ...]
    cascade: CompiledCascade | None
    shadows: tuple[tuple[Split, PlannedShadow], ...] = ()
    split: Split | None = None
    arms: Mapping[str, "CompiledRoute"] = MappingProxyType({})
    """By arm of the experiment, for those that override settings."""


class Policy(msgspec.Struct, frozen=True):
    """The compiled policy. Immutable, so that it can be shared without copying."""

    matcher: Matcher
    routes: tuple[CompiledRoute, ...]
    breakers: Mapping[str, BreakerSettings]
    """By engine and upstream."""
    prices: Mapping[str, Price]
    digest: str
    """Twelve hex digits, equal for files that decide alike: a hash of the settings that decisions depend on."""
    needs: frozenset[Need]
    """Features that take time to compute and that a condition or an experiment uses."""
    headers: frozenset[str]
    """Request headers that a condition uses, in lower case."""
    prompts: Mapping[str, PromptModel]
    """By cascade, where the calibration has a prompt model."""
    tiers: Mapping[str, TierSettings]
    models: tuple[str, ...]
    """The names that clients can use."""

    @classmethod
    def compile(cls, settings: Settings, tokenizers: Mapping[str, str] = MappingProxyType({})) -> "Policy":
        """Compile settings that `config.check` has accepted.

        `tokenizers`: digest of the tokenizer by rung. Token ids pass from one rung to another (modes "window" and
        "verified", `midstream = "continue"`) only if both digests are known and equal, so compile again when the
        engines are loaded.
        """
        conditions = list(conditions_in(settings))
        needed: dict[Need, bool] = {
            "prompt_tokens": any(when.prompt_tokens is not None for when in conditions),
            "code": any(when.code is not None for when in conditions),
            "language": any(when.language for when in conditions),
            "conversation": any(experiment.unit == "conversation" for experiment in settings.experiments),
        }
        return cls(
            Matcher(settings),
            tuple(_with_experiment(settings, tokenizers)),
            rung_breakers(settings),
            dict(settings.prices),
            digest_of(settings),
            frozenset(need for need, is_needed in needed.items() if is_needed),
            frozenset(name.lower() for when in conditions for name in when.header),
            {
                name: cascade.defer.artefact.prompt
                for name, cascade in settings.cascades.items()
                if cascade.defer.artefact is not None and cascade.defer.artefact.prompt is not None
            },
            dict(settings.tiers),
            tuple(settings.models),
        )

    def rungs_of(self, model: str) -> tuple[str, ...]:
        """All rungs that may answer a request for this model, whatever its other features."""
        names: dict[str, None] = {}
        for index in routes_of([route.settings for route in self.routes], model):
            route = self.routes[index]
            for each in (route, *route.arms.values()):
                stages = (each.cascade.small, each.cascade.large) if each.cascade is not None else ()
                names |= dict.fromkeys(rung.to for rung in (*stages, *each.rungs) if rung.to is not None)
        return tuple(names)


def conditions_in(settings: Settings) -> Iterator[SignalSettings]:
    """All conditions, with those nested in others and those that experiments set."""
    arms = (overrides for experiment in settings.experiments for overrides in experiment.override.values())
    for each in (settings, *(_overridden(settings, overrides) for overrides in arms)):
        for path, whole in located(each):
            yield from (when for _, when in nested(path, whole))


def priors_for(policy: Policy, text: str) -> dict[str, Priors]:
    """The priors of the last user text, by cascade whose calibration has a prompt model."""
    if not policy.prompts:
        return {}
    words = words_of(text)
    return {name: priors_of(model, words) for name, model in policy.prompts.items()}


def rung_breakers(settings: Settings) -> dict[str, BreakerSettings]:
    """Breaker settings by rung: those in a ladder, or the default. `config.check` ensures that ladders agree."""
    breakers = dict.fromkeys([*settings.engines, *settings.upstreams], BreakerSettings())
    for ladder in settings.ladders.values():
        for rung in ladder:
            if rung.to is not None and rung.breaker != BreakerSettings():
                breakers[rung.to] = rung.breaker
    return breakers


def digest_of(settings: Settings) -> str:
    """See `Policy.digest`. Comments, owners, tests, addresses and keys are not included."""
    replace = msgspec.structs.replace
    decides = (
        sorted(settings.engines),
        [(name, takes) if (takes := each.takes) else name for name, each in sorted(settings.upstreams.items())],
        sorted((name, model.adapters) for name, model in settings.models.items()),
        settings.prices,
        settings.tiers,
        settings.tenants,
        settings.signals,
        [replace(route, owner="", comment="") for route in settings.routes],
        {name: replace(each, defer=replace(each.defer, calibration=None)) for name, each in settings.cascades.items()},
        settings.ladders,
        settings.retry_budget,
        settings.experiments,
        settings.shadows,
        # Their order counts: see `Settings`.
        list(settings.guardrails.items()),
        list(settings.moderations.items()),
        settings.decisions,
        settings.media,
        settings.quarantine,
        settings.batch.price,
    )
    encoded = msgspec.json.encode(decides, enc_hook=encodable, order="deterministic")
    return hashlib.sha256(encoded).hexdigest()[:12]


def make_plan(policy: Policy, features: Features, load: Load, now: float) -> Plan:
    """The plan of a request that arrived at `now`; its deadlines are relative to it. Raises CannotServe."""
    matched = policy.matcher.match(features, load)
    route = policy.routes[matched.index]
    reasons = matched.reasons
    experiment = arm = ""
    if route.split is not None:
        experiment = route.split.name
        if experiment in load.rolled_back:
            arm = "control"
            reasons += (f"experiment {experiment} was rolled back",)
        else:
            arm = route.split.arm(features) or ""
        route = route.arms.get(arm, route)
    compiled, ladder, shadows = route.cascade, route.rungs, route.shadows
    if media := [medium for medium, _ in features.requirements.media]:
        ladder, more = _taking(route, media)
        if not ladder:
            raise not_taken(features.model, features.requirements.media, _models_taking(policy, features, load))
        compiled, reasons = None, reasons + more
        shadows = tuple([each for each in shadows if takes_all(each[1], media)])
    cascade = None
    if compiled is not None:
        cascade, more = _plan_cascade(compiled, features, load)
        reasons += more
    degraded: list[Degraded] = []
    if features.downgraded_from:
        degraded.append("budget_downgraded")
        reasons += (f"the budget is spent: tier {features.tier} instead of {features.downgraded_from}",)
    rungs = ladder
    if features.budget_spent:
        rungs, more = _cheapest_only(policy, rungs, cascade)
        reasons += more
        if rungs != ladder or cascade is not None:
            degraded.append("budget_small_only")
    elif cascade is not None and cascade.why == "busy" and cascade.start_on == "small":
        degraded.append("busy")
    tier, output_cap = policy.tiers.get(features.tier), route.settings.caps.output_tokens
    if (capped := _busy_cap(tier, route, load, rungs, cascade)) is not None:
        output_cap, reason = capped
        reasons += (reason,)
        if not 0 < features.max_tokens <= output_cap:
            degraded.append("busy_capped")
    deadlines = route.settings.deadlines
    total_at = now + deadlines.total
    ttft_at = min(now + deadlines.ttft, total_at)
    return Plan(
        route=matched.route,
        experiment=experiment if arm else "",
        arm=arm,
        ladder=route.ladder,
        rungs=rungs,
        cascade=cascade,
        shadows=tuple([shadow for split, shadow in shadows if split.arm(features) == "copy"]),
        queue_s=None if deadlines.queue is None else float(deadlines.queue),
        ttft_at=ttft_at,
        first_by=_first_by(tier, now, ttft_at),
        total_at=total_at,
        stall_s=float(deadlines.stall),
        output_cap=output_cap,
        reasoning_cap=route.settings.caps.reasoning_tokens,
        midstream=route.settings.midstream,
        on_content_filter=route.settings.on_content_filter,
        reasons=reasons,
        policy=policy.digest,
        degraded=tuple(degraded),
    )


def _taking(route: CompiledRoute, media: Collection[Medium]) -> tuple[tuple[PlannedRung, ...], tuple[str, ...]]:
    stages = () if route.cascade is None else (route.cascade.small, route.cascade.large)
    return taking(stages, route.rungs, media)


def _models_taking(policy: Policy, features: Features, load: Load) -> list[str]:
    """The models that take what this request contains."""
    names, media = [], [medium for medium, _ in features.requirements.media]
    for model in policy.models:
        try:
            matched = policy.matcher.match(msgspec.structs.replace(features, model=model), load)
        except NoRoute:
            continue
        if _taking(policy.routes[matched.index], media)[0]:
            names.append(model)
    return names


def _busy_cap(
    tier: TierSettings | None,
    route: CompiledRoute,
    load: Load,
    rungs: tuple[PlannedRung, ...],
    cascade: PlannedCascade | None,
) -> tuple[int, str] | None:
    """The bound on output tokens while the first rung is busy, and the reason; None: no such bound holds now."""
    caps = route.settings.caps
    if caps.busy_output_tokens is None or tier is None:
        return None
    if cascade is not None:
        first = (cascade.small if cascade.start_on == "small" else cascade.large).to
    else:
        first = rungs[0].to if rungs else None
    found = load.engines.get(first or "")
    least_s = caps.busy_at * tier.slo.ttft
    if found is None or found.expected_wait_s < least_s:
        return None
    cap = min(caps.busy_output_tokens, caps.output_tokens or caps.busy_output_tokens)
    reason = f"{first} is busy: a wait of {found.expected_wait_s:.2f} s, at least {least_s:.2f} s; {cap} output tokens"
    return cap, reason


def _first_by(tier: TierSettings | None, now: float, ttft_at: float) -> float | None:
    if tier is None or tier.admit_by == "queue":
        return None
    return min(ttft_at, now + tier.slo.ttft) if tier.admit_by == "slo" else ttft_at


def _plan_cascade(compiled: CompiledCascade, features: Features, load: Load) -> tuple[PlannedCascade, tuple[str, ...]]:
    settings = compiled.settings
    start_on, may_escalate, why, reasons = _cascade_start(compiled, features, load)
    mode: EmitMode = settings.emit.mode
    if mode == "window" and start_on == "small" and may_escalate and (why_gate := _why_gate(compiled, load)):
        mode = "gate"
        reasons += (f"gate instead of window: {why_gate}",)
    threshold = compiled.threshold_under(load)
    level = None
    artefact = settings.defer.artefact
    if artefact is not None and artefact.prompt is not None:
        level = threshold
        priors = features.priors.get(compiled.name) or neutral_priors(artefact.prompt)
        threshold = threshold_at(artefact.prompt, priors, level)
    planned = PlannedCascade(
        name=compiled.name,
        small=compiled.small,
        large=compiled.large,
        statistic=settings.defer.statistic,
        threshold=threshold,
        judge=settings.judge,
        level=level,
        mode=mode,
        window=settings.emit.window,
        draft_tokens=settings.emit.draft_tokens,
        off_above_batch=settings.emit.off_above_batch,
        atomic=settings.atomic,
        start_on=start_on,
        may_escalate=may_escalate,
        why=why,
    )
    return planned, reasons


def _cascade_start(
    compiled: CompiledCascade, features: Features, load: Load
) -> tuple[Literal["small", "large"], bool, str, tuple[str, ...]]:
    """The stage to start on, whether it may escalate, the code of the reason and the reasons."""
    small, large, busy = compiled.small.to, compiled.large.to, compiled.settings.when_busy
    skip, is_verified = compiled.skip_to_large, compiled.settings.emit.mode == "verified"
    assert small is not None
    if features.budget_spent:
        return "small", False, "budget", (f"the budget is spent: stays on {small}",)
    if busy is not None and (compiled.name, features.tier) in load.busy:
        reason = f"signal {busy.signal} holds: stays on {busy.stay_on}"
        return "small" if busy.stay_on == small else "large", False, "busy", (reason,)
    if skip is not None and skip.holds(features, load):
        return "large", True, "asked_large", tuple(f"skips to large: {fact}" for fact in skip.facts(features, load))
    if not load.can_serve(small):
        return "large", True, "small_unavailable", (f"{small} cannot serve now",)
    if is_verified and not compiled.same_tokenizer:
        reason = "nothing to verify: the stages' tokenizers differ or are unknown"
        return "large", True, "tokenizers_differ", (reason,)
    if is_verified and features.choices > 1:
        reason = f"nothing is drafted for {features.choices} choices at once: {large} alone"
        return "large", True, "several_choices", (reason,)
    return "small", True, "default", ()


def _why_gate(compiled: CompiledCascade, load: Load) -> str:
    """Why the large model may be unable to continue after tokens that were released before the decision."""
    statistic, large = compiled.settings.defer.statistic, compiled.large.to
    assert large is not None
    if not falls(statistic):
        return f"{statistic} decides at an answer's end only"
    if not compiled.large.goes_on:
        return f"{large} cannot take up an answer that has begun"
    if not compiled.same_tokenizer:
        return "the stages' tokenizers differ or are unknown"
    return "" if load.can_serve(large) else f"{large} cannot serve now"


def _cheapest_only(
    policy: Policy, rungs: tuple[PlannedRung, ...], cascade: PlannedCascade | None
) -> tuple[tuple[PlannedRung, ...], tuple[str, ...]]:
    """Apply `small_only`: keep static answers and the cheapest rung, or with a cascade its small stage."""
    kept = cascade.small.to if cascade is not None else None
    if kept is None:
        kept = cheapest(policy.prices, [rung.to for rung in rungs if rung.to is not None])
    left = tuple(rung for rung in rungs if rung.to is None or rung.to == kept)
    return left, (f"the budget is spent: only {kept} and static answers are left",) if len(left) < len(rungs) else ()


def _with_experiment(settings: Settings, tokenizers: Mapping[str, str]) -> Iterator[CompiledRoute]:
    variants = {
        (experiment.name, arm): _compile(_overridden(settings, overrides), tokenizers, settings.cascades)
        for experiment in settings.experiments
        for arm, overrides in experiment.override.items()
    }
    experiments = {route: experiment for experiment in settings.experiments for route in experiment.route}
    for index, route in enumerate(_compile(settings, tokenizers, settings.cascades)):
        experiment = experiments.get(route.settings.name)
        if experiment is None:
            yield route
            continue
        arms = {arm: variants[experiment.name, arm][index] for arm in experiment.override}
        yield msgspec.structs.replace(route, split=Split.of(experiment), arms=arms)


def _overridden(settings: Settings, overrides: Mapping[str, object]) -> Settings:
    unread = Problems.unplaced()
    for key, value in overrides.items():
        settings = apply_override(settings, key, value, unread, ("experiments",))
    if len(unread):
        raise ValueError("config.check lets only overrides through that can be applied")
    return settings


def _compile(
    settings: Settings, tokenizers: Mapping[str, str], controlled: Mapping[str, CascadeSettings]
) -> list[CompiledRoute]:
    """The routes. `controlled`: the cascades without any arm's overrides, whose targets controllers keep."""
    compile_condition = condition_compiler(settings)
    ladders = {
        name: tuple(_plan_rung(rung, tokenizers, settings) for _, rung in flat(settings, name))
        for name in settings.ladders
    }
    cascades: dict[str, CompiledCascade] = {}
    for name, given in settings.cascades.items():
        small, large = (
            _plan_rung(RungSettings(to=stage, adapter=given.adapters.get(stage)), tokenizers, settings)
            for stage in given.stages
        )
        cascades[name] = CompiledCascade(
            name=name,
            settings=given,
            small=small,
            large=large,
            threshold=first_threshold(given),
            skip_to_large=compile_condition(given.skip_to_large) if given.skip_to_large is not None else None,
            same_tokenizer=bool(small.tokenizer) and small.tokenizer == large.tokenizer,
            follows_controller=(given.target, given.defer) == (controlled[name].target, controlled[name].defer),
        )
    routes = []
    for route in settings.routes:
        cascade = cascades[route.use.cascade] if route.use.cascade is not None else None
        if cascade is not None and route.emit is not None:
            emitting = msgspec.structs.replace(cascade.settings, emit=route.emit)
            cascade = msgspec.structs.replace(cascade, settings=emitting)
        ladder = cascade.settings.on_failure if cascade is not None else route.use.ladder
        assert ladder is not None, "config.check lets exactly one of the two through"
        shadows = tuple(
            (
                Split(f"shadow {shadow.name}", "request", (("copy", shadow.share), ("none", 1.0))),
                PlannedShadow(
                    name=shadow.name, to=shadow.to, adapter=shadow.adapter or "", takes=_takes(settings, shadow.to)
                ),
            )
            for shadow in settings.shadows
            if route.name in shadow.route
        )
        routes.append(CompiledRoute(route, ladder, ladders[ladder], cascade, shadows))
    return routes


def first_threshold(cascade: CascadeSettings) -> float:
    """The threshold before any controller moves it.

    0 in mode "verified", which needs none; where a judge decides alone, one that every answer reaches.
    """
    defer = cascade.defer
    if defer.threshold is None and (defer.artefact is None or cascade.target is None):
        return 0.0 if cascade.judge is None else LOWEST_THRESHOLD
    return threshold_of(defer, cascade.target)


def _plan_rung(rung: RungSettings, tokenizers: Mapping[str, str], settings: Settings) -> PlannedRung:
    upstream = settings.upstreams.get(rung.to) if rung.to is not None else None
    return PlannedRung(
        to=rung.to,
        answer=rung.answer,
        ttft_s=float(rung.ttft) if rung.ttft is not None else None,
        retries=rung.retries,
        is_upstream=upstream is not None,
        wait_out_s=float(rung.wait_out),
        mark=rung.mark,
        tokenizer=tokenizers.get(rung.to, "") if rung.to is not None else "",
        goes_on=upstream is None or "continue" in upstream.supports,
        from_text=upstream is not None and "continue" in upstream.supports,
        adapter=rung.adapter or "",
        takes=_takes(settings, rung.to),
    )


def _takes(settings: Settings, rung: str | None) -> tuple[Medium, ...]:
    upstream = settings.upstreams.get(rung or "")
    return () if upstream is None else upstream.takes
