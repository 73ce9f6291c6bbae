"""A mailbox is bounded, and wakes its reader once for many messages."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.kernel.errors import MailboxFull
from actors.kernel.mailbox import Mailbox


def test_a_mailbox_is_bounded_but_takes_what_must_not_be_lost():
    mailbox: Mailbox[int] = Mailbox("small", 2)
    mailbox.put_nowait(1)
    mailbox.put_nowait(2)
    with pytest.raises(MailboxFull):
        mailbox.put_nowait(3)
    mailbox.put_unbounded(4)
    assert [mailbox.take() for _ in range(len(mailbox))] == [1, 2, 4]
    assert mailbox.in_hand == 4
    assert mailbox.refused_total == 1


async def test_a_batch_is_there_in_one_wake(autojump_clock):
    mailbox: Mailbox[int] = Mailbox("batch", 10)
    wakes: list[int] = []

    async def reader() -> None:
        while True:
            await mailbox.ready()
            wakes.append(len(mailbox))
            for _ in range(len(mailbox)):
                mailbox.take()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await wait_all_tasks_blocked()
        for number in range(5):
            mailbox.put_nowait(number)
        await wait_all_tasks_blocked()
        assert wakes == [5]
        nursery.cancel_scope.cancel()


async def test_a_quiet_message_waits_for_company(autojump_clock):
    mailbox: Mailbox[int] = Mailbox("quiet", 40)
    taken: list[int] = []

    async def reader() -> None:
        while True:
            await mailbox.ready()
            while len(mailbox):
                taken.append(mailbox.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await wait_all_tasks_blocked()
        mailbox.put_deferred(0)
        await wait_all_tasks_blocked()
        assert taken == []
        mailbox.put_nowait(1)
        await wait_all_tasks_blocked()
        assert taken == [0, 1]
        for number in range(10):
            mailbox.put_deferred(number)
        await wait_all_tasks_blocked()
        assert len(taken) == 12
        nursery.cancel_scope.cancel()
