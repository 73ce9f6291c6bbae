"""Restarts actors: the shell of `policies.lifecycle.supervision`, which decides.

Children start in order and are stopped in reverse, each before the next. A child that ends is replaced by a new object
after a pause: its specification holds a factory, and state that outlives a life (mailbox, status, books) is passed to
each new one. Messages stay in the mailbox; `actors.kernel.actor` says what happens to the message in hand.

A supervisor may be a child of another one. When its restarts do not help it raises RestartsExhausted, and the one above
decides: so a failure stays in its group, or ends the process. ServiceFailed passes through all of them.
"""

import random
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Protocol

import msgspec
import structlog
import trio

from actors.kernel.actor import Mailbox
from actors.kernel.errors import ActorError, RestartsExhausted, ServiceFailed
from policies.lifecycle.supervision import (
    Backoff,
    ChildSpec,
    EscalateFailure,
    Forget,
    Restart,
    RestartChild,
    Supervision,
)

log = structlog.get_logger()


class Runs(Protocol):
    """An actor or a supervisor, as a child."""

    redelivered: ClassVar[tuple[type, ...]]
    """See `Actor`."""

    async def run(self) -> None:
        """Returning ends the child, as raising does."""
        ...


class Child(msgspec.Struct, frozen=True):
    """A child's specification."""

    name: str
    make: Callable[[], Runs]
    mailbox: Mailbox[Any] | None = None
    restart: Restart = "permanent"
    ended: Callable[[str, float | None], None] | None = None
    """Called when it has ended by itself, with the reason and the pause until its restart; None: no restart."""


class _Life:
    __slots__ = ("ended", "scope")

    def __init__(self) -> None:
        # Shielded: the supervisor cancels its children in order.
        self.scope = trio.CancelScope(shield=True)
        self.ended = trio.Event()


class _Exit(msgspec.Struct, frozen=True):
    name: str
    error: Exception | None
    in_hand: str
    """The type of the message in hand; "" if there was none."""
    redelivered: bool
    """The message is delivered to the next life."""


class Supervisor:
    """One group of children."""

    redelivered: ClassVar[tuple[type, ...]] = ()

    def __init__(
        self,
        children: Iterable[Child],
        *,
        intensity: int | None = 5,
        period_s: float = 60.0,
        backoff: Backoff | None = None,
        stand_in: bool = False,
        restarts: dict[str, int] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`restarts`: counts by child, shared by a whole tree; outlives this supervisor."""
        self._children = {child.name: child for child in children}
        self._supervision = Supervision(
            tuple(ChildSpec(child.name, child.restart) for child in self._children.values()),
            intensity=intensity,
            period_s=period_s,
            backoff=backoff,
            stand_in=stand_in,
        )
        self._chance = chance
        self._lives: dict[str, _Life] = {}
        self._exits: Mailbox[_Exit] = Mailbox("supervisor", len(self._children))
        self.restarts = restarts if restarts is not None else {}
        for name in self._children:
            self.restarts.setdefault(name, 0)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the children until cancelled. Raises RestartsExhausted, or the ServiceFailed that a child ended with."""
        failure: ActorError | None = None
        async with trio.open_nursery() as nursery:
            try:
                for name in self._children:
                    self._start(nursery, name, 0.0)
                task_status.started()
                while failure is None:
                    await self._exits.ready()
                    for _ in range(len(self._exits)):
                        failure = failure or await self._ended(nursery, self._exits.take())
            finally:
                with trio.CancelScope(shield=True):
                    await self._stop(self._supervision.shutdown())
        # Outside the nursery, so that it is not wrapped in an exception group.
        if failure is not None:
            raise failure

    async def _ended(self, nursery: trio.Nursery, end: _Exit) -> ActorError | None:
        name, error = end.name, end.error
        log.warning(
            "actor_ended",
            actor=name,
            error=repr(error),
            exc_info=error,
            **({"in_hand": end.in_hand, "redelivered": end.redelivered} if end.in_hand else {}),
        )
        if isinstance(error, ServiceFailed):
            return error
        child = self._children[name]
        reason = str(error) if error is not None else f"{name} returned"
        match self._supervision.exited(name, trio.current_time(), self._chance()):
            case RestartChild(after_s):
                self.restarts[name] += 1
                if child.ended is not None:
                    child.ended(reason, after_s)
                self._start(nursery, name, after_s)
            case EscalateFailure(stop, why):
                await self._stop(stop)
                failure = RestartsExhausted(f"{why}: {reason}")
                failure.__cause__ = error
                return failure
            case Forget():
                if child.ended is not None:
                    child.ended(reason, None)
        return None

    def _start(self, nursery: trio.Nursery, name: str, after_s: float) -> None:
        self._lives[name] = life = _Life()
        nursery.start_soon(self._live, self._children[name], life, after_s, name=name)

    async def _live(self, child: Child, life: _Life, after_s: float) -> None:
        error: Exception | None = None
        kinds: tuple[type, ...] = ()
        in_hand, redelivered = "", False
        try:
            with life.scope:
                await trio.sleep(after_s)
                actor = child.make()
                kinds = actor.redelivered
                await actor.run()
        except Exception as caught:  # noqa: BLE001  (the supervision decides)
            error = caught
        finally:
            if child.mailbox is not None:
                message = child.mailbox.in_hand
                in_hand = type(message).__name__ if message is not None else ""
                redelivered = child.mailbox.actor_died(kinds)
            life.ended.set()
        if not life.scope.cancel_called:
            self._exits.put_unbounded(_Exit(child.name, error, in_hand, redelivered))

    async def _stop(self, names: Iterable[str]) -> None:
        for name in names:
            life = self._lives[name]
            life.scope.cancel()
            await life.ended.wait()
