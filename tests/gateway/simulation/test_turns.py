"""Turns on the virtual clock: no more compute than may, in the order of the pure core; leaps change nothing."""

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from config.load import parse_settings
from config.model.settings import CoreSettings
from engine.core.time_slices import TimeSliceScheduler
from gateway.simulation.simulated_engine import SimulatedEngine
from gateway.simulation.turns import SimulatedTimeSlices, at_once
from policies.records.trace import TraceRequest
from tests.gateway.simulation.test_world import KINDS, play, replicated, rollout
from tests.gateway.simulation.worlds import policy, profile, trace

Steps = list[tuple[str, float, float]]
"""(engine, began, ended)"""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Every step of worlds that do not leap."""
    found: Steps = []
    finish = SimulatedEngine._finish_step

    def finished(self: SimulatedEngine, shares, now: float):
        found.append((self.title, self._began, now))
        return finish(self, shares, now)

    monkeypatch.setattr(SimulatedEngine, "_finish_step", finished)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_leaps_lead_to_the_same_in_turns(seed: int) -> None:
    settings = policy(running=3 + seed % 3, memory=[28, 100, 2500][seed % 3], mode=KINDS[seed % 2])
    cores = 1
    if seed > 3:
        settings, cores = replicated(settings, small=2), 2
    requests = trace(seed, 150, per_s=[3.0, 12.0, 40.0][seed % 3])
    costs = profile(slow=[0.3, 1.0][seed % 2], beside=[1.0, 1.4][seed % 4 // 2], cores=cores)
    leaping, report = play(settings, costs, requests)
    single, expected = play(settings, costs, requests, leaps=False)
    assert rollout(leaping) == rollout(single)
    assert report == expected
    _, free = play(settings, profile(slow=[0.3, 1.0][seed % 2], beside=[1.0, 1.4][seed % 4 // 2]), requests)
    assert report != free


@pytest.mark.parametrize(("cores", "replicas"), [(1, 1), (2, 2), (3, 2)])
def test_no_more_compute_than_may_and_nobody_waits_while_a_turn_is_free(
    steps: Steps, cores: int, replicas: int
) -> None:
    settings = replicated(policy(), small=replicas, large=replicas)
    play(settings, profile(cores=cores), trace(2, 150, per_s=40.0), leaps=False)
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


@pytest.mark.parametrize("leaps", [False, True])
def test_the_order_is_that_of_the_turn_book(steps: Steps, leaps: bool) -> None:
    """Two answers at the same time; then their steps once more, through a book by hand."""
    settings = parse_settings(TWO, Path("/etc/policy.toml"))
    requests = tuple(
        TraceRequest(at=0, prompt_tokens=20, output_tokens=tokens, max_tokens=tokens, model=name)
        for name, tokens in (("small", 90), ("large", 40))
    )
    world, _ = play(settings, profile(cores=1), requests, leaps=leaps)
    assert [answer.shown for answer in sorted(world.answers, key=lambda each: each.number)] == [90, 40]
    if leaps:
        # While both have work, there is nothing to leap over.
        assert len(steps) < 130
        return
    took = {name: [ended - began for title, began, ended in steps if title == name] for name in ("small", "large")}
    book: TimeSliceScheduler[str] = TimeSliceScheduler(1)
    assert book.ask("small")
    assert not book.ask("large")
    holder, order = "small", []
    while took["small"] or took["large"]:
        order.append(holder)
        holder = book.done(holder, took[holder].pop(0), more=bool(took[holder])) or holder
    assert order == [title for title, *_ in steps]
    changes = sum(one != other for one, other in pairwise(order))
    assert 30 < changes < 90


def test_who_takes_turns() -> None:
    settings = replicated(parse_settings(TWO, Path("/etc/policy.toml")), small=2)
    assert [at_once(settings, cores) for cores in (0, 1, 2, 3)] == [None, 1, 2, None]
    stated = msgspec.structs.replace(settings, cores=CoreSettings(at_once=1))
    assert [at_once(stated, cores) for cores in (0, 8)] == [1, 1]
    engines = {**settings.engines, "small": msgspec.structs.replace(settings.engines["small"], device="cuda")}
    assert at_once(msgspec.structs.replace(settings, engines=engines), 1) is None


def test_work_that_is_dropped_while_it_waits_for_its_turn_holds_nobody_up() -> None:
    class Member:
        title = "gone"

        def catch_up(self, now: float) -> None:
            pass

        cut = catch_up

        def on_turn(self, now: float) -> None:
            turns.done("gone", 0.0, now, more=False)

    turns = SimulatedTimeSlices(1)
    turns.join([Member()])
    assert turns.ask("small", 0.0)
    assert not turns.ask("gone", 0.0)
    assert not turns.calm
    turns.done("small", 1.0, 1.0, more=False)
    assert turns.calm
    assert turns.ask("small", 2.0)
