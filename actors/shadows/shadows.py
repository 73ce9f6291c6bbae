"""Runs the copies of requests that no client sees: the shell of `policies.rollout.shadow`.

Whatever a copy does, the original must not feel it: its account has no reservation and no budget, it asks no breaker
that is not closed and tells none of its failures, and nobody learns from its end but its own figures.
"""

from collections.abc import Callable

import msgspec
import structlog
import trio

from actors.api.counters import ServiceCounters
from actors.api.errors import Refusal
from actors.api.request import Principal
from actors.breakers.permits import Permits
from actors.kernel.mailbox import Mailbox
from actors.kernel.reply import Reply
from actors.kernel.workers import WorkerPool
from actors.prompt.output_constraints import ConstraintsByModel
from actors.protocol.admission import AdmissionMessage, Grant
from actors.protocol.ledger import LedgerEntry, OpenEntry
from actors.request.account import Account
from actors.request.ports import RequestPorts
from actors.request.request_log import RequestLog
from actors.request.response_stream import ResponseStream
from actors.request.shadow_port import Copy, note_answer
from policies.admission.budget import BudgetHold
from policies.admission.quota import Reservation
from policies.fallback import fallback_machine
from policies.model.breaker_view import Permit
from policies.model.plan import PlannedRung
from policies.records.decision_log import LoggedDecision
from policies.rollout.shadow import TENANT, TIER, ShadowAnswer, ShadowBook, shadow_tier

_LOOK_EVERY_S = 0.02
"""While copies run: does somebody wait behind one?"""
log = structlog.get_logger()


class _Running:
    __slots__ = ("cut", "response", "scope", "to")

    def __init__(self, to: str) -> None:
        self.to = to
        self.scope = trio.CancelScope()
        self.response: ResponseStream | None = None
        self.cut = False

    def end(self) -> None:
        """At once: what was made so far is written down now."""
        self.cut = True
        if self.response is not None:
            self.response.close()
        self.scope.cancel()


class Shadows:
    """A supervised child. The book outlives its restarts."""

    def __init__(
        self,
        mailbox: Mailbox[Copy],
        book: ShadowBook,
        workers: WorkerPool,
        ports: RequestPorts,
        someone_waits: Callable[[str], bool],
    ) -> None:
        """`someone_waits`: in front of this rung, other than copies."""
        self.mailbox = mailbox
        self._book = book
        self._workers = workers
        self._ports = _unheard(ports)
        self._someone_waits = someone_waits
        self._running: dict[_Running, None] = {}

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                with trio.move_on_after(_LOOK_EVERY_S if self._running else float("inf")):
                    await self.mailbox.ready()
                for _ in range(len(self.mailbox)):
                    message = self.mailbox.take()
                    self.mailbox.done()
                    running = _Running(message.shadow.to)
                    self._running[running] = None
                    nursery.start_soon(self._live, message, running)
                self._make_way()

    def stop(self) -> None:
        """The service drains: no more copies, and those under way are over when this returns."""
        self._book.closed = True
        for running in list(self._running):
            running.end()

    def _make_way(self) -> None:
        """Cut the copies on rungs where somebody waits, the youngest first."""
        for running in reversed(list(self._running)):
            if not running.cut and self._someone_waits(running.to):
                running.end()

    async def _live(self, message: Copy, running: _Running) -> None:
        answers: list[ShadowAnswer] = []
        try:
            with running.scope:
                running.cut = self._book.closed
                if not running.cut:
                    await self._answer(message, running, answers)
        except Refusal as refusal:
            log.debug("shadow_refused", shadow=message.shadow.name, code=refusal.body.code)
        except Exception:
            log.exception("shadow_failed", shadow=message.shadow.name)
        finally:
            if running.response is not None:
                running.response.close()
            del self._running[running]
            answer = answers[0] if answers else None
            self._book.copy_ended(message.shadow.name, message.of.request.request_id, answer, cut=running.cut)

    async def _answer(self, message: Copy, running: _Running, answers: list[ShadowAnswer]) -> None:
        of, shadow, ports = message.of, message.shadow, self._ports
        began_at = trio.current_time()
        lengths = await of.prompts.lengths(shadow.to, lenient=True)
        request = msgspec.structs.replace(
            of.request,
            request_id=f"{of.request.request_id}~{shadow.name}",
            credentials=msgspec.structs.replace(of.request.credentials, api_key=None),
            body=msgspec.structs.replace(of.request.body, streamed=False),
        )
        plan = msgspec.structs.replace(
            of.plan,
            route=f"(shadow) {shadow.name}",
            experiment="",
            arm="",
            ladder="",
            rungs=(PlannedRung(to=shadow.to, adapter=shadow.adapter),),
            cascade=None,
            shadows=(),
            midstream="error",
        )
        features = msgspec.structs.replace(of.features, tenant=TENANT, tier=TIER)
        entry_id = next(ports.numbers)
        booked: Reply[None] = Reply()
        entry = LedgerEntry(
            entry_id, request.request_id, TENANT, request.model, plan.route, sum(lengths), sum(lengths), 0.0
        )
        ports.ledger.put_nowait(OpenEntry(entry, booked))
        account = Account(
            request,
            plan,
            snapshot=of.snapshot,
            features=features,
            prompt_tokens=sum(lengths),
            grant=Grant(Reservation(0, TENANT, 0), BudgetHold(0, TENANT, 0.0, 0.0)),
            entry_id=entry_id,
            decision=LoggedDecision(
                request.request_id,
                arrived_at=request.arrived_at,
                policy=plan.policy,
                features=features,
                load=of.load,
                plan=plan,
            ),
            ports=ports,
        )
        account.on_settled = lambda outcome: note_answer(account, outcome, began_at, answers)
        priority = shadow_tier(of.snapshot.settings.tiers).priority
        running.response = ResponseStream(
            request,
            plan,
            principal=Principal(TENANT, TENANT, TIER, priority, of.principal.cache_salt),
            prompts=of.prompts,
            shapes=ConstraintsByModel(request, ports.texts, self._workers),
            account=account,
            booked=booked,
            ports=ports,
            on_end=lambda _: None,
        )
        while await running.response.next_events():
            pass


class _ClosedPermits(Permits):
    """Only closed breakers let a copy through, and none hears of it: copies wait longest, and must not open one."""

    def __init__(self, permits: Permits) -> None:
        self._permits = permits

    def closed(self, rung: str) -> Permit | None:
        return self._permits.closed(rung)

    async def ask(self, rung: str, *, is_retry: bool) -> Permit | fallback_machine.RungRefused:
        permit = None if is_retry else self.closed(rung)
        return permit if permit is not None else fallback_machine.RungRefused(why="breaker_open")

    def record(self, rung: str, permit: Permit, *, ok: bool | None, is_retry: bool) -> None:
        pass


class _NullAdmission(Mailbox[AdmissionMessage]):
    """Copies have reserved nothing, so there is nothing to settle."""

    def put_unbounded(self, message: AdmissionMessage) -> None:
        pass

    def put_deferred(self, message: AdmissionMessage) -> None:
        pass


def _unheard(ports: RequestPorts) -> RequestPorts:
    """The same rungs, ledger and clock; counters, breakers, admission and recording hear nothing of copies."""
    return RequestPorts(
        admission=_NullAdmission("nobody", 1),
        dispatch=ports.dispatch,
        ledger=ports.ledger,
        permits=_ClosedPermits(ports.permits),
        all_published=ports.all_published,
        upstreams=ports.upstreams,
        texts=ports.texts,
        timers=ports.timers,
        counters=ServiceCounters(),
        rollout=ports.rollout,
        decisions=ports.decisions,
        request_log=RequestLog(lambda: False, str),
        recording=None,
        numbers=ports.numbers,
    )
