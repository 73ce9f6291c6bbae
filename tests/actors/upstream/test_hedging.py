"""A second call beside a slow one: the first to answer goes on, and nothing of the other is left or billed."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.upstream.hedging import Hedging
from tests.actors.upstream.network import Asked, says
from tests.actors.upstream.test_upstream_actor import CHAT, stage

TWO = """
schema = 1
[ledger]
path = ":memory:"
[upstreams.cloud]
urls = ["http://a/v1", "http://b/v1"]
hedge = {{ share = {share} }}
concurrent = {concurrent}
[models.any]
[[routes]]
name = "all"
use = {{ ladder = "one" }}
deadlines = {{ ttft = "60s", stall = "60s", total = "300s" }}
[[ladders.one]]
to = "cloud"
"""


def settings(share: float = 1.0, concurrent: int = 8) -> str:
    return TWO.format(share=share, concurrent=concurrent)


def test_the_delay_is_a_percentile_once_there_are_enough() -> None:
    hedging = Hedging(90.0, 0.5, has_room=lambda: True)
    for number in range(19):
        hedging.answered(float(number))
    assert hedging.delay_s() is None
    hedging.answered(19.0)
    assert hedging.delay_s() == pytest.approx(1.05 * 18.0)


def test_second_calls_are_a_share_of_all() -> None:
    hedging = Hedging(95.0, 0.1, has_room=lambda: True)
    taken = 0
    for _ in range(1000):
        hedging.began()
        taken += hedging.take()
    assert 95 <= taken <= 100


def test_few_are_saved_up() -> None:
    hedging = Hedging(95.0, 0.1, has_room=lambda: True)
    for _ in range(1000):
        hedging.began()
    assert [hedging.take() for _ in range(7)] == [True] * 5 + [False] * 2


def test_the_retry_budget_bounds_them_too() -> None:
    room = [True, True, False, True]
    hedging = Hedging(95.0, 1.0, has_room=lambda: room[0])
    for _ in range(5):
        hedging.began()
    taken = []
    while room:
        taken.append(hedging.take())
        room.pop(0)
    assert (taken, hedging.running) == ([True, True, False, True], 3)
    hedging.give_back()
    assert hedging.running == 2


class Server:
    """Answers at once, except when told to be slow."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.slow_s = 0.0
        self.fails = False
        self.cut = False

    async def __call__(self, asked: Asked) -> None:
        await trio.sleep(self.slow_s)
        if self.fails:
            await asked.status(500)
        elif self.cut:
            await asked.say(self.text)
            await asked.stream.aclose()
        else:
            await says(self.text, pause_s=0.01)(asked)


async def warm(service, servers) -> None:
    for _ in range(30):
        await service.ask("any", prompts=CHAT)


async def hedges(service) -> dict[str, int]:
    await trio.sleep(0.1)  # a call's task ends a little later than its answer
    return dict(service.service.statistics().upstreams["cloud"].hedges_total)


async def test_the_second_answers_first(autojump_clock) -> None:
    a, b = Server("one"), Server("two")
    async with stage({"a": a, "b": b}, text=settings()) as (service, network):
        await warm(service, network)
        before = len(network.asked)
        a.slow_s, b.slow_s = 30.0, 0.0
        began = trio.current_time()
        answer = await service.ask("any", prompts=CHAT)
        if network.asked[before].host == "b":
            answer = await service.ask("any", prompts=CHAT)
        assert answer.text() == "two"
        assert trio.current_time() - began < 1
        assert answer.end.usage.completion_tokens == 1
        assert await hedges(service) == {"won": 1, "lost": 0}
        await wait_all_tasks_blocked()
        await service.assert_clean()
        assert sum(row["completion_tokens"] for row in service.rows().values()) == len(service.rows())


async def test_the_first_answers_after_all(autojump_clock) -> None:
    a, b = Server("one"), Server("two")
    async with stage({"a": a, "b": b}, text=settings()) as (service, network):
        await warm(service, network)
        before = len(network.asked)
        a.slow_s = b.slow_s = 2.0
        answer = await service.ask("any", prompts=CHAT)
        hosts = [each.host for each in network.asked[before:]]
        assert sorted(hosts) == ["a", "b"]
        assert answer.text() == {"a": "one", "b": "two"}[hosts[0]]
        assert await hedges(service) == {"won": 0, "lost": 1}


@pytest.mark.parametrize("which", [0, 1])
async def test_one_of_both_fails(autojump_clock, which) -> None:
    """Its failure is not the answer's, as long as the other one runs."""
    servers = [Server("one"), Server("two")]
    async with stage(dict(zip("ab", servers, strict=True)), text=settings()) as (service, network):
        await warm(service, network)
        servers[which].slow_s, servers[which].fails = 1.0, True
        servers[1 - which].slow_s = 3.0
        answer = await service.ask("any", prompts=CHAT)
        assert answer.text() == ("two", "one")[which]
        await service.assert_clean()


async def test_both_fail(autojump_clock) -> None:
    a, b = Server("one"), Server("two")
    async with stage({"a": a, "b": b}, text=settings()) as (service, network):
        await warm(service, network)
        for server in (a, b):
            server.slow_s, server.fails = 1.0, True
        answer = await service.ask("any", prompts=CHAT)
        assert answer.refusal is not None
        await service.assert_clean()


async def test_the_winner_breaks_off(autojump_clock) -> None:
    a, b = Server("one"), Server("two")
    async with stage({"a": a, "b": b}, text=settings()) as (service, network):
        await warm(service, network)
        a.slow_s = b.slow_s = 1.0
        a.cut = b.cut = True
        answer = await service.ask("any", prompts=CHAT)
        assert answer.end.served.attempts[0].why == "upstream_truncated"
        await service.assert_clean()


async def test_a_client_that_leaves_ends_both(autojump_clock) -> None:
    a, b = Server("one"), Server("two")
    async with stage({"a": a, "b": b}, text=settings()) as (service, network):
        await warm(service, network)
        a.slow_s = b.slow_s = 50.0
        with trio.move_on_after(5):
            await service.ask("any", prompts=CHAT)
        await wait_all_tasks_blocked()
        assert network.open == 0
        await service.assert_clean()


@pytest.mark.parametrize("given", [{"share": 0.001}, {"concurrent": 1}], ids=["share", "slots"])
async def test_its_bounds(autojump_clock, given) -> None:
    a, b = Server("one"), Server("two")
    async with stage({"a": a, "b": b}, text=settings(**given)) as (service, network):
        await warm(service, network)
        before = len(network.asked)
        a.slow_s = b.slow_s = 2.0
        await service.ask("any", prompts=CHAT)
        assert len(network.asked) == before + 1
        assert await hedges(service) == {"won": 0, "lost": 0}
