"""A recording replayed through the policy that made it decides as was decided: by prompts, and by whole answers."""

import datetime as dt
from pathlib import Path
from random import Random

import msgspec
import pytest
import trio

from actors.kernel.actor import Mailbox
from actors.recording.recorder import RecordedRequest, Recording, append
from config.model.calibration import Calibration, CalibrationData, CalibrationError, CalibrationRow, PromptModel
from config.model.conditions import SignalSettings
from config.model.routing import Target, Use
from config.model.settings import Settings
from gateway.simulation.compare import simulate
from gateway.simulation.draws import UnknownMargins
from gateway.simulation.world import World
from policies.cascade.prompt_model import BUCKETS
from policies.cascade.statistic import new_statistic
from policies.model.features import Features
from policies.model.load import Load
from policies.records.trace import TraceRequest, read_trace
from policies.routing.policy import Policy, make_plan
from tests.gateway.simulation.worlds import policy, profile, trace

REQUESTS = 400
POINTS = 0.02
PROMPT = PromptModel(
    slope=0.5,
    small_bias=0.2,
    small_words=(0.0,) * BUCKETS,
    large_bias=1.0,
    large_words=(0.0,) * BUCKETS,
    small_mean=0.7,
    large_mean=0.8,
)
CALIBRATION = Calibration(
    name="prompts",
    created=dt.date(2026, 11, 1),
    statistic="joint_margin",
    small="small",
    large="large",
    small_digest="",
    large_digest="",
    labels="agreement",
    data=CalibrationData(sha256="", prompts=500, source="made up"),
    rows=(CalibrationRow(-0.9, 0.0, 0.5), CalibrationRow(0.1, 0.4, 0.8), CalibrationRow(0.9, 1.0, 0.9)),
    small_accuracy=0.5,
    large_accuracy=0.9,
    isotonic=((-0.9, 0.1), (0.9, 0.9)),
    error=CalibrationError(expected_calibration_error=0.1, brier=0.1, share_standard_error=0.01),
    prompt=PROMPT,
)


def by_prompts() -> Settings:
    settings = policy(running=32, memory=4000, mode="gate", statistic="joint_margin", quota=10**9)
    cascade = settings.cascades["thrifty"]
    defer = msgspec.structs.replace(cascade.defer, threshold=None, calibration=Path("x.json"), artefact=CALIBRATION)
    changed = msgspec.structs.replace(cascade, defer=defer, target=Target(large_share=0.4))
    return msgspec.structs.replace(settings, cascades={"thrifty": changed})


def served(settings: Settings, seed: int) -> tuple[list[RecordedRequest], float]:
    """What a server would have recorded, and the share that its large stage answered."""
    rng = Random(seed)
    compiled = Policy.compile(settings, {})
    notes, large = [], 0
    for number in range(REQUESTS):
        priors = {"thrifty": (rng.gauss(0.5, 2.0), rng.uniform(0.5, 0.99))}
        features = Features(
            model="chat", tenant="acme", tier="fast", prompt_tokens=20, max_tokens=80, priors=priors, has=frozenset()
        )
        cascade = make_plan(compiled, features, Load(), 0.0).cascade
        assert cascade is not None
        doubt = rng.expovariate(0.7)
        margins = [rng.uniform(doubt, 6.0) for _ in range(rng.randrange(2, 60))]
        statistic = new_statistic("joint_margin")
        seen = 0
        for margin in margins:
            statistic.add(margin)
            seen += 1
            if not statistic.value >= cascade.threshold:
                break
        is_large = not statistic.value >= cascade.threshold
        large += is_large
        output = rng.randrange(2, 20) if is_large else len(margins)
        rung = "large" if is_large else "small"
        at = trio.current_time() + number
        notes.append(RecordedRequest(features, at, rung=rung, output_tokens=output, margins=tuple(margins[:seen])))
    return notes, large / REQUESTS


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_large_share_is_that_of_the_recording(seed: int, tmp_path: Path) -> None:
    settings = by_prompts()
    notes, share = served(settings, seed)
    recording = Recording(tmp_path / "r.jsonl", Mailbox("recorder", 4), 0.0)
    append(recording, notes)
    world = World(settings, profile(), read_trace(recording.path), seed=0, shares={})
    world.run(lambda _now, _arrived: None)
    answered = [answer for answer in world.answers if answer.outcome == "ok"]
    assert len(answered) == REQUESTS
    assert 0.1 < share < 0.9
    assert sum(answer.rung == "large" for answer in answered) / REQUESTS == pytest.approx(share, abs=POINTS)


def test_an_old_recording_without_priors_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    path.write_text('{"penstock_trace":1,"started":1.0}\n{"at":0.5,"prompt_tokens":3,"output_tokens":2}\n')
    (request,) = read_trace(path)
    assert request.priors == {}


def notes_of(requests: tuple[TraceRequest, ...]) -> str:
    compared = simulate(
        {"p": policy()}, profile(), requests, trace_name="t", profile_name="p", seed=0, speed=1, shares={},
        progress=lambda _line: None,
    )  # fmt: skip
    return "\n".join(compared.notes)


def test_only_what_a_cascade_takes_needs_margins() -> None:
    settings = policy()
    (chat,) = settings.routes
    plain = msgspec.structs.replace(chat, name="plain", when=SignalSettings(tenant=("acme",)), use=Use(ladder="safe"))
    settings = msgspec.structs.replace(settings, routes=(plain, chat))
    taken, passed = (
        msgspec.structs.replace(request, tenant=tenant, margins=margins)
        for request, tenant, margins in zip(trace(1, 2), ("batch", "acme"), ((2.0,) * 9, ()), strict=True)
    )
    world = World(settings, profile(), (taken, passed), seed=0, shares={})
    world.run(lambda _now, _arrived: None)
    assert [answer.outcome for answer in world.answers] == ["ok", "ok"]
    unknown = msgspec.structs.replace(passed, tenant="batch")
    with pytest.raises(UnknownMargins, match=r"request 2 of the trace.*--escalate thrifty"):
        World(settings, profile(), (taken, unknown), seed=0, shares={}).run(lambda _now, _arrived: None)


def test_assumed_tenants_are_reported() -> None:
    requests = trace(1, 20)
    unnamed = tuple([msgspec.structs.replace(request, tenant="") for request in requests])
    assert "20 requests name no tenant: 'anonymous' (tier 'fast'), the first of 3, is used" in (notes_of(unnamed))
    assert "tenant" not in notes_of(requests)
