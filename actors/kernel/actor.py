"""An actor, its bounded mailbox, and one-shot replies to its messages.

Any task may put a message; one task, the actor, takes all that are there in one wake, and does not await while a
message is in hand. With `handle_now` an actor that waits handles it in the sender's task instead: between two
checkpoints that is the same, without two task switches (ADR 38). Mailboxes are built on trio's park and reschedule
rather than on a memory channel: a hop costs less, and messages stay in the mailbox until the actor takes them, so that
a crash concerns at most the one in hand. That one

- is the first message of the next life, once, if the actor declares its kind (`Actor.redelivered`);
- is lost otherwise, or the second time: its reply fails with ActorDied, and the callback `lost` is called.

The mailbox of an actor that is off or down is closed: all messages in it, and those sent to it, are lost in the same
way at once, so that no task waits for an actor that does not come.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Generic, TypeVar, cast

import outcome
import trio

from actors.kernel.clock import loop_clock
from actors.kernel.errors import ActorDied, MailboxClosed, MailboxFull

M = TypeVar("M")
T = TypeVar("T")


class Reply(Generic[T]):
    """Part of a message, made by its sender. If the message is lost in a crash, the reply fails with ActorDied."""

    __slots__ = ("_abandoned", "_error", "_value", "_waiter", "settled")

    def __init__(self) -> None:
        self.settled = False
        """An answer or a failure is there."""
        self._value: T | None = None
        self._error: Exception | None = None
        self._waiter: trio.lowlevel.Task | None = None
        self._abandoned = False

    def set(self, value: T) -> bool:
        """False if no task will read it (cancelled, or settled before): the caller must undo its effects."""
        return self._settle(value, None)

    def fail(self, error: Exception) -> bool:
        """As `set`, but `wait` raises."""
        return self._settle(None, error)

    async def wait(self) -> T:
        """The answer. Cancelled while waiting, the reply counts as abandoned."""
        if not self.settled:
            self._waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return cast("T", self._value)

    def _settle(self, value: T | None, error: Exception | None) -> bool:
        if self._abandoned or self.settled:
            return False
        self.settled, self._value, self._error = True, value, error
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            trio.lowlevel.reschedule(waiter)
        return True

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        self._abandoned = True
        return trio.lowlevel.Abort.SUCCEEDED


class Mailbox(Generic[M]):
    """Part of the child's specification in the supervisor; outlives the actor's restarts."""

    __slots__ = (
        "_lost",
        "_messages",
        "_redelivered",
        "_turn",
        "_turning",
        "_waiter",
        "capacity",
        "closed",
        "in_hand",
        "name",
        "refused_total",
    )

    def __init__(self, name: str, capacity: int, lost: Callable[[M], None] | None = None) -> None:
        """`lost` is called with every message that no actor will handle, or finish handling."""
        self.name = name
        self.capacity = capacity
        self.in_hand: M | None = None
        """The message that the actor handles."""
        self.closed = False
        self.refused_total = 0
        self._lost = lost
        self._redelivered: M | None = None
        """The last message that was delivered a second time."""
        self._messages: deque[M] = deque()
        self._waiter: trio.lowlevel.Task | None = None
        self._turn: Callable[[], None] | None = None
        """Handles all messages; set while the actor waits."""
        self._turning = False
        """They are being handled in a sender's task."""

    def __len__(self) -> int:
        return len(self._messages)

    def put_nowait(self, message: M) -> None:
        """Raises MailboxFull, and MailboxClosed while it is closed."""
        if self.closed:
            self.refused_total += 1
            raise MailboxClosed(f"the actor of the mailbox {self.name} is off")
        if len(self._messages) >= self.capacity:
            self.refused_total += 1
            raise MailboxFull(f"the mailbox of {self.name} holds {self.capacity} messages")
        self._messages.append(message)
        if self._waiter is not None and not self._turning:
            self._wake()

    def handle_now(self, message: M) -> bool:
        """If the actor waits, it handles all its messages, this one last, before this returns: no task switch.

        False: it does not wait, and the message must be put. No actor handles a message within another of its own: what
        is sent to it meanwhile wakes it. If it fails, its own task raises that and dies with the message in hand, as
        ever. A handler may call this only when it has left its own actor's state consistent.
        """
        turn = self._turn
        if turn is None or self._turning or self.closed:
            return False
        self._messages.append(message)
        self._turning = True
        try:
            turn()
        except Exception as error:  # noqa: BLE001  (it is raised in the actor's task)
            if self._waiter is not None:
                self._wake(outcome.Error(error))
        finally:
            self._turning = False
        if self._messages and self._waiter is not None:
            self._wake()
        return True

    def put_unbounded(self, message: M) -> None:
        """Never refused: for messages whose number is bounded by earlier admitted ones."""
        if self.closed:
            self._lose(message)
            return
        self._messages.append(message)
        if self._waiter is not None and not self._turning:
            self._wake()

    def put_deferred(self, message: M) -> None:
        """As `put_unbounded`, but the actor wakes only with another message, or at a quarter of the capacity."""
        if self.closed:
            self._lose(message)
            return
        self._messages.append(message)
        if self._waiter is not None and not self._turning and len(self._messages) * 4 >= self.capacity:
            self._wake()

    async def ready(self, turn: Callable[[], None] | None = None) -> None:
        """Wait for messages; a checkpoint in any case. `turn` handles all that are there, for `handle_now`."""
        if self._messages:
            await trio.lowlevel.checkpoint()
            return
        if self._waiter is not None:
            raise RuntimeError(f"two tasks wait at the mailbox of {self.name}")
        self._waiter = trio.lowlevel.current_task()
        self._turn = turn
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def take(self) -> M:
        """The oldest message; it is in hand until the next `take` or `done`. IndexError if there is none."""
        message = self.in_hand = self._messages.popleft()
        return message

    def handle_all(self, on: Callable[[M], None], after_batch: Callable[[], None]) -> None:
        """Call `on` with each message that is there, and with none that comes meanwhile; then `after_batch`."""
        messages = self._messages
        for _ in range(len(messages)):
            self.in_hand = message = messages.popleft()
            on(message)
        self.in_hand = None
        after_batch()

    def done(self) -> None:
        """The message in hand was handled."""
        self.in_hand = None

    def actor_died(self, redelivered: tuple[type, ...]) -> bool:
        """The actor has ended. Returns whether the message in hand, of one of these kinds, is redelivered."""
        message, self.in_hand = self.in_hand, None
        if message is None:
            return False
        if isinstance(message, redelivered) and message is not self._redelivered and not self.closed:
            self._redelivered = message
            self._messages.appendleft(message)
            return True
        self._lose(message)
        return False

    def close(self) -> None:
        """Lose all messages, and those that are sent until `reopen`."""
        self.closed = True
        while self._messages:
            self._lose(self._messages.popleft())

    def reopen(self) -> None:
        """An actor is about to start."""
        self.closed = False

    def _lose(self, message: M) -> None:
        reply = getattr(message, "reply", None)
        if reply is not None:
            reply.fail(ActorDied(f"the actor {self.name} died with this message in hand, or is off"))
        if self._lost is not None:
            self._lost(message)

    def _wake(self, failure: outcome.Error | None = None) -> None:
        waiter, self._waiter = self._waiter, None
        self._turn = None
        assert waiter is not None
        trio.lowlevel.reschedule(waiter, outcome.Value(None) if failure is None else failure)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = self._turn = None
        return trio.lowlevel.Abort.SUCCEEDED


class Actor(ABC, Generic[M]):
    """Owns a piece of shared state. One object is one life: a restart makes another one."""

    redelivered: ClassVar[tuple[type, ...]] = ()
    """Kinds of messages that must not be lost: one that is in hand when the actor dies is delivered once more, to the
    next life. Handling one of them twice must have the same effect as handling it once."""

    def __init__(self, mailbox: Mailbox[M]) -> None:
        self.mailbox = mailbox
        self._clock = loop_clock()

    async def run(self) -> None:
        """Take messages until cancelled; other tasks run between those that are there and those that come meanwhile."""
        turn = partial(self.mailbox.handle_all, self.on, self.after_batch)
        while True:
            await self.mailbox.ready(turn)
            turn()

    @abstractmethod
    def on(self, message: M) -> None:
        """Handle one message."""

    def after_batch(self) -> None:
        """Called after all messages of one wake."""
