"""Time slices on the virtual clock: the limit holds, the order is the scheduler's, fast-forward changes no result."""

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from config.load import parse_settings
from config.model.settings import CoreSettings
from engine.core.time_slices import TimeSliceScheduler
from gateway.simulation.simulated_engine import SimulatedEngine
from gateway.simulation.simulated_time_slices import SimulatedTimeSlices, at_once
from policies.records.trace import TraceRequest
from tests.gateway.simulation.test_world import KINDS, play, replicated, rollout
from tests.gateway.simulation.worlds import policy, profile, trace

Steps = list[tuple[str, float, float]]
"""(engine, began, ended)"""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Every step of worlds without fast-forward."""
    found: Steps = []
    finish = SimulatedEngine._finish_step

    def finished(self: SimulatedEngine, shares, now: float):
        found.append((self.title, self._began, now))
        return finish(self, shares, now)

    monkeypatch.setattr(SimulatedEngine, "_finish_step", finished)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_fast_forward_gives_the_same_results_with_time_slices(seed: int) -> None:
    settings = policy(running=3 + seed % 3, memory=[28, 100, 2500][seed % 3], mode=KINDS[seed % 2])
    cores = 1
    if seed > 3:
        settings, cores = replicated(settings, small=2), 2
    requests = trace(seed, 150, per_s=[3.0, 12.0, 40.0][seed % 3])
    costs = profile(slow=[0.3, 1.0][seed % 2], beside=[1.0, 1.4][seed % 4 // 2], cores=cores)
    fast, report = play(settings, costs, requests)
    single, expected = play(settings, costs, requests, fast_forward=False)
    assert rollout(fast) == rollout(single)
    assert report == expected
    _, free = play(settings, profile(slow=[0.3, 1.0][seed % 2], beside=[1.0, 1.4][seed % 4 // 2]), requests)
    assert report != free


@pytest.mark.parametrize(("cores", "replicas"), [(1, 1), (2, 2), (3, 2)])
def test_as_many_engines_compute_as_there_are_cores(steps: Steps, cores: int, replicas: int) -> None:
    settings = replicated(policy(), small=replicas, large=replicas)
    play(settings, profile(cores=cores), trace(2, 150, per_s=40.0), fast_forward=False)
    edges = sorted([(began, 1) for _, began, _ in steps] + [(ended, -1) for _, _, ended in steps])
    computing = most = 0
    for _, change in edges:
        computing += change
        most = max(most, computing)
    assert most == cores


TWO = """\
schema = 1
[engines.small]
model = "s"
kv = { memory = "1000KiB" }
[engines.large]
model = "l"
kv = { memory = "1000KiB" }
[models.small]
[models.large]
[[routes]]
name = "small"
when = { model = ["small"] }
use = { ladder = "small" }
[[routes]]
name = "large"
use = { ladder = "large" }
[[ladders.small]]
to = "small"
[[ladders.large]]
to = "large"
"""


@pytest.mark.parametrize("fast_forward", [False, True])
def test_the_order_is_that_of_the_time_slice_scheduler(steps: Steps, fast_forward: bool) -> None:
    """Two answers at the same time; then their steps are given to a scheduler of the test."""
    settings = parse_settings(TWO, Path("/etc/policy.toml"))
    requests = tuple(
        TraceRequest(at=0, prompt_tokens=20, output_tokens=tokens, max_tokens=tokens, model=name)
        for name, tokens in (("small", 90), ("large", 40))
    )
    world, _ = play(settings, profile(cores=1), requests, fast_forward=fast_forward)
    assert [answer.shown for answer in sorted(world.answers, key=lambda each: each.number)] == [90, 40]
    if fast_forward:
        # While both have work, steps are not fast-forwarded.
        assert len(steps) < 130
        return
    took = {name: [ended - began for title, began, ended in steps if title == name] for name in ("small", "large")}
    scheduler: TimeSliceScheduler[str] = TimeSliceScheduler(1)
    assert scheduler.ask("small")
    assert not scheduler.ask("large")
    holder, order = "small", []
    while took["small"] or took["large"]:
        order.append(holder)
        holder = scheduler.done(holder, took[holder].pop(0), more=bool(took[holder])) or holder
    assert order == [title for title, *_ in steps]
    changes = sum(one != other for one, other in pairwise(order))
    assert 30 < changes < 90


def test_engines_that_need_time_slices() -> None:
    settings = replicated(parse_settings(TWO, Path("/etc/policy.toml")), small=2)
    assert [at_once(settings, cores) for cores in (0, 1, 2, 3)] == [None, 1, 2, None]
    stated = msgspec.structs.replace(settings, cores=CoreSettings(at_once=1))
    assert [at_once(stated, cores) for cores in (0, 8)] == [1, 1]
    engines = {**settings.engines, "small": msgspec.structs.replace(settings.engines["small"], device="cuda")}
    assert at_once(msgspec.structs.replace(settings, engines=engines), 1) is None


def test_work_that_is_aborted_while_it_waits_for_a_time_slice_blocks_no_other() -> None:
    class Member:
        title = "gone"

        def catch_up(self, now: float) -> None:
            pass

        cut = catch_up

        def on_time_slice(self, now: float) -> None:
            time_slices.done("gone", 0.0, now, more=False)

    time_slices = SimulatedTimeSlices(1)
    time_slices.join([Member()])
    assert time_slices.ask("small", 0.0)
    assert not time_slices.ask("gone", 0.0)
    assert time_slices.contended
    time_slices.done("small", 1.0, 1.0, more=False)
    assert not time_slices.contended
    assert time_slices.ask("small", 2.0)
