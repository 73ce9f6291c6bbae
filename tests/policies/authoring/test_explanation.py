"""Explanations are complete and true."""

import datetime as dt
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.load import parse_settings
from config.model.calibration import Calibration, CalibrationData, CalibrationError, CalibrationRow
from config.model.expectations import GivenLoad, GivenRequest
from config.model.routing import Defer, Target
from config.model.settings import Settings
from config.model.table import Seconds
from policies.authoring.decision import Decider
from policies.authoring.explanation import Explanation, explain
from policies.authoring.situation import SOME_NOON, Situation, situation_of
from policies.model.plan import Plan, gated
from policies.records.decision_record import decision_record
from policies.routing.complexity import complexity, complexity_terms

POLICY = """\
schema = 1
[engines.small]
model = "m/small"
[engines.large]
model = "m/large"
[models.chat]
[tiers.interactive]
priority = 10
slo = { ttft = "500ms", itl = "60ms" }
[prices]
small = { input = 0.1, output = 0.2 }
large = { input = 1, output = 2 }
[tiers.batch]
[tenants.anonymous]
tier = "batch"
[tenants.acme]
tier = "interactive"
budget = { amount = 50.0, per = "day", when_spent = "small_only" }
[tenants.bob]
tier = "batch"
[signals.long]
prompt_tokens = { at_least = 4_000 }
[signals.hard]
any = [{ signal = ["long"] }, { complexity = { at_least = 0.7 } }, { has = ["tools"] }]
[signals.busy]
load = { of = "large", queue_wait_over_slo = { at_least = 0.8 } }
[[routes]]
name = "support-chat"
owner = "team-support"
when = { tenant = ["acme"], tag = ["support"], not = { signal = ["long"] } }
use = { cascade = "thrifty" }
deadlines = { queue = "1s", ttft = "2s", stall = "5s", total = "60s" }
caps = { output_tokens = 1_024 }
midstream = "continue"
[[routes]]
name = "nights"
when = { time = { from = "22:00", to = "06:00", zone = "Europe/Berlin" }, tag = ["job"] }
use = { ladder = "safe" }
[[routes]]
name = "everything-else"
use = { ladder = "safe" }
[cascades.thrifty]
stages = ["small", "large"]
defer = { threshold = 0.46 }
emit = { mode = "window", window = 6 }
skip_to_large = { signal = ["hard"] }
when_busy = { signal = "busy", stay_on = "small", release_at = 0.5, dwell = "10s" }
on_failure = "safe"
[[ladders.safe]]
to = "large"
ttft = "2s"
retries = 1
[[ladders.safe]]
to = "small"
mark = "degraded"
[[ladders.safe]]
answer = "All models are busy. Please try again in a moment."
[[experiments]]
name = "cheaper-support"
route = ["support-chat"]
unit = "conversation"
arms = { control = 50, cheaper = 50 }
override.cheaper = { "cascades.thrifty.defer.threshold" = 0.15 }
"""
SETTINGS = parse_settings(POLICY, Path("/etc/x.toml"))
SAME = {"small": "t", "large": "t"}


def asking(settings: Settings = SETTINGS, **given: Any) -> Situation:
    return situation_of(GivenRequest(**given), settings)


def explained(settings: Settings = SETTINGS, **given: Any) -> Explanation:
    found = explain(Decider(settings, SAME), asking(settings, **given))
    # Every explanation can be encoded as JSON.
    assert msgspec.json.decode(msgspec.json.encode(found), type=Explanation) == found
    return found


def test_the_routes_up_to_the_one_that_took_it() -> None:
    found = explained(tenant="bob")
    assert [(seen.route, seen.taken) for seen in found.routes] == [
        ("support-chat", False),
        ("nights", False),
        ("everything-else", True),
    ]
    first = found.routes[0]
    assert (first.owner, first.finding.kind) == ("team-support", "all")
    assert [part.text for part in first.finding.parts] == ["tenant is bob, not acme", "not tagged support", ""]
    assert (found.outcome.route, found.cascade, found.routes_left) == ("everything-else", None, 0)
    assert (found.way, found.midstream) == (("large", "small", "static_answer"), "continue")
    assert found.deadlines is not None
    assert (found.deadlines.queue_s, found.deadlines.ttft_s) == (30.0, 30.0)
    assert found.deadlines.first_by_s == 30.0


def test_the_cascades_terms() -> None:
    load = {"large": GivenLoad(queue_wait=Seconds(0.3))}
    found = explained(tenant="acme", tag=("support",), unit="x", load=load, budget_used=0.4)
    cascade = found.cascade
    assert cascade is not None
    assert (cascade.planned.start_on, cascade.planned.threshold, cascade.threshold_from) == ("small", 0.46, "file")
    assert cascade.busy is not None
    assert (cascade.busy.holds, cascade.busy.release_at, cascade.busy.dwell_s) == (False, 0.5, 10.0)
    assert cascade.busy.finding.text == "queue_wait_over_slo of large 0.6 < 0.8"
    assert cascade.skip_to_large is not None
    assert not cascade.skip_to_large.holds
    assert (cascade.small_can_serve, cascade.large_can_serve) == (True, True)
    assert found.budget is not None
    assert (found.budget.used, found.budget.spent, found.budget.when_spent) == (0.4, False, "small_only")
    busy = explained(tenant="acme", tag=("support",), busy=("thrifty",)).cascade
    assert busy is not None
    assert busy.busy is not None
    assert (busy.busy.holds, busy.planned.why) == (True, "busy")


def test_the_experiments_terms() -> None:
    for unit, arm in (("x", "control"), ("u2", "cheaper")):
        found = explained(tenant="acme", tag=("support",), unit=unit)
        terms = found.experiment
        assert terms is not None
        assert terms.place is not None
        mine = next(each for each in terms.arms if each.name == terms.arm)
        assert (terms.arm, mine.begin <= terms.place < mine.end) == (arm, True)
        assert found.cascade is not None
        assert found.cascade.planned.threshold == (0.15 if arm == "cheaper" else 0.46)
    unknown = explained(tenant="acme", tag=("support",)).experiment
    assert unknown is not None
    assert (unknown.arm, unknown.place) == ("", None)
    rolled_back = explained(tenant="acme", tag=("support",), unit="u2", rolled_back=("cheaper-support",)).experiment
    assert rolled_back is not None
    assert (rolled_back.arm, rolled_back.rolled_back) == ("control", True)


CALIBRATION = Calibration(
    name="support",
    created=dt.datetime.fromtimestamp(SOME_NOON, dt.UTC).date() - dt.timedelta(days=20),
    statistic="min_margin",
    small="small",
    large="large",
    small_digest="",
    large_digest="",
    labels="labelled",
    data=CalibrationData("0" * 64, 400, "x"),
    rows=(CalibrationRow(0.0, 0.0, 0.6), CalibrationRow(1.0, 0.5, 0.8), CalibrationRow(2.0, 1.0, 0.9)),
    small_accuracy=0.6,
    large_accuracy=0.9,
    isotonic=((0.0, 0.2), (2.0, 1.0)),
    error=CalibrationError(0.01, 0.1, 0.02),
)


@pytest.mark.parametrize(("share", "threshold"), [(0.25, 0.5), (0.0, -math.inf), (1.0, math.inf)])
def test_the_calibrations_terms(share: float, threshold: float) -> None:
    defer = Defer(artefact=CALIBRATION, calibration=Path("c.json"), stale_after=Seconds(14 * 86_400))
    thrifty = msgspec.structs.replace(
        SETTINGS.cascades["thrifty"], defer=defer, target=Target(large_share=share), when_busy=None
    )
    settings = msgspec.structs.replace(SETTINGS, cascades={"thrifty": thrifty}, experiments=())
    cascade = explained(settings, tenant="acme", tag=("support",)).cascade
    assert cascade is not None
    assert cascade.calibration is not None
    assert (cascade.threshold_from, cascade.target) == ("calibration", {"large_share": share})
    terms = cascade.calibration
    assert (terms.age_days, terms.stale, terms.expected_large_share) == (20, True, share)
    if math.isfinite(threshold):
        assert cascade.planned.threshold == threshold
        assert terms.probability_right == pytest.approx(0.4)
    moved = asking(settings, tenant="acme", tag=("support",))
    moved = Situation(moved.features, msgspec.structs.replace(moved.load, thresholds={"thrifty": 0.7}))
    steered = explain(Decider(settings, SAME), moved).cascade
    assert steered is not None
    assert (steered.threshold_from, steered.planned.threshold) == ("steering", 0.7)


def test_a_refusal() -> None:
    settings = msgspec.structs.replace(SETTINGS, routes=SETTINGS.routes[:1])
    found = explained(settings, tenant="bob")
    assert found.refused is not None
    assert (found.refused.code, found.deadlines, found.way) == ("no_route", None, ())
    assert [seen.taken for seen in found.routes] == [False]
    unknown = explained(model="unknown")
    assert unknown.refused is not None
    assert (unknown.refused.code, unknown.routes) == ("model_not_found", ())


def test_a_request_of_an_unknown_tier_is_in_its_tenants_tier() -> None:
    situation = asking(tenant="bob")
    elsewhere = Situation(msgspec.structs.replace(situation.features, tier="gone"), situation.load)
    found = explain(Decider(SETTINGS, SAME), elsewhere)
    assert found.outcome == explain(Decider(SETTINGS, SAME), situation).outcome
    assert found.deadlines is not None


def test_the_score() -> None:
    text = "Explain why 17 + 25 must be 42."
    terms = complexity_terms(text, 2)
    found = explain(Decider(SETTINGS, SAME), asking(text=text, turn=2), terms=terms)
    assert found.complexity == terms
    assert found.features.complexity == complexity(text, 2)


def test_what_only_the_server_knew() -> None:
    decider = Decider(SETTINGS, SAME)
    situation = asking(tenant="acme", tag=("support",))
    plan = decider.decide(situation)
    assert isinstance(plan, Plan)

    def recorded(plan: Plan) -> str:
        record = decision_record(
            request_id="r", arrived_at=0.0, policy=decider.policy.digest, features=situation.features,
            load=situation.load, plan=plan,
        )  # fmt: skip
        happened = explain(decider, situation, record=record).happened
        assert happened is not None
        return happened.differs

    assert recorded(plan) == ""
    atomic = gated(plan, "the answer is atomic")
    assert recorded(atomic) == "route support-chat, but emits by gate (gate instead of window: the answer is atomic)"
