"""Drains and stops the service: the shell of `policies.lifecycle.drain`."""

from collections import deque
from collections.abc import Collection

import structlog
import trio

from actors.api.errors import SHUTTING_DOWN
from actors.kernel.actor import Mailbox, Reply
from actors.protocol.ledger import Flush, LedgerMessage
from actors.request.response_stream import ResponseStream
from policies.lifecycle.drain import Drain, DrainAction, DrainState

_SETTLE_S = 2.0
"""How long terminated answers may take to send their last event."""
_FLUSH_S = 5.0
log = structlog.get_logger()


class DrainController:
    """Waits for the running answers, and ends them at the deadline."""

    def __init__(self, running: Collection[ResponseStream], ledger: Mailbox[LedgerMessage]) -> None:
        self._drain = Drain()
        self._actions: deque[DrainAction] = deque()
        """Pending actions in order; one task executes those of all calls."""
        self._running = running
        self._ledger = ledger
        self._changed = trio.Event()
        self._dead = trio.Event()
        self._executing = False

    @property
    def state(self) -> DrainState:
        return self._drain.state

    def look(self) -> None:
        if self._drain.state != "serving":
            self._changed.set()

    async def run(self, deadline: float) -> None:
        """Return when all answers have ended and the ledger is committed."""
        self._actions.extend(self._drain.begin(deadline, len(self._running), trio.current_time()))
        self._changed.set()
        if self._executing:
            await self._dead.wait()
            return
        self._executing = True
        try:
            while not self._dead.is_set():
                if self._actions:
                    await self._execute(self._actions[0])
                    self._actions.popleft()
                else:
                    await self._next()
        finally:
            # Another call continues where a cancelled one stopped.
            self._executing = False

    async def _next(self) -> None:
        due = self._drain.deadline
        with trio.CancelScope(deadline=due if due is not None else float("inf")):
            await self._changed.wait()
        self._changed = trio.Event()
        self._actions.extend(self._drain.update(len(self._running), trio.current_time()))

    async def _execute(self, action: DrainAction) -> None:
        match action:
            case "refuse_new" | "exit":
                pass
            case "end_running":
                log.warning("answers_cut", count=len(self._running))
                for response in list(self._running):
                    response.cut(SHUTTING_DOWN, "The server is shutting down; the answer is incomplete.")
                await self._until_none_runs()
                for response in list(self._running):
                    response.close()
            case "close_ledger":
                reply: Reply[None] = Reply()
                self._ledger.put_unbounded(Flush(reply))
                with trio.move_on_after(_FLUSH_S) as scope:
                    await reply.wait()
                if scope.cancelled_caught:
                    log.error("ledger_not_flushed")
                self._drain.ledger_closed()
                self._dead.set()

    async def _until_none_runs(self) -> None:
        with trio.move_on_after(_SETTLE_S):
            while self._running:
                self._changed = trio.Event()
                await self._changed.wait()
