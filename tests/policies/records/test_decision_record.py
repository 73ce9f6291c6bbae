"""Decision records survive JSON without loss, and deciding them again gives the same decision."""

import math
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from config.load import parse_settings
from policies.model.features import Features
from policies.model.load import BreakerView, EngineLoad, Load
from policies.model.plan import AttemptRecord
from policies.records.decision_record import decision_record, decode_record, encode_record
from policies.routing.policy import Policy, make_plan
from tests.policies.model.test_plan import SAME, TEXT

POLICY = Policy.compile(parse_settings(TEXT, Path("/etc/x.toml")), SAME)
LOADS = st.builds(
    Load,
    engines=st.dictionaries(
        st.sampled_from(["small", "large"]),
        st.builds(EngineLoad, name=st.just("x"), healthy=st.booleans(), expected_wait_s=st.floats(0, 100)),
    ),
    breakers=st.dictionaries(st.sampled_from(["small", "large"]), st.builds(BreakerView, st.just("open"), st.just(3))),
    busy=st.frozensets(st.just(("thrifty", "default"))),
    thresholds=st.dictionaries(st.just("thrifty"), st.sampled_from([0.1, math.inf, -math.inf])),
)
FEATURES = st.builds(
    Features,
    model=st.just("chat"),
    tenant=st.text(max_size=5),
    tier=st.just("default"),
    tags=st.frozensets(st.text(max_size=3)),
    prompt_tokens=st.integers(0, 10_000),
    max_tokens=st.just(5),
    complexity=st.floats(0, 1),
    budget_spent=st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(features=FEATURES, load=LOADS)
def test_deciding_a_record_again_gives_the_same_decision(features: Features, load: Load) -> None:
    plan = make_plan(POLICY, features, load, 1000.0)
    made = decision_record(
        request_id="r1", arrived_at=1000.0, policy=POLICY.digest, features=features, load=load, plan=plan
    )
    made = msgspec.structs.replace(made, attempts=(AttemptRecord("small", "answered", "confident"),), statistic=0.5)
    read = decode_record(encode_record(made))
    assert read == made
    assert read.plan is not None
    assert (read.plan.ttft_at, read.plan.total_at) == (3.0, 50.0)
    assert make_plan(POLICY, read.features, read.load, 0.0) == read.plan
