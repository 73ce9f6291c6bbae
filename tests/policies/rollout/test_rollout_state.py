"""The state of experiments, targets and budgets."""

import math
import random
from pathlib import Path

import msgspec
import pytest

from config.load import parse_settings
from config.model.routing import Target
from config.model.settings import Settings
from policies.cascade.calibration import threshold_for_share
from policies.model.features import Features
from policies.model.load import Load
from policies.model.plan import Plan
from policies.rollout.rollout_state import AnswerResult, RolloutState
from policies.routing.policy import Policy, make_plan
from tests.policies.cascade.test_calibration import CALIBRATION

TEXT = """\
schema = 1
[engines.small]
model = "s"
[engines.large]
model = "l"
[models.chat]
[prices]
small = { input = 1.0, output = 1.0 }
large = { input = 10.0, output = 10.0 }
[[routes]]
name = "chat"
use = { cascade = "thrifty" }
[cascades.thrifty]
stages = ["small", "large"]
defer = { threshold = 0.5 }
on_failure = "safe"
[[ladders.safe]]
to = "large"
[[experiments]]
name = "e"
route = ["chat"]
unit = "request"
arms = { control = 50, b = 50 }
override.b = { "cascades.thrifty.defer.threshold" = 2.0 }
guard = { metrics = ["error_rate"], alpha = 0.01 }
"""
NOON = 1_800_000_000.0


def calibrated(**target: float) -> Settings:
    settings = parse_settings(TEXT, Path("/etc/x.toml"))
    cascade = settings.cascades["thrifty"]
    defer = msgspec.structs.replace(cascade.defer, threshold=None, artefact=CALIBRATION)
    cascade = msgspec.structs.replace(cascade, defer=defer, target=Target(**target))
    return msgspec.structs.replace(settings, cascades={"thrifty": cascade}, experiments=())


def plan_of(settings: Settings, request: str, load: Load | None = None) -> Plan:
    features = Features(model="chat", tenant="a", tier="default", prompt_tokens=10, max_tokens=5, request=request)
    return make_plan(Policy.compile(settings, {"small": "t", "large": "t"}), features, load or Load(), 0.0)


def ending(**given: object) -> AnswerResult:
    base = {"at": NOON, "outcome": "ok", "rung": "small", "escalated": False, "fell_back": False, "truncated": False}
    return AnswerResult(**{**base, "ttft_s": 0.1, "slo_ttft_s": 1.0, **given})  # type: ignore[arg-type]


def test_an_arm_that_fails_is_rolled_back_and_its_traffic_is_controls() -> None:
    settings = parse_settings(TEXT, Path("/etc/x.toml"))
    rollout = RolloutState(settings, NOON)
    policy = Policy.compile(settings)
    rng = random.Random(1)
    events = []
    for number in range(2000):
        features = Features(
            model="chat", tenant="a", tier="default", prompt_tokens=10, max_tokens=5, request=f"r{number}"
        )
        plan = make_plan(policy, features, Load(rolled_back=rollout.rolled_back), 0.0)
        assert plan.cascade is not None
        assert plan.cascade.threshold == (2.0 if plan.arm == "b" else 0.5)
        bad = rng.random() < (0.4 if plan.arm == "b" else 0.02)
        events += rollout.on_end(plan, ending(outcome="failed" if bad else "ok", unit=f"r{number}"))
    assert [notice.event for notice in events] == ["experiment_rolled_back"]
    assert rollout.rolled_back == {"e"}
    view = rollout.experiments()["e"]
    assert 50 <= view.arms["b"].requests < 400
    assert "error_rate of arm b" in view.why
    assert not view.sample_ratio_off


def test_a_new_policy_keeps_the_state_of_what_is_unchanged() -> None:
    settings = parse_settings(TEXT, Path("/etc/x.toml"))
    rollout = RolloutState(settings, NOON)
    rollout.roll_back("e", "by hand")
    rollout.apply_settings(parse_settings(TEXT.replace("0.5 }", "0.7 }"), Path("/etc/x.toml")), NOON)
    assert rollout.rolled_back == {"e"}
    rollout.apply_settings(
        parse_settings(TEXT.replace("= 50", "= 50.0").replace("0.01", "0.02"), Path("/etc/x.toml")), NOON
    )
    assert rollout.rolled_back == frozenset()
    assert not rollout.roll_back("unknown", "")


def test_a_share_that_drifts_is_reported_once() -> None:
    settings = calibrated(large_share=0.2)
    rollout, plan = RolloutState(settings, NOON), plan_of(settings, "r")
    assert plan.cascade is not None
    assert plan.cascade.threshold == 0.5
    rng = random.Random(2)
    events = [n.event for _ in range(1500) for n in rollout.on_end(plan, ending(escalated=rng.random() < 0.4))]
    assert events == ["cascade_drifted"]
    view = rollout.cascades(NOON)["thrifty"].share
    assert view is not None
    assert view.drifted


def test_a_budget_moves_the_threshold_of_the_next_plan() -> None:
    settings = calibrated(budget_per_day=0.000_01)
    rollout, plan = RolloutState(settings, NOON), plan_of(settings, "r")
    for number in range(50):
        rollout.on_end(plan, ending(at=NOON + number, cost=0.01, prompt_tokens=100, completion_tokens=10))
    load = Load(thresholds=rollout.thresholds(NOON + 60))
    later = plan_of(settings, "s", load)
    assert later.cascade is not None
    assert plan.cascade is not None
    assert later.cascade.threshold == -math.inf < plan.cascade.threshold
    assert rollout.cascades(NOON + 60)["thrifty"].spent_today == pytest.approx(0.5)
    # A new day begins without further requests: the budget is reset, and the threshold follows.
    tomorrow = rollout.cascades(NOON + 86_400)["thrifty"]
    assert tomorrow.spent_today == 0.0
    assert tomorrow.threshold > later.cascade.threshold


def test_an_arm_with_its_own_target_does_not_follow_the_cascades_controller() -> None:
    experiments = parse_settings(TEXT, Path("/etc/x.toml")).experiments
    override = {"b": {"cascades.thrifty.target.large_share": 0.1}}
    experiment = msgspec.structs.replace(experiments[0], override=override)
    settings = msgspec.structs.replace(calibrated(large_share=0.2, hold=True), experiments=(experiment,))
    planned = [plan_of(settings, f"r{number}", Load(thresholds={"thrifty": 0.9})) for number in range(20)]
    expected = {"control": 0.9, "b": threshold_for_share(CALIBRATION, 0.1)}
    assert {(plan.arm, plan.cascade.threshold) for plan in planned if plan.cascade} == set(expected.items())
