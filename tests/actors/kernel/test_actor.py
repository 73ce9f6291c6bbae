"""Actors, their mailboxes, replies and restarts."""

import msgspec
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from actors.kernel.actor import Actor, Mailbox, Reply
from actors.kernel.errors import ActorDied, MailboxClosed, MailboxFull, RestartsExhausted, ServiceFailed
from actors.kernel.supervisor import Child, Supervisor
from policies.lifecycle.supervision import Backoff


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


async def test_too_many_restarts_end_the_group_with_one_plain_error(autojump_clock):
    mailbox: Mailbox[Ask] = Mailbox("echo", 100)
    lives: list[int] = []
    for _ in range(4):
        mailbox.put_nowait(Ask("crash", Reply()))
    supervisor = Supervisor([Child("echo", lambda: Echo(mailbox, lives), mailbox)], intensity=3, period_s=60)
    with pytest.raises(RestartsExhausted, match="echo ended after 3 restarts within 60 s: as asked") as caught:
        await supervisor.run()
    assert isinstance(caught.value.__cause__, ValueError)
    assert len(lives) == 4


class Sleeper:
    redelivered = ()

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


class Count(msgspec.Struct):
    number: int


class Counter(Actor[Count]):
    """Dies of each message as often as `deaths` says, before or after it has counted it."""

    redelivered = (Count,)

    def __init__(self, mailbox: Mailbox[Count], seen: list[int], deaths: dict[int, int]) -> None:
        super().__init__(mailbox)
        self.seen = seen
        self.deaths = deaths

    def on(self, message: Count) -> None:
        if self.deaths.get(message.number, 0):
            self.deaths[message.number] -= 1
            raise ValueError("as asked")
        self.seen.append(message.number)


@pytest.mark.parametrize(("deaths", "seen", "lost"), [(1, [1, 2, 3], []), (2, [1, 3], [2]), (9, [1, 3], [2])])
async def test_a_declared_message_is_handed_to_the_next_life_once(autojump_clock, deaths, seen, lost):
    gone: list[Count] = []
    mailbox: Mailbox[Count] = Mailbox("counter", 10, gone.append)
    counted: list[int] = []
    left = {2: deaths}
    supervisor = Supervisor([Child("counter", lambda: Counter(mailbox, counted, left), mailbox)])
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        with capture_logs() as logs:
            for number in (1, 2, 3):
                mailbox.put_nowait(Count(number))
            await trio.sleep(10)
        assert (counted, [message.number for message in gone]) == (seen, lost)
        ends = [(each["in_hand"], each["redelivered"]) for each in logs if each["event"] == "actor_ended"]
        assert ends == [("Count", True), ("Count", False)][: min(deaths, 2)]
        nursery.cancel_scope.cancel()


async def test_a_closed_mailbox_keeps_nobody_waiting(autojump_clock):
    mailbox: Mailbox[Ask] = Mailbox("echo", 10)
    replies: list[Reply[str]] = [Reply() for _ in range(4)]
    mailbox.put_nowait(Ask("waits", replies[0]))
    mailbox.close()
    with pytest.raises(MailboxClosed):
        mailbox.put_nowait(Ask("asks", replies[1]))
    mailbox.put_unbounded(Ask("owed", replies[2]))
    mailbox.put_deferred(Ask("deferred", replies[3]))
    for number in (0, 2, 3):
        with pytest.raises(ActorDied):
            await replies[number].wait()
    assert (len(mailbox), mailbox.refused_total, replies[1].settled) == (0, 1, False)
    mailbox.reopen()
    mailbox.put_nowait(Ask("again", Reply()))
    assert len(mailbox) == 1


async def test_a_group_that_gives_up_is_its_supervisors_affair(autojump_clock):
    """The others run on; the one above is told why, and makes the group anew after its own pause."""
    begun: list[float] = []
    told: list[tuple[str, float | None]] = []
    log: list[str] = []
    restarts: dict[str, int] = {}

    class Fails(Sleeper):
        def __init__(self) -> None:
            super().__init__("broken", log, ValueError("no device"))
            begun.append(trio.current_time())

    def group() -> Supervisor:
        return Supervisor([Child("broken", Fails)], intensity=1, restarts=restarts, chance=lambda: 0.0)

    root = Supervisor(
        [
            Child("group", group, ended=lambda why, pause: told.append((why, pause))),
            Child("once", Returns, restart="temporary", ended=lambda why, pause: told.append((why, pause))),
            Child("steady", lambda: Sleeper("steady", log)),
        ],
        intensity=None,
        backoff=Backoff(first_s=30, longest_s=60, jitter=0),
        restarts=restarts,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await trio.sleep(40)
        assert ("once returned", None) in told
        assert ("broken ended after 1 restarts within 60 s: no device", 30.0) in told
        assert [at - begun[0] for at in begun] == pytest.approx([0, 1.6, 33.1, 34.7])
        assert (log.count("+steady"), restarts["group"], restarts["broken"]) == (1, 2, 2)
        nursery.cancel_scope.cancel()


class Returns:
    redelivered = ()

    async def run(self) -> None:
        await trio.lowlevel.checkpoint()


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


class Relay(Actor[Count]):
    """Passes each message on at once, and tells itself about it."""

    def __init__(self, mailbox: Mailbox[Count], to: Mailbox[Count], seen: list[str]) -> None:
        super().__init__(mailbox)
        self.to = to
        self.seen = seen

    def on(self, message: Count) -> None:
        self.seen.append(f"{self.mailbox.name} {message.number}")
        if message.number > 0:
            self.to.handle_now(Count(-message.number)) or self.to.put_unbounded(Count(-message.number))
            self.mailbox.put_unbounded(Count(0))

    def after_batch(self) -> None:
        self.seen.append(f"after {self.mailbox.name}")


async def test_an_actor_that_waits_handles_a_message_in_the_senders_task(autojump_clock):
    mailboxes: list[Mailbox[Count]] = [Mailbox(name, 10) for name in "ab"]
    seen: list[str] = []
    first, second = mailboxes
    assert not first.handle_now(Count(1))
    async with trio.open_nursery() as nursery:
        for mailbox, other in ((first, second), (second, first)):
            nursery.start_soon(Relay(mailbox, other, seen).run)
        await wait_all_tasks_blocked()
        first.put_deferred(Count(-5))
        assert first.handle_now(Count(1))
        assert seen == ["a -5", "a 1", "b -1", "after b", "after a"]
        # What it has told itself comes in its own task; until then it is not idle.
        assert not first.handle_now(Count(2))
        await wait_all_tasks_blocked()
        assert seen[5:] == ["a 0", "after a"]
        first.close()
        assert not first.handle_now(Count(3))
        nursery.cancel_scope.cancel()
    assert not first.handle_now(Count(4))


@pytest.mark.parametrize(("deaths", "seen"), [(1, [2, 3]), (2, [3])])
async def test_a_failure_in_the_senders_task_is_the_actors(autojump_clock, deaths, seen):
    mailbox: Mailbox[Count] = Mailbox("counter", 10)
    counted: list[int] = []
    left = {2: deaths}
    supervisor = Supervisor([Child("counter", lambda: Counter(mailbox, counted, left), mailbox)])
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await wait_all_tasks_blocked()
        with capture_logs() as logs:
            assert mailbox.handle_now(Count(2))
            mailbox.put_unbounded(Count(3))
            assert counted == []
            await trio.sleep(60)
        assert [log["in_hand"] for log in logs if log["event"] == "actor_ended"] == ["Count"] * deaths
        assert counted == seen
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
