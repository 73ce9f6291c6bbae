"""Actors, their replies and their restarts, together."""

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.kernel.actor import Actor
from actors.kernel.errors import ActorDied, ServiceFailed
from actors.kernel.mailbox import Mailbox
from actors.kernel.reply import Reply
from actors.kernel.supervisor import Child, Supervisor


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
