"""An actor's bounded mailbox: any task may put, one task takes, all that is there in one wake.

Built on trio's park and reschedule rather than on a memory channel: a hop costs less, and the messages stay here,
one by one, until the actor takes them, so that a crash concerns at most the one in hand. What becomes of that one:

- of a kind that the actor declares (`Actor.redelivered`), it is the first message of the next life, once;
- else, or the second time, it is lost: its reply fails with ActorDied, and `lost` is told.

A mailbox whose actor is off or down is closed: what waits and what comes is lost in the same way, at once, so that
nobody waits for an actor that does not come.
"""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import trio

from actors.kernel.errors import ActorDied, MailboxClosed, MailboxFull

M = TypeVar("M")


class Mailbox(Generic[M]):
    """Belongs to the child's specification in the supervisor and outlives the actor's restarts."""

    __slots__ = (
        "_lost",
        "_messages",
        "_redelivered",
        "_waiter",
        "capacity",
        "closed",
        "in_hand",
        "name",
        "refused_total",
    )

    def __init__(self, name: str, capacity: int, lost: Callable[[M], None] | None = None) -> None:
        """`lost` is called with each message that no actor will handle, or finish handling."""
        self.name = name
        self.capacity = capacity
        self.in_hand: M | None = None
        """What the actor works on."""
        self.closed = False
        self.refused_total = 0
        self._lost = lost
        self._redelivered: M | None = None
        """The last message that was handed to a second life."""
        self._messages: deque[M] = deque()
        self._waiter: trio.lowlevel.Task | None = None

    def __len__(self) -> int:
        return len(self._messages)

    def put_nowait(self, message: M) -> None:
        """Raises MailboxFull, and MailboxClosed while no actor comes for it."""
        if self.closed:
            self.refused_total += 1
            raise MailboxClosed(f"the actor of the mailbox {self.name} is off")
        if len(self._messages) >= self.capacity:
            self.refused_total += 1
            raise MailboxFull(f"the mailbox of {self.name} holds {self.capacity} messages")
        self._messages.append(message)
        if self._waiter is not None:
            self._wake()

    def put_unbounded(self, message: M) -> None:
        """Never refused: for what follows from something that was let in before, and so is bounded by that."""
        if self.closed:
            self._lose(message)
            return
        self._messages.append(message)
        if self._waiter is not None:
            self._wake()

    def put_deferred(self, message: M) -> None:
        """As `put_unbounded`, but the owner wakes with the next other message, or at a quarter of the capacity."""
        if self.closed:
            self._lose(message)
            return
        self._messages.append(message)
        if self._waiter is not None and len(self._messages) * 4 >= self.capacity:
            self._wake()

    async def ready(self) -> None:
        """Return when there is something to take; other tasks get their turn in any case."""
        if self._messages:
            await trio.lowlevel.checkpoint()
            return
        if self._waiter is not None:
            raise RuntimeError(f"two tasks wait at the mailbox of {self.name}")
        self._waiter = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def take(self) -> M:
        """The oldest message; it is the one in hand until the next `take` or `done`. IndexError if there is none."""
        message = self.in_hand = self._messages.popleft()
        return message

    def done(self) -> None:
        """Nothing is in hand any more."""
        self.in_hand = None

    def actor_died(self, redelivered: tuple[type, ...]) -> bool:
        """The actor has ended. Returns whether the message in hand, of one of these kinds, waits for the next life."""
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
        """No actor comes for what waits here, nor for what is sent until `reopen`: all of that is lost."""
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

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        assert waiter is not None
        trio.lowlevel.reschedule(waiter)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED
