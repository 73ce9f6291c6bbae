"""Keeps actors alive: the shell of `policies.lifecycle.supervision`, which decides.

Children start in order and are stopped in reverse, each before the next. A child that ends is started again after a
pause; what waits in its mailbox waits there, and the reply of the message in its hands fails with ActorDied. When
restarts do not help, `run` raises HouseFailed.
"""

import random
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec
import structlog
import trio

from actors.kernel.errors import ActorDied, ServiceFailed
from actors.kernel.mailbox import Mailbox
from policies.lifecycle.supervision import ChildSpec, Forget, GiveUpAll, Restart, RestartChildren, Strategy, Supervision

log = structlog.get_logger()


class Runs(Protocol):
    """An actor, as far as its supervisor is concerned."""

    async def run(self) -> None:
        """Return or raise: either way it has ended."""
        ...


class Child(msgspec.Struct, frozen=True):
    """How to make an actor, again and again."""

    name: str
    make: Callable[[], Runs]
    mailbox: Mailbox[Any] | None = None
    restart: Restart = "permanent"
    spare: str | None = None
    """See `ChildSpec`."""


class _Life:
    __slots__ = ("ended", "scope")

    def __init__(self) -> None:
        # Shielded: a child ends when its supervisor says so, in the right order, not with everybody else.
        self.scope = trio.CancelScope(shield=True)
        self.ended = trio.Event()


class Supervisor:
    """One group of children."""

    def __init__(
        self,
        children: Iterable[Child],
        *,
        strategy: Strategy = "one_for_one",
        intensity: int = 5,
        period_s: float = 60.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._children = {child.name: child for child in children}
        self._supervision = Supervision(
            tuple(ChildSpec(child.name, child.restart, child.spare) for child in self._children.values()),
            strategy=strategy,
            intensity=intensity,
            period_s=period_s,
        )
        self._chance = chance
        self._lives: dict[str, _Life] = {}
        self._exits: Mailbox[tuple[str, Exception | None]] = Mailbox("supervisor", len(self._children))
        self.restarts: dict[str, int] = dict.fromkeys(self._children, 0)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the children until cancelled. Raises HouseFailed, or the HouseFailed that a child ended with."""
        failure: ServiceFailed | None = None
        async with trio.open_nursery() as nursery:
            try:
                for name in self._children:
                    self._start(nursery, name, 0.0)
                task_status.started()
                while failure is None:
                    await self._exits.ready()
                    for _ in range(len(self._exits)):
                        failure = failure or await self._ended(nursery, *self._exits.take())
            finally:
                with trio.CancelScope(shield=True):
                    await self._stop(self._supervision.shutdown())
        # Here, outside the nursery, it is one error and no group.
        if failure is not None:
            raise failure

    async def _ended(self, nursery: trio.Nursery, name: str, error: Exception | None) -> ServiceFailed | None:
        log.warning("actor_ended", actor=name, error=repr(error), exc_info=error)
        if isinstance(error, ServiceFailed):
            return error
        match self._supervision.exited(name, error is not None, trio.current_time(), self._chance()):
            case RestartChildren(stop=stop, start=start, after_s=after_s):
                await self._stop(stop)
                for each in start:
                    self.restarts[each] += 1
                    self._start(nursery, each, after_s)
            case GiveUpAll(stop=stop, why=why):
                await self._stop(stop)
                failure = ServiceFailed(f"{why}: {error}")
                failure.__cause__ = error
                return failure
            case Forget():
                pass
        return None

    def _start(self, nursery: trio.Nursery, name: str, after_s: float) -> None:
        self._lives[name] = life = _Life()
        nursery.start_soon(self._live, self._children[name], life, after_s, name=name)

    async def _live(self, child: Child, life: _Life, after_s: float) -> None:
        error: Exception | None = None
        try:
            with life.scope:
                await trio.sleep(after_s)
                await child.make().run()
        except Exception as caught:  # noqa: BLE001  (whatever it is, the decision is the supervisor's)
            error = caught
        finally:
            life.ended.set()
        _lose_what_is_in_hand(child)
        if not life.scope.cancel_called:
            self._exits.put_unbounded((child.name, error))

    async def _stop(self, names: Iterable[str]) -> None:
        for name in names:
            life = self._lives[name]
            life.scope.cancel()
            await life.ended.wait()


def _lose_what_is_in_hand(child: Child) -> None:
    if child.mailbox is None:
        return
    message = child.mailbox.in_hand
    child.mailbox.done()
    reply = getattr(message, "reply", None)
    if reply is not None:
        reply.fail(ActorDied(f"the actor {child.name} died with this message in hand"))
