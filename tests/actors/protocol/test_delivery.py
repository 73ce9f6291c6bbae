"""The slot between an engine and a reader."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from actors.protocol.delivery import MOST_CHARACTERS, MOST_TOKENS, SEPARATE_OUTPUTS, Delivery, JobStarted
from engine.messages import Finish, TokenDelta
from policies.fallback.fallback_machine import AttemptFailed


def output(sequence: int, token: int, *, end: bool = False) -> TokenDelta:
    finish = Finish(reason="length", prompt_tokens=1, completion_tokens=1) if end else None
    return TokenDelta(sequence, (token,), chr(65 + token % 26), (float(token),), finish=finish)


@given(st.lists(st.integers(0, 3), max_size=200))
def test_nothing_is_lost_or_reordered_however_much_is_merged(sequences):
    delivery = Delivery()
    for token, sequence in enumerate(sequences):
        assert delivery.put(1, output(sequence, token))

    async def read():
        delivery.alarm()
        return await delivery.take(quiet=False)

    items = trio.run(read)
    assert len(items) <= SEPARATE_OUTPUTS + 4
    for sequence in range(4):
        mine = [item for _, item in items if item.sequence_id == sequence]
        tokens = [token for token, owner in enumerate(sequences) if owner == sequence]
        assert [token for item in mine for token in item.token_ids] == tokens
        assert "".join(item.text for item in mine) == "".join(chr(65 + token % 26) for token in tokens)
        assert [margin for item in mine for margin in item.margins] == tokens


async def test_a_quiet_reader_is_woken_by_the_end_only(autojump_clock):
    delivery = Delivery()
    got = []

    async def read():
        got.append(await delivery.take(quiet=True))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        delivery.notify(1, JobStarted(0.0))
        delivery.put(1, output(0, 1))
        await wait_all_tasks_blocked()
        assert got == []
        delivery.put(1, output(0, 2, end=True))
    assert [type(item).__name__ for _, item in got[0]] == ["JobStarted", "TokenDelta", "TokenDelta"]


async def test_a_notice_keeps_its_place(autojump_clock):
    delivery = Delivery()
    for token in range(SEPARATE_OUTPUTS + 10):
        delivery.put(1, output(0, token))
    delivery.notify(1, AttemptFailed(kind="engine_failed", message="gone", retryable=True))
    items = await delivery.take(quiet=False)
    assert isinstance(items[-1][1], AttemptFailed)
    assert sum(len(item.token_ids) for _, item in items[:-1]) == SEPARATE_OUTPUTS + 10


async def test_after_the_end_nothing_is_kept(autojump_clock):
    delivery = Delivery()
    delivery.close()
    assert not delivery.put(1, output(0, 1))
    delivery.notify(1, AttemptFailed(kind="engine_failed", message="gone", retryable=True))
    assert not delivery._items


def wide(characters: int, tokens: int = 1) -> TokenDelta:
    return TokenDelta(0, tuple(range(tokens)), "x" * characters, ())


BOUNDS = {
    "characters": (wide(MOST_CHARACTERS // 4), wide(1)),
    "one long text": (wide(MOST_CHARACTERS // 4), wide(MOST_CHARACTERS)),
    "tokens": (wide(1, MOST_TOKENS // 4), wide(1)),
    "tokens without text": (wide(0, MOST_TOKENS // 4), wide(0)),
}


@pytest.mark.parametrize("kind", BOUNDS)
async def test_what_may_wait_for_a_slow_reader_is_bounded(kind: str) -> None:
    quarter, more = BOUNDS[kind]
    delivery = Delivery()
    for _ in range(3):
        # What was read counts no more, what was put back counts again.
        assert all(delivery.put(1, quarter) for _ in range(4))
        delivery.put_back(await delivery.take(quiet=False))
        assert [item for _, item in await delivery.take(quiet=False)] == [quarter] * 4
    assert all(delivery.put(1, quarter) for _ in range(4))
    delivery.put_back(await delivery.take(quiet=False))
    assert not delivery.put(1, more)
    assert delivery.overrun
    # The reader gets what was kept, and nothing more is.
    assert not delivery.put(1, wide(0, 0))
    assert [item for _, item in await delivery.take(quiet=False)] == [quarter] * 4


@pytest.mark.parametrize("output", [wide(MOST_CHARACTERS // 2 + 1), wide(0, MOST_TOKENS // 2 + 1)])
async def test_a_quiet_reader_is_woken_at_half_of_the_bounds(output: TokenDelta, autojump_clock) -> None:
    delivery = Delivery()
    got = []

    async def read():
        got.extend(await delivery.take(quiet=True))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        delivery.put(1, wide(1))
        await wait_all_tasks_blocked()
        assert got == []
        delivery.put(1, output)
    assert [item for _, item in got] == [wide(1), output]
