"""Drawn margins give an answer the statistic that was drawn, by the statistic's own definition."""

import math
from pathlib import Path

import msgspec
import pytest

from config.load import parse_settings
from config.model.calibration import Statistic
from config.model.routing import Target
from config.model.settings import Settings
from gateway.simulation.draws import SimulatedDraws, UnknownMargins, margins_with
from policies.cascade.calibration import threshold_for_share
from policies.cascade.statistic import statistic_of
from policies.model.features import Features
from policies.model.load import Load
from policies.model.plan import PlannedCascade
from policies.records.trace import TraceRequest
from policies.routing.policy import Policy, make_plan
from tests.policies.cascade.test_calibration import CALIBRATION
from tests.policies.rollout.test_rollout_state import TEXT

TOKENS = 12


@pytest.mark.parametrize("statistic", ["min_margin", "joint_margin", "low_quantile"])
@pytest.mark.parametrize("value", [-math.inf, -2000.0, -60.0, -5.0, -0.3, 0.0, 0.3, 2.0, 20.0, math.inf])
def test_drawn_margins_have_the_drawn_statistic(statistic: Statistic, value: float) -> None:
    margins = margins_with(statistic, value, 7)
    assert statistic_of(statistic, margins.of(0, TOKENS)) == pytest.approx(value)


def policy(statistic: Statistic, middle: float) -> Settings:
    settings = parse_settings(TEXT, Path("/etc/x.toml"))
    rows = tuple(msgspec.structs.replace(row, threshold=row.threshold + middle) for row in CALIBRATION.rows)
    artefact = msgspec.structs.replace(CALIBRATION, statistic=statistic, rows=rows)
    cascade = settings.cascades["thrifty"]
    defer = msgspec.structs.replace(cascade.defer, threshold=None, statistic=statistic, artefact=artefact)
    cascade = msgspec.structs.replace(cascade, defer=defer, target=Target(large_share=0.25))
    return msgspec.structs.replace(settings, cascades={"thrifty": cascade}, experiments=())


def planned(compiled: Policy) -> PlannedCascade:
    features = Features(model="chat", tenant="a", tier="default", prompt_tokens=10, max_tokens=5)
    cascade = make_plan(compiled, features, Load(), 0.0).cascade
    assert cascade is not None
    return cascade


@pytest.mark.parametrize("statistic", ["min_margin", "joint_margin"])
@pytest.mark.parametrize("middle", [-3.0, 0.0, 3.0])
def test_a_quarter_of_the_answers_escalates_where_that_is_the_target(statistic: Statistic, middle: float) -> None:
    settings = policy(statistic, middle)
    compiled = Policy.compile(settings)
    draws, cascade = SimulatedDraws(0, compiled, {}), planned(compiled)
    artefact = settings.cascades["thrifty"].defer.artefact
    assert artefact is not None
    assert cascade.threshold == threshold_for_share(artefact, 0.25)
    request = TraceRequest(at=0.0, prompt_tokens=10, output_tokens=TOKENS)
    escalated = [
        draws.margins(number, request, cascade, TOKENS).escalates_at(cascade, TOKENS) is not None
        for number in range(2000)
    ]
    assert sum(escalated) / len(escalated) == pytest.approx(0.25, abs=0.03)


def test_only_a_request_that_a_cascade_gets_needs_a_share() -> None:
    compiled = Policy.compile(parse_settings(TEXT, Path("/etc/x.toml")))
    draws = SimulatedDraws(0, compiled, {})
    with pytest.raises(UnknownMargins, match="request 4 of the trace, which it takes, has no margins"):
        draws.margins(3, TraceRequest(at=0.0, prompt_tokens=1, output_tokens=1), planned(compiled), 1)
