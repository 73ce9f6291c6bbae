"""Counterfactuals: all of them are true, and for single numbers none is missing."""

import math
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from config.load import parse_settings
from config.model.conditions import LoadCondition, SignalSettings, TimeCondition
from config.model.rollout import ExperimentSettings
from config.model.routing import RouteSettings, Use
from config.model.settings import Settings
from config.model.table import ClockTime, Range, Seconds
from config.model.tenancy import SLO, Budget, TenantSettings, TierSettings
from policies.authoring.counterfactual import Counterfactual, changed_decisions, counterfactuals
from policies.authoring.decision import Decider, DecisionOutcome
from policies.authoring.situation import Situation
from policies.model.backends import Backends
from policies.model.features import Features
from policies.model.load import BreakerView, EngineLoad, Load
from tests.policies.model.test_plan import SAME, TEXT

DAY = 86_400.0
NOON = 1_774_695_600.0
"""Saturday 2026-03-28 12:00 in Berlin: the clocks there go forward in the night that follows."""

# --- small policies --------------------------------------------------------------------------------------------------

RANGES = st.sampled_from([Range(at_least=100), Range(below=50.5), Range(at_least=20, below=80)])
SHARES = st.sampled_from([Range(at_least=0.3), Range(below=0.7), Range(at_least=0.1 + 0.2, below=0.6)])
LOADS = st.builds(
    LoadCondition,
    of=st.sampled_from(["small", "large"]),
    queue_wait_over_slo=st.none() | SHARES,
    kv_usage=st.none() | SHARES,
    breaker=st.sampled_from([(), ("open",), ("closed", "half_open")]),
)
TIMES = st.builds(
    TimeCondition,
    from_=st.sampled_from([0, 150, 1350]).map(ClockTime),
    to=st.sampled_from([150, 600, 1440]).map(ClockTime),
    days=st.sampled_from([(), ("sun",), ("mon", "fri")]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]),
)


def sometimes(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(st.none(), st.none(), st.none(), strategy)


def words(*names: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.sampled_from([(), (), (), *[(name,) for name in names]])


LEAVES = st.builds(
    SignalSettings,
    model=words("chat", "other"),
    tenant=words("acme", "bob"),
    tier=words("gold"),
    tag=words("x", "y"),
    header=st.sampled_from([{}, {}, {}, {"X-Team": ("red", "blue")}]),
    has=words("tools", "seed"),
    path=words("/v1/completions"),
    language=words("de"),
    prompt_tokens=sometimes(RANGES),
    turn=sometimes(st.just(Range(at_least=3))),
    complexity=sometimes(SHARES),
    budget_used=sometimes(SHARES),
    load=sometimes(LOADS),
    time=sometimes(TIMES),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        SignalSettings,
        any=st.lists(inner, max_size=2).map(tuple),
        all=st.lists(inner, max_size=2).map(tuple),
        not_=st.none() | inner,
    ),
    max_leaves=4,
)
BASE = parse_settings(TEXT, Path("/etc/x.toml"))


def with_routes(conditions: list[SignalSettings], skip: SignalSettings | None, when_spent: str) -> Settings:
    thrifty = msgspec.structs.replace(BASE.cascades["thrifty"], skip_to_large=skip)
    routes = [
        RouteSettings(
            name=f"r{number}", when=when, use=Use(cascade="thrifty") if number % 2 == 0 else Use(ladder="safe")
        )
        for number, when in enumerate(conditions)
    ]
    budget = Budget(amount=1.0, when_spent=when_spent, downgrade_to="default")  # type: ignore[arg-type]
    return msgspec.structs.replace(
        BASE,
        models=dict.fromkeys(("chat", "other", "third"), BASE.models["chat"]),
        tiers={"default": TierSettings(slo=SLO(ttft=Seconds(2))), "gold": TierSettings(slo=SLO(ttft=Seconds(0.3)))},
        tenants={
            "acme": TenantSettings(tier="gold", budget=budget),
            "bob": TenantSettings(),
            "carol": TenantSettings(),
        },
        routes=tuple(routes),
        cascades={"thrifty": thrifty},
        experiments=(
            ExperimentSettings(
                name="e",
                route=("r0",),
                unit="tenant",
                arms={"control": 50, "b": 50},
                override={"b": {"cascades.thrifty.emit.mode": "gate"}},
            ),
        ),
    )


POLICIES = st.builds(
    with_routes,
    st.lists(CONDITIONS, min_size=1, max_size=4),
    st.none() | CONDITIONS,
    st.sampled_from(["refuse", "downgrade", "small_only"]),
)
ENGINES = st.builds(
    EngineLoad,
    name=st.sampled_from(["small", "large"]),
    healthy=st.booleans(),
    kv_usage=st.sampled_from([0.0, 0.3, 0.65, 1.0]),
    expected_wait_s=st.sampled_from([0.0, 0.1, 0.3 * 2, 1.0, 3.0]),
)
SITUATIONS = st.builds(
    Situation,
    st.builds(
        Features,
        model=st.sampled_from(["chat", "other"]),
        tenant=st.sampled_from(["acme", "bob"]),
        tier=st.sampled_from(["default", "gold"]),
        tags=st.frozensets(st.sampled_from(["x", "z"])),
        headers=st.sampled_from([{}, {"x-team": "red"}, {"x-team": "green"}]),
        has=st.frozensets(st.sampled_from(["tools", "stream"])),
        prompt_tokens=st.sampled_from([5, 50, 51, 79, 100, 9000]),
        max_tokens=st.just(0),
        turn=st.integers(1, 4),
        complexity=st.sampled_from([0.0, 0.3, 0.1 + 0.2, 0.65, 0.9]),
        language=st.sampled_from(["und", "de"]),
        at=st.sampled_from([NOON, NOON + 3.3 * DAY, NOON + 0.6 * DAY]),
        budget_used=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
        budget_spent=st.booleans(),
    ),
    st.builds(
        Load,
        engines=st.lists(ENGINES, unique_by=lambda each: each.name).map(
            lambda found: {each.name: each for each in found}
        ),
        breakers=st.dictionaries(
            st.sampled_from(["small", "large"]), st.builds(BreakerView, st.sampled_from(["open", "closed"]), st.just(0))
        ),
        busy=st.frozensets(st.tuples(st.just("thrifty"), st.sampled_from(["default", "gold"]))),
        rolled_back=st.frozensets(st.just("e")),
    ),
)

# --- truth -----------------------------------------------------------------------------------------------------------


def difference(one: msgspec.Struct, other: msgspec.Struct) -> set[str]:
    return {name for name in one.__struct_fields__ if getattr(one, name) != getattr(other, name)}


def single(base: Situation, changed: Situation) -> bool:
    """One change, with its consequences: the tenant's tier, a spent budget, a busy cascade."""
    features = difference(base.features, changed.features)
    load = difference(base.load, changed.load) - {"busy"} or difference(base.load, changed.load)
    if features - {"tier", "budget_spent"} == set() and len(features) == 1:
        return not load
    features -= {"tier"} if "tenant" in features else set()
    features -= {"budget_spent"} if "budget_used" in features else set()
    return len(features) + len(load) == 1


def tier_of(decider: Decider, base: Situation) -> str:
    return decider.plan(base).features.tier


def values_within(found: Counterfactual) -> list[float]:
    low, high = found.at_least, found.below
    maximum = {"complexity": 1.0, "kv_usage of large": 1.0, "kv_usage of small": 1.0}.get(found.word, math.inf)
    candidates = [
        0,
        1,
        3,
        19,
        20,
        49,
        50,
        51,
        79,
        80,
        99,
        100,
        5000,
        0.05,
        0.299,
        0.31,
        0.5,
        0.599,
        0.61,
        0.69,
        0.71,
        1.0,
    ]
    inside = [c for c in candidates if (low is None or c >= low) and (high is None or c < high) and c <= maximum]
    return [*inside, found.value]


@settings(max_examples=100, deadline=None)
@given(policy=POLICIES, base=SITUATIONS)
def test_every_counterfactual_is_true(policy: Settings, base: Situation) -> None:
    decider = Decider(policy, SAME)
    decided = DecisionOutcome.of(decider.decide(base))
    for found, changed in changed_decisions(decider, base):
        assert single(base, changed), found
        assert DecisionOutcome.of(decider.decide(changed)) == found.outcome != decided
        field = found.word
        if field in {"prompt_tokens", "turn", "complexity"}:
            for value in values_within(found):
                if field != "complexity" and (value != int(value) or value < 1):
                    continue
                other = msgspec.structs.replace(base.features, **{field: value})
                assert DecisionOutcome.of(decider.decide(Situation(other, base.load))) == found.outcome, (found, value)
        if field.startswith("kv_usage of") or field == "queue_wait_over_slo of small":
            rung = field.rsplit(" ", 1)[1]
            promise = 2.0 if tier_of(decider, base) == "default" else 0.3
            for value in values_within(found)[:-1]:
                load = {"kv_usage": value} if field.startswith("kv") else {"expected_wait_s": value * promise}
                engines = {
                    **base.load.engines,
                    rung: msgspec.structs.replace(base.load.engines[rung], **load),
                }
                other = Situation(base.features, msgspec.structs.replace(base.load, engines=engines))
                assert DecisionOutcome.of(decider.decide(other)) == found.outcome, (found, value)
        if field == "time":
            assert found.at_least is not None
            assert found.below is not None
            for part in (0.0, 0.3, 0.77, 0.999999):
                at = found.at_least + part * (found.below - found.at_least)
                other = msgspec.structs.replace(base.features, at=at)
                assert DecisionOutcome.of(decider.decide(Situation(other, base.load))) == found.outcome, (found, at)


@settings(max_examples=100, deadline=None)
@given(
    policy=POLICIES,
    base=SITUATIONS,
    tokens=st.sampled_from([19, 20, 49, 50, 51, 79, 80, 99, 100]) | st.integers(0, 200),
    share=st.sampled_from([0.1 + 0.2, 0.3, 0.6, 0.7]) | st.floats(0, 1),
)
def test_no_other_outcome_of_a_single_number_is_missing(
    policy: Settings, base: Situation, tokens: int, share: float
) -> None:
    decider = Decider(policy, SAME)
    decided = DecisionOutcome.of(decider.decide(base))
    reported = {(found.word, found.outcome): found for found in counterfactuals(decider, base)}
    for field, value in (("prompt_tokens", tokens), ("complexity", share), ("model", "third"), ("turn", 1 + tokens)):
        other = msgspec.structs.replace(base.features, **{field: value})
        outcome = DecisionOutcome.of(decider.decide(Situation(other, base.load)))
        if outcome == decided:
            continue
        found = reported[field, outcome]
        if not isinstance(value, str):
            now = getattr(base.features, field)
            assert abs(found.value - now) <= abs(value - now) + 1e-12


def test_the_texts() -> None:
    decider = Decider(BASE, SAME)
    features = Features(
        model="chat", tenant="anonymous", tier="default", prompt_tokens=10, max_tokens=0, complexity=0.42
    )
    engines = {"small": EngineLoad(name="small"), "large": EngineLoad(name="large", expected_wait_s=1.2)}
    load = Load(engines=engines)
    reported = {found.change: (found.now, found.then) for found in counterfactuals(decider, Situation(features, load))}
    assert reported == {
        "queue_wait_over_slo of large >= 0.8": ("0.6", "route chat, but stays on small"),
        "complexity >= 0.7": ("0.42", "route chat, but starts on large and stays there"),
        "breaker of large is open": ("closed", "route chat, but emits by gate"),
        "breaker of small is open": ("closed", "route chat, but starts on large and stays there"),
        "large is down": ("up", "route chat, but emits by gate"),
        "small is down": ("up", "route chat, but starts on large and stays there"),
    }
    busy = msgspec.structs.replace(load, busy=frozenset({("thrifty", "default")}))
    reported = {found.change: (found.now, found.then) for found in counterfactuals(decider, Situation(features, busy))}
    assert reported == {
        "queue_wait_over_slo of large < 0.5": ("0.6", "route chat, but may escalate"),
        "cascade thrifty is no longer busy": ("busy", "route chat, but may escalate"),
    }


LONG_WAIT = SignalSettings(load=LoadCondition(of="small", queue_wait_over_slo=Range(at_least=0.5)))


def changes_of(when: SignalSettings, base: Situation) -> list[tuple[str, object]]:
    """Counterfactuals that lead to a route with this condition, which precedes the one for all requests."""
    policy = with_routes([SignalSettings()], None, "refuse")
    first = msgspec.structs.replace(policy.routes[0], name="first", when=when, use=Use(ladder="safe"))
    policy = msgspec.structs.replace(policy, routes=(first, *policy.routes))
    found = counterfactuals(Decider(policy, SAME), base)
    return [(each.change, each.value) for each in found if each.outcome.route == "first"]


def plain(**features: object) -> Situation:
    known = {"model": "chat", "tenant": "bob", "tier": "default", "prompt_tokens": 51, "max_tokens": 0, "at": NOON}
    engines = {name: EngineLoad(name=name) for name in ("small", "large")}
    return Situation(Features(**{**known, **features}), Load(engines=engines))  # type: ignore[arg-type]


def waiting(base: Situation, wait_s: float) -> Situation:
    engines = {**base.load.engines, "small": EngineLoad(name="small", expected_wait_s=wait_s)}
    return Situation(base.features, msgspec.structs.replace(base.load, engines=engines))


def test_the_nearest_value() -> None:
    assert changes_of(SignalSettings(prompt_tokens=Range(below=50.5)), plain()) == [("prompt_tokens < 51", 50)]
    at_least = SignalSettings(prompt_tokens=Range(at_least=50.5))
    assert changes_of(at_least, plain(prompt_tokens=3)) == [("prompt_tokens >= 51", 51)]
    both = SignalSettings(complexity=Range(at_least=0.25, below=0.5))
    assert changes_of(both, plain(complexity=0.75)) == [
        ("complexity >= 0.25 and < 0.5", math.nextafter(0.5, 0)),
    ]


def test_the_clock_that_goes_forward_in_the_night() -> None:
    # 02:30 does not exist on 2026-03-29 in Berlin: the span begins when the clocks go from 02:00 to 03:00.
    night = TimeCondition(from_=ClockTime(150), to=ClockTime(240), days=("sun",), zone="Europe/Berlin")
    assert changes_of(SignalSettings(time=night), plain()) == [
        ("time from Sun 2026-03-29 01:00Z to Sun 2026-03-29 02:00Z", NOON + 14 * 3600)
    ]


def test_after_a_spent_budget_waits_are_relative_to_the_new_tier() -> None:
    decider = Decider(with_routes([LONG_WAIT, SignalSettings()], None, "downgrade"), SAME)
    base = plain(tenant="acme", tier="gold", budget_used=1.0)
    base = waiting(base, 0.3)
    found = {each.change: each.now for each in counterfactuals(decider, base)}
    # 0.3 s are the whole objective of gold, and 0.15 of the objective of the tier in which the request is served.
    assert found["queue_wait_over_slo of small >= 0.5"] == "0.15"
    assert found["budget_used < 1"] == "1"


def test_rounding_of_waits_relative_to_the_objective() -> None:
    # 0.029 and 0.007 are bounds that 0.3 s, multiplied and divided again, misses by a rounding.
    for bound in (0.1, 0.3, 0.029, 0.053, 1 / 3, 1.1):
        long = SignalSettings(load=LoadCondition(of="small", queue_wait_over_slo=Range(at_least=bound)))
        for tier in ("default", "gold"):
            (change,) = changes_of(long, plain(tier=tier))
            assert change == (f"queue_wait_over_slo of small >= {bound:.12g}", bound)
    for bound in (0.1, 0.007, 0.014, 1 / 3):
        short = SignalSettings(load=LoadCondition(of="small", queue_wait_over_slo=Range(below=bound)))
        for tier in ("default", "gold"):
            (change,) = changes_of(short, waiting(plain(tier=tier), 9.0))
            assert change == (f"queue_wait_over_slo of small < {bound:.12g}", math.nextafter(bound, 0))


LENGTHS = Backends({"small": 300, "large": 200})
PRICED = (
    "[prices]\nsmall = { input = 1_000_000, output = 1_000_000 }\nlarge = { input = 2_000_000, output = 2_000_000 }\n"
)
SHORT = parse_settings(
    f'{TEXT}{PRICED}[tenants.acme]\nbudget = {{ amount = 1_000, when_spent = "small_only" }}\n', Path("/etc/x.toml")
)


@settings(max_examples=60, deadline=None)
@given(
    prompt=st.sampled_from([1, 50, 100, 250, 299, 400]),
    asked=st.sampled_from([0, 1, 64, 90, 240]),
    used=st.sampled_from([0.0, 0.5, 0.9, 0.99]),
    parts=st.lists(st.floats(0, 1), min_size=3, max_size=3),
)
def test_lengths_and_money_change_decisions_where_it_is_said(
    prompt: int, asked: int, used: float, parts: list[float]
) -> None:
    decider = Decider(SHORT, SAME, LENGTHS)
    base = plain(tenant="acme", prompt_tokens=prompt, max_tokens=asked, budget_used=used)
    for found in counterfactuals(decider, base):
        if found.word not in {"prompt_tokens", "max_tokens", "budget_used"}:
            continue
        low = found.at_least or 0.0
        high = found.below if found.below is not None else (1.0 if found.word == "budget_used" else 2.0**31)
        for part in (0.0, *parts):
            value = low + part * (high - low)
            value = (
                min(value, math.nextafter(high, 0)) if found.word == "budget_used" else min(int(value), int(high) - 1)
            )
            spent = {"budget_spent": value >= 1} if found.word == "budget_used" else {}
            other = base.changed(**{found.word: value}, **spent)
            assert DecisionOutcome.of(decider.decide(other)) == found.outcome, (found, value)


def test_the_length_and_the_money_that_are_left() -> None:
    decider = Decider(SHORT, SAME, LENGTHS)
    told = {found.change: found.then for found in counterfactuals(decider, plain(tenant="acme", prompt_tokens=51))}
    assert told["prompt_tokens >= 137 and < 300"] == "route chat, but emits by gate"
    assert told["prompt_tokens >= 300"] == "refused: context_length_exceeded"
    # 3 · (51 + 64) for both stages, and 51 + 64 for the small one alone.
    assert told["budget_used >= 0.655000000001 and < 0.885000000001"] == "route chat, but stays on small"
