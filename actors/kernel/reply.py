"""A one-shot reply to a message: set or failed once, awaited by one task."""

from typing import Generic, TypeVar

import outcome
import trio

T = TypeVar("T")


class Reply(Generic[T]):
    """Part of a message, made by its sender. If the message is lost in a crash, the reply fails with ActorDied."""

    __slots__ = ("_abandoned", "_outcome", "_waiter")

    def __init__(self) -> None:
        self._outcome: outcome.Value[T] | outcome.Error | None = None
        self._waiter: trio.lowlevel.Task | None = None
        self._abandoned = False

    @property
    def settled(self) -> bool:
        """Whether an answer or a failure is there."""
        return self._outcome is not None

    def set(self, value: T) -> bool:
        """False if it will not be read (its task was cancelled, or it was settled before): undo what it stands for."""
        return self._settle(outcome.Value(value))

    def fail(self, error: Exception) -> bool:
        """As `set`, but `wait` raises."""
        return self._settle(outcome.Error(error))

    async def wait(self) -> T:
        """The answer. Cancelled while waiting, the reply counts as abandoned."""
        if self._outcome is None:
            self._waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        assert self._outcome is not None
        return self._outcome.unwrap()

    def _settle(self, result: "outcome.Value[T] | outcome.Error") -> bool:
        if self._abandoned or self._outcome is not None:
            return False
        self._outcome = result
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            trio.lowlevel.reschedule(waiter)
        return True

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        self._abandoned = True
        return trio.lowlevel.Abort.SUCCEEDED
