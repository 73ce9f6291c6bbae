"""Mailbox, reply, supervisor and timers."""

from itertools import count

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.kernel.actor import Actor
from actors.kernel.errors import ActorDied, MailboxFull, ServiceFailed
from actors.kernel.mailbox import Mailbox
from actors.kernel.reply import Reply
from actors.kernel.supervisor import Child, Supervisor
from actors.kernel.timers import TICK_S, TimerWheel


class Ask(msgspec.Struct):
    what: str
    reply: Reply[str]


class Echo(Actor[Ask]):
    """Answers; breaks at the word "crash"."""

    def __init__(self, mailbox: Mailbox[Ask], lives: list[int]) -> None:
        super().__init__(mailbox)
        lives.append(len(lives))
        self.life = len(lives)

    def on(self, message: Ask) -> None:
        if message.what == "crash":
            raise ValueError("as asked")
        message.reply.set(f"{message.what} by {self.life}")


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


async def test_an_abandoned_reply_says_so(autojump_clock):
    reply: Reply[int] = Reply()
    with trio.move_on_after(1):
        await reply.wait()
    assert not reply.set(1)
    other: Reply[int] = Reply()
    assert other.set(1)
    assert not other.set(2)
    assert not other.fail(ValueError())
    assert await other.wait() == 1


async def test_a_restart_loses_the_message_in_hand_and_no_other(autojump_clock):
    mailbox: Mailbox[Ask] = Mailbox("echo", 10)
    lives: list[int] = []
    supervisor = Supervisor([Child("echo", lambda: Echo(mailbox, lives), mailbox)])
    replies: list[Reply[str]] = [Reply() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        for what, reply in zip(("before", "crash", "after"), replies, strict=True):
            mailbox.put_nowait(Ask(what, reply))
        assert await replies[0].wait() == "before by 1"
        with pytest.raises(ActorDied):
            await replies[1].wait()
        assert await replies[2].wait() == "after by 2"
        assert supervisor.restarts == {"echo": 1}
        nursery.cancel_scope.cancel()


async def test_too_many_restarts_fail_the_service_with_one_plain_error(autojump_clock):
    mailbox: Mailbox[Ask] = Mailbox("echo", 100)
    lives: list[int] = []
    for _ in range(4):
        mailbox.put_nowait(Ask("crash", Reply()))
    supervisor = Supervisor([Child("echo", lambda: Echo(mailbox, lives), mailbox)], intensity=3, period_s=60)
    with pytest.raises(ServiceFailed, match="echo ended after 3 restarts") as caught:
        await supervisor.run()
    assert isinstance(caught.value.__cause__, ValueError)
    assert len(lives) == 4


class Sleeper:
    def __init__(self, name: str, log: list[str], error: Exception | None = None) -> None:
        self.name = name
        self.log = log
        self.error = error

    async def run(self) -> None:
        self.log.append(f"+{self.name}")
        try:
            if self.error is not None:
                await trio.sleep(1)
                raise self.error
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.5)
            self.log.append(f"-{self.name}")


async def test_children_stop_in_reverse_one_after_the_other(autojump_clock):
    log: list[str] = []
    children = [Child(name, lambda name=name: Sleeper(name, log)) for name in "abc"]
    async with trio.open_nursery() as nursery:
        await nursery.start(Supervisor(children).run)
        await wait_all_tasks_blocked()
        assert sorted(log) == ["+a", "+b", "+c"]
        nursery.cancel_scope.cancel()
    assert log[3:] == ["-c", "-b", "-a"]


async def test_what_cannot_be_mended_is_not_tried_again(autojump_clock):
    log: list[str] = []
    children = [
        Child("steady", lambda: Sleeper("steady", log)),
        Child("broken", lambda: Sleeper("broken", log, ServiceFailed("the disk is gone"))),
    ]
    with pytest.raises(ServiceFailed, match="the disk is gone"):
        await Supervisor(children).run()
    assert log.count("+broken") == 1
    assert log[-1] == "-steady"


async def test_rest_for_one_restarts_those_that_came_later(autojump_clock):
    log: list[str] = []
    errors = iter([ValueError("once")])
    children = [
        Child("a", lambda: Sleeper("a", log)),
        Child("b", lambda: Sleeper("b", log, next(errors, None))),
        Child("c", lambda: Sleeper("c", log)),
    ]
    async with trio.open_nursery() as nursery:
        await nursery.start(Supervisor(children, strategy="rest_for_one").run)
        await trio.sleep(10)
        assert sorted(log) == ["+a", "+b", "+b", "+c", "+c", "-b", "-c"]
        nursery.cancel_scope.cancel()


async def test_deadlines_fire_once_late_by_a_tick_at_most_and_never_early(autojump_clock):
    timers = TimerWheel()
    fired: list[tuple[float, float]] = []
    numbers = count()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        start = trio.current_time()
        watches = []
        for number in range(50):
            due = start + (number * 37 % 50) * 0.013

            def fire(due=due) -> None:
                next(numbers)
                fired.append((due, trio.current_time()))

            watches.append(timers.watch(due, fire))
        timers.cancel(watches[3])
        timers.cancel(watches[3])
        await trio.sleep(2)
        assert len(fired) == 49
        assert all(due <= at <= due + TICK_S + 1e-9 for due, at in fired)
        assert len(timers) == 0
        nursery.cancel_scope.cancel()


async def test_a_deadline_moves_both_ways(autojump_clock):
    timers = TimerWheel()
    fired: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        start = trio.current_time()
        watch = timers.watch(start + 5, lambda: fired.append(trio.current_time() - start))
        watch.due = start + 8
        await trio.sleep(6)
        assert fired == []
        timers.move(watch, start + 7)
        await trio.sleep(5)
        assert fired == [pytest.approx(7, abs=TICK_S)]
        timers.move(watch, start + 15)
        await trio.sleep(10)
        assert len(fired) == 2
        nursery.cancel_scope.cancel()
