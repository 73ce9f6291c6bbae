"""Runs the copies of requests that no client sees: the shell of `policies.rollout.shadow`.

A copy never affects its original: its account has no reservation and no budget, it needs a closed breaker and reports
no failure to it, and it counts in no figures but the shadow's own.

If the actor dies, the running copies end with it, and so does the one in hand (`CopiesUnderWay.lost`).
"""

from collections.abc import Callable
from typing import ClassVar

import msgspec
import structlog
import trio

from actors.api.errors import Refusal
from actors.api.request import Principal
from actors.api.statistics import ServiceCounters
from actors.breakers.breakers import Permits
from actors.kernel.actor import Mailbox, Reply
from actors.protocol.admission import AdmissionMessage
from actors.protocol.ledger import LedgerEntry, OpenEntry
from actors.request.account import Account
from actors.request.ports import RequestPorts
from actors.request.request_log import RequestLog
from actors.request.response_stream import ResponseStream
from actors.request.shadow_port import Copy, note_answer
from policies.admission.budget import BudgetHold, Grant
from policies.admission.quota import Reservation
from policies.fallback import fallback_machine
from policies.model.load import Permit
from policies.model.plan import PlannedRung
from policies.records.decision_log import LoggedDecision
from policies.rollout.shadow import TENANT, TIER, ShadowAnswer, ShadowBook, shadow_tier

_LOOK_EVERY_S = 0.02
"""While copies run: how often to check whether other requests wait for their rungs."""
log = structlog.get_logger()


class _Running:
    __slots__ = ("cut", "response", "scope", "to")

    def __init__(self, to: str) -> None:
        self.to = to
        self.scope = trio.CancelScope()
        self.response: ResponseStream | None = None
        self.cut = False

    def end(self) -> None:
        """At once; its tokens so far are settled."""
        self.cut = True
        if self.response is not None:
            self.response.close()
        self.scope.cancel()


class CopiesUnderWay:
    """The running copies; outlives the actor's restarts."""

    def __init__(self, book: ShadowBook) -> None:
        self.book = book
        self.running: dict[_Running, None] = {}

    def lost(self, message: Copy) -> None:
        """The actor will not run or finish this copy."""
        self.book.copy_ended(message.shadow.name, message.of.request.request_id, None, cut=True)

    def stop(self) -> None:
        """Run no more copies; running ones have ended when this returns."""
        self.book.closed = True
        for running in list(self.running):
            running.end()


class Shadows:
    """One life of the actor. The book and the copies under way outlive it."""

    redelivered: ClassVar[tuple[type, ...]] = ()

    def __init__(
        self,
        mailbox: Mailbox[Copy],
        copies: CopiesUnderWay,
        ports: RequestPorts,
        someone_waits: Callable[[str], bool],
    ) -> None:
        """`someone_waits`: whether jobs other than copies wait in front of this rung."""
        self.mailbox = mailbox
        self._book = copies.book
        self._ports = _silent_ports(ports)
        self._someone_waits = someone_waits
        self._running = copies.running

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                with trio.move_on_after(_LOOK_EVERY_S if self._running else float("inf")):
                    await self.mailbox.ready()
                for _ in range(len(self.mailbox)):
                    self.on(self.mailbox.take(), nursery)
                self.mailbox.done()
                self._make_way()

    def on(self, message: Copy, nursery: trio.Nursery) -> None:
        running = _Running(message.shadow.to)
        self._running[running] = None
        nursery.start_soon(self._live, message, running)

    def _make_way(self) -> None:
        """Cut the copies on rungs where other jobs wait, the youngest first."""
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
        lengths = await of.text.lengths(shadow.to, lenient=True)
        request = msgspec.structs.replace(
            of.request,
            request_id=f"{of.request.request_id}~{shadow.name}",
            credentials=msgspec.structs.replace(of.request.credentials, api_key=None),
            body=msgspec.structs.replace(of.request.body, streamed=False),
        )
        plan = msgspec.structs.replace(
            of.decided.plan,
            route=f"(shadow) {shadow.name}",
            experiment="",
            arm="",
            ladder="",
            rungs=(PlannedRung(to=shadow.to, adapter=shadow.adapter),),
            cascade=None,
            shadows=(),
            midstream="error",
        )
        features = msgspec.structs.replace(of.decided.features, tenant=TENANT, tier=TIER)
        entry_id = next(ports.numbers)
        booked: Reply[None] = Reply()
        entry = LedgerEntry(
            entry_id, request.request_id, TENANT, request.model, plan.route, sum(lengths), sum(lengths), 0.0
        )
        ports.ledger.put_nowait(OpenEntry(entry, booked))
        decided = msgspec.structs.replace(of.decided, features=features, plan=plan, prompt_tokens=sum(lengths))
        account = Account(
            request,
            decided,
            snapshot=of.snapshot,
            grant=Grant(Reservation(0, TENANT, 0), BudgetHold(0, TENANT, 0.0, 0.0)),
            entry_id=entry_id,
            decision=LoggedDecision(
                request.request_id,
                arrived_at=request.arrived_at,
                policy=plan.policy,
                features=features,
                load=of.decided.load,
                plan=plan,
            ),
            ports=ports,
        )
        account.on_settled = lambda outcome: note_answer(account, outcome, began_at, answers)
        priority = shadow_tier(of.snapshot.settings.tiers).priority
        running.response = ResponseStream(
            account,
            principal=Principal(TENANT, TENANT, TIER, priority, of.cache_salt),
            text=of.text.for_copy(),
            booked=booked,
            on_end=lambda _: None,
        )
        while await running.response.next_events():
            pass


class _SilentPermits(Permits):
    """Copies need a closed breaker and report no outcome: they wait longest, and must not open a breaker."""

    def __init__(self, permits: Permits) -> None:
        self._permits = permits

    def closed(self, rung: str) -> Permit | None:
        return self._permits.closed(rung)

    async def ask(self, rung: str, *, is_retry: bool) -> Permit | fallback_machine.RungRefused:
        permit = None if is_retry else self.closed(rung)
        return permit if permit is not None else fallback_machine.RungRefused(why="breaker_open")

    def record(
        self, rung: str, permit: Permit, *, ok: bool | None, is_retry: bool, ttft_s: float | None = None
    ) -> None:
        pass


class _NoAdmission(Mailbox[AdmissionMessage]):
    """Copies have no reservation to settle."""

    def put_unbounded(self, message: AdmissionMessage) -> None:
        pass

    def put_deferred(self, message: AdmissionMessage) -> None:
        pass


def _silent_ports(ports: RequestPorts) -> RequestPorts:
    """The same rungs, ledger and clock; null ports for counters, breakers, admission and recording."""
    return msgspec.structs.replace(
        ports,
        admission=_NoAdmission("copies", 1),
        permits=_SilentPermits(ports.permits),
        counters=ServiceCounters(),
        request_log=RequestLog(lambda: False, str),
        recording=None,
    )
