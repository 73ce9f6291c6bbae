"""An actor's bounded mailbox: any task may put, one task takes, all that is there in one wake.

Built on trio's park and reschedule rather than on a memory channel: a hop costs less, and the messages stay here,
one by one, until the actor takes them, so that a crash loses at most the one in hand.
"""

from collections import deque
from typing import Generic, TypeVar

import trio

from actors.kernel.errors import MailboxFull

M = TypeVar("M")


class Mailbox(Generic[M]):
    """Belongs to the actor's slot in the supervisor and outlives its restarts."""

    __slots__ = ("_messages", "_waiter", "capacity", "in_hand", "name", "refused_total")

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self.capacity = capacity
        self.in_hand: M | None = None
        """What the actor works on; after a crash: the one message that was lost."""
        self.refused_total = 0
        self._messages: deque[M] = deque()
        self._waiter: trio.lowlevel.Task | None = None

    def __len__(self) -> int:
        return len(self._messages)

    def put_nowait(self, message: M) -> None:
        """Raises MailboxFull."""
        if len(self._messages) >= self.capacity:
            self.refused_total += 1
            raise MailboxFull(f"the mailbox of {self.name} holds {self.capacity} messages")
        self._messages.append(message)
        if self._waiter is not None:
            self._wake()

    def put_unbounded(self, message: M) -> None:
        """Never refused: for what follows from something that was let in before, and so is bounded by that."""
        self._messages.append(message)
        if self._waiter is not None:
            self._wake()

    def put_deferred(self, message: M) -> None:
        """As `put_unbounded`, but the owner wakes with the next other message, or at a quarter of the capacity."""
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

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        assert waiter is not None
        trio.lowlevel.reschedule(waiter)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED
