"""What is said about a condition beforehand holds for every request."""

from hypothesis import given, settings
from hypothesis import strategies as st

from config.conditions import SignalSettings
from config.reach import truth
from config.table import Range


def test_always_never_depends() -> None:
    assert truth(SignalSettings(), {}) is True
    assert truth(SignalSettings(model=("a",)), {}) is None
    assert truth(SignalSettings(model=("a",)), {}, "a") is True
    assert truth(SignalSettings(model=("a",)), {}, "b") is False
    assert truth(SignalSettings(not_=SignalSettings()), {}) is False
    assert truth(SignalSettings(signal=("s",)), {"s": SignalSettings(model=("a",))}, "b") is False
    assert truth(SignalSettings(any=(SignalSettings(model=("a",)), SignalSettings(tag=("x",)))), {}, "b") is None
    assert truth(SignalSettings(all=(SignalSettings(model=("a",)), SignalSettings(tag=("x",)))), {}, "b") is False


CONDITIONS = st.recursive(
    st.builds(
        SignalSettings,
        model=st.sampled_from([(), ("m",), ("n",)]),
        tag=st.sampled_from([(), ("x",)]),
        prompt_tokens=st.sampled_from([None, Range(at_least=10)]),
    ),
    lambda inner: st.builds(
        SignalSettings,
        any=st.lists(inner, max_size=2).map(tuple),
        all=st.lists(inner, max_size=2).map(tuple),
        not_=st.none() | inner,
    ),
    max_leaves=6,
)


def holds(when: SignalSettings, model: str, tagged: bool, long: bool) -> bool:
    return (
        (not when.model or model in when.model)
        and (not when.tag or tagged)
        and (when.prompt_tokens is None or long)
        and (not when.any or any(holds(member, model, tagged, long) for member in when.any))
        and all(holds(member, model, tagged, long) for member in when.all)
        and (when.not_ is None or not holds(when.not_, model, tagged, long))
    )


@settings(max_examples=200, deadline=None)
@given(when=CONDITIONS, model=st.sampled_from(["m", "n", "z"]), tagged=st.booleans(), long=st.booleans())
def test_a_verdict_is_kept(when: SignalSettings, model: str, tagged: bool, long: bool) -> None:
    for verdict in (truth(when, {}), truth(when, {}, model)):
        assert verdict is None or verdict == holds(when, model, tagged, long)
