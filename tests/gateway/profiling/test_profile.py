"""Step costs: fitted to what was measured, read from a file, the same one by one and many at once."""

from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model.settings import EngineSettings
from engine.model.model_config import ModelConfig
from engine.scheduling.batch import Batch
from engine.scheduling.scheduler import Scheduler
from engine.testing.fake_runner import FakeRunner
from engine.text.tokenizer import Tokenizer
from gateway.profiling.measure import measure_engine, shape_of_batch
from gateway.profiling.profile import (
    BadProfile,
    EngineProfile,
    EngineTimes,
    Profile,
    ServiceTimes,
    StepCost,
    StepShape,
    doubts,
    read_profile,
    shape_of,
)
from gateway.profiling.step_cost_fit import error_of, fit, non_negative
from gateway.simulation.compare import simulate
from tests.gateway.simulation.worlds import policy, profile, trace
from tests.paths import ROOT

COST = StepCost(
    fixed=0.001,
    per_sequence=2e-5,
    per_sample=1e-5,
    per_context_token=3e-7,
    per_attention=2e-8,
    knots=(0, 2, 8, 32, 128),
    slopes=(2e-4, 1e-4, 5e-5, 3e-5, 2e-5),
)


def shapes(rng: Random, count: int) -> list[StepShape]:
    found = []
    for _ in range(count):
        rows, chunk = rng.randrange(0, 33), rng.choice([0, rng.randrange(2, 256)])
        rows = rows or int(not chunk)
        begun = rng.randrange(500)
        found.append(
            StepShape(
                tokens=rows + chunk,
                sequences=rows + bool(chunk),
                samples=rows + rng.choice([0, bool(chunk)]),
                context=rows * rng.randrange(1, 900),
                attention=chunk * (begun + chunk / 2),
            )
        )
    return found


def test_a_fit_finds_the_costs_that_made_the_times() -> None:
    rng = Random(1)
    seen = shapes(rng, 400)
    found = fit(seen, [COST.seconds(shape) for shape in seen])
    fresh = shapes(rng, 200)
    error = error_of(found, fresh, [COST.seconds(shape) for shape in fresh])
    assert error.worst < 0.02


def test_a_disturbed_step_does_not_bend_the_fit() -> None:
    rng = Random(3)
    seen = shapes(rng, 400)
    times = [COST.seconds(shape) * (rng.choice([3.0, 30.0]) if rng.random() < 0.1 else 1.0) for shape in seen]
    fresh = shapes(rng, 200)
    assert error_of(fit(seen, times), fresh, [COST.seconds(shape) for shape in fresh]).worst < 0.05


def test_a_fit_has_no_negative_part_whatever_the_times() -> None:
    rng = Random(2)
    seen = shapes(rng, 60)
    found = fit(seen, [rng.uniform(0.001, 0.1) for _ in seen])
    assert min(found.fixed, found.per_sequence, found.per_sample, found.per_context_token, *found.slopes) >= 0


def test_non_negative_least_squares_stops_at_zero() -> None:
    rows = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    assert non_negative(rows, np.array([3.0, 2.0, 1.0])) == pytest.approx([2.0, 0.0])
    assert non_negative(rows, np.array([3.0, 5.0, 7.0])) == pytest.approx([1.0, 2.0])


@given(st.integers(1, 40), st.integers(1, 9000), st.integers(0, 99), st.integers(1, 60), st.booleans())
def test_many_decodes_take_what_they_take_one_by_one(
    rows: int, context: int, number: int, steps: int, beside: bool
) -> None:
    engine = EngineProfile(
        cost=COST,
        max_model_len=99,
        kv_token_bytes=1,
        spread=(0.9, 1.0, 1.3),
        served=ServiceTimes(factor=1.1, per_sample=3e-5, pauses=(0.0, 1e-3)),
        beside=ServiceTimes(factor=1.7, pauses=(2e-4, 3e-4, 4e-4, 9e-3)),
    )
    clockwork = EngineTimes(engine, 64, (2, 0, 1))
    now, ends = 5.0, []
    for step in range(steps):
        shape = StepShape(rows, rows, rows, context + rows * step, 0.0)
        now += clockwork.step(shape, number + step, beside=beside)
        ends.append(now)
    assert clockwork.decodes(5.0, rows, context, number, steps, beside=beside).tolist() == ends


def test_pieces_rise_with_their_slopes() -> None:
    assert [COST.pieces(tokens) for tokens in (0, 1, 2, 8, 10)] == pytest.approx([0, 2e-4, 4e-4, 1e-3, 1.1e-3])


def test_the_runner_sees_the_shapes_that_the_simulation_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[StepShape] = []
    decide = Scheduler.schedule

    def schedule(self: Scheduler) -> object:
        plan = decide(self)
        if plan is not None:
            planned.append(shape_of(plan.shares))
        return plan

    monkeypatch.setattr(Scheduler, "schedule", schedule)
    seen: list[StepShape] = []

    class Seeing(FakeRunner):
        def execute(self, batch: Batch):
            seen.append(shape_of_batch(batch))
            return super().execute(batch)

    said: list[str] = []
    measured = measured_with(Seeing(total_blocks=400, max_model_len=200), said)
    assert seen == planned
    assert len(seen) > 500
    assert measured.points
    assert measured.error is not None
    assert any("relative error of the fit" in line for line in said)


def measured_with(runner: FakeRunner, said: list[str]) -> EngineProfile:
    model = ModelConfig(**dict.fromkeys(ModelConfig.__struct_fields__, 1))
    settings = EngineSettings(model=Path("none"), max_running=8)
    return measure_engine(runner, Tokenizer.load(ROOT / "engine/zoo/models/small"), settings, model, said.append)


def test_a_profile_goes_through_its_file(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(msgspec.json.encode(profile()))
    assert read_profile(path) == profile()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"penstock_profile": 2}, "is not a profile"),
        ({"surprise": 1}, "is not a profile"),
        (
            {"engines": {"small": {"cost": {"fixed": 0.0, "slopes": [0.0]}, "max_model_len": 9, "kv_token_bytes": 1}}},
            "engine 'small': a step must take some time",
        ),
        (
            {"engines": {"small": {"cost": {"fixed": 1.0, "slopes": [0, 1]}, "max_model_len": 9, "kv_token_bytes": 1}}},
            "engine 'small': knots must rise from 0",
        ),
    ],
)
def test_a_profile_that_cannot_be_used(tmp_path: Path, change: dict[str, object], said: str) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(msgspec.json.encode({**msgspec.to_builtins(profile()), **change}))
    with pytest.raises(BadProfile, match=said):
        read_profile(path)


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadProfile, match="make it with `penstock engine profile`"):
        read_profile(tmp_path / "none.json")


def served(alone: float, beside: float) -> Profile:
    """The small engine's pauses, in seconds, by itself and beside another one."""
    found = profile()
    services = {"served": ServiceTimes(pauses=(alone,)), "beside": ServiceTimes(pauses=(beside,))}
    small = msgspec.structs.replace(found.engines["small"], **services)
    return msgspec.structs.replace(found, engines={**found.engines, "small": small})


def test_a_plausible_profile_raises_no_doubt() -> None:
    assert doubts(profile()) == ()
    assert doubts(served(0.001, 0.004)) == ()


def test_no_engine_is_faster_beside_another_one() -> None:
    (said,) = doubts(served(0.004, 0.001))
    assert said.startswith("engine small: a decode takes 8.")
    assert "not idle" in said


def test_a_step_in_service_has_some_relation_to_its_own_time() -> None:
    (said,) = doubts(served(0.3, 0.3))
    assert "in service" in said


def test_a_simulation_tells_the_doubts_of_its_profile() -> None:
    comparison = simulate(
        {"policy": policy()},
        served(0.004, 0.001),
        trace(1, 20),
        trace_name="t",
        profile_name="p",
        seed=0,
        speed=1.0,
        shares={},
        progress=lambda _: None,
    )
    assert any("not idle" in note for note in comparison.notes)
