"""Route matching: the first route whose condition holds, with true reasons."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model.conditions import LoadCondition, SignalSettings
from config.model.routing import RouteSettings, RungSettings, Use
from config.model.settings import Settings
from config.model.table import Range
from config.model.tenancy import TierSettings
from policies.errors import NoRoute
from policies.model.features import Features
from policies.model.load import EngineLoad, Load
from policies.routing.conditions import condition_compiler
from policies.routing.route_match import Matcher


def features(**given: object) -> Features:
    base = {"model": "m", "tenant": "acme", "tier": "default", "prompt_tokens": 100, "max_tokens": 50}
    return Features(**{**base, **given})  # type: ignore[arg-type]


def service(*conditions: SignalSettings, **signals: SignalSettings) -> Settings:
    return Settings(
        schema=1,
        engines={},
        models={},
        tiers={"default": TierSettings()},
        signals=signals,
        routes=tuple(RouteSettings(name=f"r{i}", use=Use(ladder="l"), when=when) for i, when in enumerate(conditions)),
        ladders={"l": (RungSettings(to="e"),)},
    )


def decide(
    when: SignalSettings, found: Features, load: Load | None = None, **signals: SignalSettings
) -> tuple[bool, str]:
    test = condition_compiler(service(**signals))(when)
    load = load or Load()
    return test.holds(found, load), ", ".join(test.facts(found, load))


def test_the_first_route_wins_with_its_reasons() -> None:
    matcher = Matcher(
        service(
            SignalSettings(model=("small",)),
            SignalSettings(prompt_tokens=Range(at_least=4000)),
            SignalSettings(model=("small", "m"), tag=("x",)),
            SignalSettings(),
        )
    )
    cases = [
        (features(model="small", prompt_tokens=9000), "r0", ("model is small",)),
        (features(prompt_tokens=9000), "r1", ("prompt_tokens 9000 >= 4000",)),
        (features(tags=frozenset({"x"})), "r2", ("model is m", "tagged x")),
        (features(), "r3", ("every request",)),
        (features(model="never named"), "r3", ("every request",)),
    ]
    for given_features, route, reasons in cases:
        matched = matcher.match(given_features, Load())
        assert (matched.route, matched.reasons) == (route, reasons)


def test_no_route() -> None:
    matcher = Matcher(service(SignalSettings(tag=("x",))))
    with pytest.raises(NoRoute, match="No route of the policy accepts this request for the model 'm'"):
        matcher.match(features(), Load())


def test_facts_are_true_whether_the_condition_holds_or_not() -> None:
    assert decide(SignalSettings(tenant=("a", "b")), features()) == (False, "tenant is acme, not a or b")
    assert decide(SignalSettings(tag=("a",)), features()) == (False, "not tagged a")
    assert decide(SignalSettings(prompt_tokens=Range(below=100)), features()) == (False, "prompt_tokens 100 >= 100")
    assert decide(SignalSettings(prompt_tokens=Range(at_least=1, below=101)), features()) == (
        True,
        "prompt_tokens 100 >= 1, prompt_tokens 100 < 101",
    )
    assert decide(SignalSettings(complexity=Range(at_least=0.7)), features(complexity=0.25)) == (
        False,
        "complexity 0.25 < 0.7",
    )
    long = SignalSettings(prompt_tokens=Range(at_least=4000))
    assert decide(SignalSettings(not_=SignalSettings(signal=("long",))), features(), long=long) == (
        True,
        "signal long does not hold: prompt_tokens 100 < 4000",
    )


def test_waits_are_relative_to_the_tiers_objective() -> None:
    when = SignalSettings(load=LoadCondition(of="large", queue_wait_over_slo=Range(at_least=0.5)))
    busy = Load(engines={"large": EngineLoad(name="large", expected_wait_s=1.5)})
    assert decide(when, features(), busy) == (True, "queue_wait_over_slo of large 0.75 >= 0.5")
    assert decide(when, features(), Load()) == (False, "queue_wait_over_slo of large is unknown")
    full = SignalSettings(load=LoadCondition(of="large", kv_usage=Range(at_least=0.9)))
    assert decide(full, features(), busy) == (False, "kv_usage of large 0 < 0.9")


CONDITIONS = st.recursive(
    st.builds(
        SignalSettings,
        model=st.sampled_from([(), ("m",), ("n", "o")]),
        tenant=st.sampled_from([(), (), ("acme",), ("b",)]),
        tag=st.sampled_from([(), (), ("x", "y")]),
        prompt_tokens=st.sampled_from([None, None, Range(at_least=100), Range(below=100), Range(at_least=5, below=50)]),
        signal=st.sampled_from([(), (), ("s",)]),
    ),
    lambda inner: st.builds(
        SignalSettings,
        any=st.lists(inner, max_size=2).map(tuple),
        all=st.lists(inner, max_size=2).map(tuple),
        not_=st.none() | inner,
    ),
    max_leaves=5,
)
SIGNAL = SignalSettings(prompt_tokens=Range(at_least=50))


def meaning(when: SignalSettings, found: Features) -> bool:
    """The documented meaning of conditions, implemented in the simplest way."""

    def within(bounds: Range | None) -> bool:
        if bounds is None:
            return True
        low, high = bounds.at_least, bounds.below
        return (low is None or found.prompt_tokens >= low) and (high is None or found.prompt_tokens < high)

    return (
        (not when.model or found.model in when.model)
        and (not when.tenant or found.tenant in when.tenant)
        and (not when.tag or any(tag in found.tags for tag in when.tag))
        and within(when.prompt_tokens)
        and (not when.signal or meaning(SIGNAL, found))
        and (not when.any or any(meaning(member, found) for member in when.any))
        and all(meaning(member, found) for member in when.all)
        and (when.not_ is None or not meaning(when.not_, found))
    )


@settings(max_examples=200, deadline=None)
@given(
    conditions=st.lists(CONDITIONS, max_size=4),
    model=st.sampled_from(["m", "n", "z"]),
    tags=st.frozensets(st.sampled_from(["x", "z"])),
    prompt_tokens=st.sampled_from([5, 49, 50, 99, 100]),
)
def test_conditions_agree_with_the_simple_implementation(
    conditions: list[SignalSettings], model: str, tags: frozenset[str], prompt_tokens: int
) -> None:
    found = features(model=model, tags=tags, prompt_tokens=prompt_tokens)
    matcher = Matcher(service(*conditions, SignalSettings(), s=SIGNAL))
    matched = matcher.match(found, Load())
    expected = next((i for i, when in enumerate(conditions) if meaning(when, found)), len(conditions))
    assert matched.index == expected
    assert matched.reasons
