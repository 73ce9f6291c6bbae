"""Step times seen in a served engine, told apart by what else computes, and fitted with every pause."""

from itertools import count, pairwise
from pathlib import Path
from random import Random

import msgspec
import pytest

from config.load import parse_settings
from config.model.settings import EngineSettings
from engine.messages import Submit
from engine.sampling.params import SamplingParams
from engine.testing.fake_runner import FakeRunner
from engine.text.tokenizer import Tokenizer
from gateway.errors import CliError
from gateway.profiling import measure, service_profiler
from gateway.profiling.measure import TimedEngine, TimedStep, beside
from gateway.profiling.profile import EngineTimes, StepShape
from gateway.profiling.step_cost_fit import service_of
from tests.gateway.simulation.worlds import profile
from tests.paths import ZOO_MODELS
from tests.patience import PATIENCE_S

MODELS = ZOO_MODELS
SHAPE = StepShape(1, 1, 1, 10, 0.0)
COST = profile(jitter=False).engines["small"].cost
CONFIG = f"""\
schema = 1
[engines.small]
model = "{MODELS}/small"
max_running = 2
[models.small]
[[routes]]
name = "small"
use = {{ ladder = "small" }}
[[ladders.small]]
to = "small"
"""


def mixed(rng: Random, count: int) -> list[StepShape]:
    decodes = [StepShape(rows, rows, rows, rows * 50, 0.0) for rows in (1, 2, 4)]
    prefill = StepShape(60, 3, 3, 90, 58 * 29.0)
    return [rng.choice([*decodes, *decodes, prefill]) for _ in range(count)]


def test_a_service_takes_as_long_as_what_was_measured_also_with_rare_long_pauses() -> None:
    rng = Random(1)
    shapes = mixed(rng, 4000)
    took = [1.8 * COST.seconds(each) + 2e-4 * each.samples + rng.choice([1e-4] * 99 + [0.1]) for each in shapes]
    service = service_of(COST, shapes, took)
    assert service.factor == pytest.approx(1.8, rel=0.25)
    engine = msgspec.structs.replace(profile().engines["small"], spread=(1.0,), cost=COST, served=service)
    clockwork = EngineTimes(engine, 64, (0,))
    played = [clockwork.step(shape, number, beside=False) for number, shape in enumerate(shapes)]
    assert sum(played) == pytest.approx(sum(took), rel=0.05)
    assert max(played) > 0.05


def test_pauses_come_in_an_order_that_keeps_each_of_them() -> None:
    engine = profile(jitter=False).engines["small"]
    pauses = tuple(number / 1000 for number in range(10))
    served = msgspec.structs.replace(engine.served, per_sample=0.0, pauses=pauses)
    clockwork = EngineTimes(msgspec.structs.replace(engine, served=served), 64, (0,))
    own = engine.cost.seconds(SHAPE)
    found = [clockwork.step(SHAPE, number, beside=False) - own for number in range(10)]
    assert sorted(found) == pytest.approx(list(pauses))
    assert found != sorted(found)


def test_a_step_is_beside_another_if_that_one_computes_in_its_middle() -> None:
    steps = [TimedStep(SHAPE, begin, begin + 1.0, 1.0) for begin in (0.0, 1.0, 2.0, 5.0)]
    other = [TimedStep(SHAPE, 1.3, 1.7, 0.4), TimedStep(SHAPE, 5.6, 9.0, 3.4)]
    assert beside(steps, [other]) == [False, True, False, False]
    assert beside(steps, [[], other, steps[3:]]) == [False, True, False, True]
    assert beside(steps, []) == [False] * 4


def test_a_timed_engine_counts_from_step_to_step_while_there_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = count()
    monkeypatch.setattr(measure, "perf_counter", lambda: float(next(now)))
    engine = TimedEngine(FakeRunner(), Tokenizer.load(MODELS / "small"), EngineSettings(model=MODELS / "small"))
    params = SamplingParams(max_tokens=4, temperature=0.0, ignore_eos=True)
    for number in (1, 2):
        engine.accept(Submit(sequence_id=number, prompt_token_ids=(5, 6, 7), params=params))
        while engine.has_work:
            for _ in range(100 * len(engine.steps)):
                next(now)  # it waits for its turn
            engine.step()
    first, second = engine.steps[:4], engine.steps[4:]
    assert len(second) == 4
    for run in (first, second):
        assert run[0].period == run[0].ended - run[0].began
        # One tick from a step's end to the loop's question, and one for the question itself.
        assert [each.period for each in run[1:]] == [each.ended - each.began + 2 for each in run[1:]]
        assert all(b.ended - a.ended > b.period + 90 for a, b in pairwise(run))
    assert list(engine.submitted) == [1, 2]
    assert engine.first_out == {1: first[0].ended, 2: second[0].ended}
    engine.forget()
    assert (engine.steps, engine.submitted, engine.first_out) == ([], {}, {})


def test_a_probe_sees_a_served_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(service_profiler, "_WARM_S", 0.1)
    monkeypatch.setattr(service_profiler, "_FEWEST", 2)
    settings = parse_settings(CONFIG, tmp_path / "policy.toml")
    said: list[str] = []
    seconds = 0.3
    while True:
        # On a busy machine a phase may be over before the server has answered anything.
        monkeypatch.setattr(service_profiler, "_PHASE_S", seconds)
        try:
            engines, service = service_profiler.probe(settings, {"small": profile().engines["small"]}, said.append)
        except CliError as error:
            if "no answer" not in str(error) or seconds > PATIENCE_S / 10:
                raise
            seconds *= 3
        else:
            break
    assert any("by itself" in line for line in said)
    assert engines["small"].served.pauses
    assert engines["small"].beside is None
    assert 0 < service.arrival_s < PATIENCE_S
    assert 0 < service.delivery_s < PATIENCE_S
