"""The books while a request runs, later, and in the next process."""

import dataclasses

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.api.response import Delta
from actors.ledger.store import Store
from tests.actors.books.world import Books, config, world
from tests.actors.fakes import says


async def test_what_runs_is_held_and_given_back(autojump_clock):
    async with world() as here:
        first, second = await here.open(), await here.open("large", n=2)
        held = here.books()
        assert (held.held_requests, held.held_tokens, held.held_money) == (2, 14 + 24, 240.0 + 440.0)
        assert (held.minute_tokens, held.day_tokens, held.minute_requests) == (38, 38, 2)
        assert (held.money, held.spent_tokens) == (0.0, 0)
        first.close()
        # Somebody may be waiting for what a leaver frees: it is free at once.
        await wait_all_tasks_blocked()
        assert (here.books().held_requests, here.books().held_tokens, here.books().held_money) == (1, 24, 440.0)
        second.close()
        await here.service.assert_clean()
        assert here.books() == Books(minute_requests=2, requests=2)


async def test_another_tenants_books_are_its_own(autojump_clock):
    async with world() as here:
        await here.ask()
        assert here.books("bob") == Books()


@pytest.mark.slow  # a day of the clock has many thousand of its alarms
async def test_the_minute_forgets_and_the_day_does_not(autojump_clock):
    async with world() as here:
        await here.ask()
        await here.service.assert_clean()
        before = here.books()
        assert (before.minute_tokens, before.minute_requests) == (10, 1)
        await trio.sleep(62)
        assert here.books() == dataclasses.replace(before, minute_tokens=0, minute_requests=0)
        await trio.sleep(86_400 + 300)
        assert here.books().day_tokens == 0
        assert here.books().spent_tokens == 10


# A route without a fallback: the worst case of a request is the small model's 4 + 2 * 10.
ALONE = config().replace('[[ladders.small-first]]\nto = "large"\nmark = "fallback"\n', "")


async def test_the_next_process_begins_with_what_was_spent_and_charges_what_broke_off(autojump_clock, tmp_path):
    path = tmp_path / "ledger.sqlite3"
    async with world({"small": says("okay then")}, settings=ALONE, store=Store(path, "first"), clean=False) as here:
        await here.ask()
        await here.service.assert_clean()
        lost = await here.open()
        while not (sent := sum(len(each.token_ids) for each in await lost.next_events() if isinstance(each, Delta))):
            pass
        # Until what was sent is noted; nothing closes it: the process is gone.
        await trio.sleep(6)
    assert here.service.row("r2")["closed_at"] is None
    store = Store(path, "second")
    assert store.recovered == 1
    async with world(settings=ALONE, store=store) as here:
        await wait_all_tasks_blocked()
        money = here.books()
        charged = 4 + 2.0 * sent
        assert (money.money, money.held_money) == (16.0 + charged, 0.0)
        await here.ask()
        await here.service.assert_clean()
        assert here.books().money == 16.0 + charged + 16.0


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_answer_that_ends_as_the_service_stops_is_written(autojump_clock, streamed):
    async with world(clean=False) as here:
        await here.ask(streamed=streamed)
        assert here.service.row("r1")["closed_at"] is None
    row = here.service.row("r1")
    assert (row["outcome"], row["prompt_tokens"], row["completion_tokens"], row["cost"]) == ("ok", 4, 6, 16.0)


async def test_whoever_reads_as_the_service_stops_is_written(autojump_clock):
    async with world(clean=False) as here:
        response = await here.open()
        await response.next_events()
        response.close()
    row = here.service.row("r1")
    assert (row["outcome"], row["completion_tokens"], row["cost"]) == ("gone", 1, 6.0)
