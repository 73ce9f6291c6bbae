"""The actor of batches: reads their files, has their requests answered, and writes the results.

A request of a batch is a request like any other (`Service.open`), at best effort: see `policies.batching`. Its
result is written once, whatever happens: what has none when the process ends is begun again by the next one.
"""

from typing import Any, ClassVar

import msgspec
import structlog
import trio

from actors.api.errors import SHUTTING_DOWN, Conflict, NotFound, OverQuota, Unavailable
from actors.api.statistics import BatchStatistics
from actors.batches.line_runner import LineRunner
from actors.batches.ports import BatchFormats, BatchPorts
from actors.batches.records import ENDED, BatchRecord, BatchState, LineResult
from actors.batches.running_batch import FETCHED, RunningBatch
from actors.batches.store_queries import (
    FileSums,
    FinishBatch,
    GetBatch,
    NewBatch,
    NextLines,
    PutBatch,
    PutResults,
    SweepFiles,
    UnfinishedBatches,
)
from actors.batches.stored_batches import StoredBatches
from actors.batches.validation import Validated, validate
from config.model.batch import BatchSettings
from policies.batching.batch_flow import BatchFlow
from policies.batching.tenant_room import leaves_half

_TICK_S = 0.5
_LOOK_S = 10.0
"""How often batches are looked for that another process has made or cancelled (a hand-over)."""
_SWEEP_S = 60.0
_RETRY_S = 1.0
_UNANSWERED = 200
"""Results that are written at once for requests that were not answered."""
_STOPPED = "The server stops; the request is tried again when it runs."
_WHY: dict[BatchState, tuple[str, str]] = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed: its batch was cancelled."),
}
log = structlog.get_logger()


class Batches:
    """One object for the life of the service; `run` may end and be called again."""

    redelivered: ClassVar[tuple[type, ...]] = ()

    def __init__(self, store: StoredBatches, settings: BatchSettings, ports: BatchPorts) -> None:
        self.store = store
        """For files, too."""
        self.settings = settings
        self._formats: BatchFormats | None = None
        self._served = trio.Event()
        self._ports = ports
        self._flow = BatchFlow(settings.in_flight)
        self._batches: dict[str, RunningBatch] = {}
        self._woken = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._stopped = False
        self._lines = LineRunner(store, ports, self._flow, self._wake)
        self._sums = (0, 0)

    async def run(self) -> None:
        """Until cancelled."""
        self._batches.clear()
        self._flow = BatchFlow(self.settings.in_flight)
        self._lines = LineRunner(self.store, self._ports, self._flow, self._wake)
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self.store.run)
                await self._served.wait()
                while not self._ports.serves():  # noqa: ASYNC110  (polled, as probes do)
                    await trio.sleep(_TICK_S)
                self._nursery.start_soon(self._look)
                while True:
                    self._make_ready()
                    while self._begin_line():
                        # One at a time: what clients wait for comes in between.
                        await trio.lowlevel.checkpoint()
                    with trio.move_on_after(_TICK_S if self._batches else float("inf")):
                        await self._woken.wait()
                    self._woken = trio.Event()
                    self._tick(self._ports.wall())
        finally:
            self._nursery = None

    def serve(self, formats: BatchFormats) -> None:
        """Called once: from then on batches are begun."""
        self._formats = formats
        self._served.set()

    # --- for clients ----------------------------------------------------------------------------------------------

    async def create(self, record: BatchRecord) -> None:
        """A new batch, which begins at once. Raises Refusal."""
        refused = await self.store.ask(NewBatch(record, self.settings.unfinished))
        if refused == "no_file":
            raise NotFound("file_not_found", f"There is no file with the id '{record.input_file[:80]}'.")
        if refused == "too_many":
            raise OverQuota(
                "too_many_batches",
                f"At most {self.settings.unfinished} batches of a tenant are unfinished at once. Wait for one to end, "
                "or cancel one.",
                None,
            )
        self._take_in(record)

    async def cancel(self, tenant: str, batch_id: str) -> BatchRecord:
        """The batch as it is then. Raises Refusal."""
        record: BatchRecord | None = await self.store.ask(GetBatch(tenant, batch_id))
        if record is None:
            raise batch_not_found(batch_id)
        if record.state in {"cancelling", "cancelled"}:
            return record
        if record.state in ENDED or record.state == "finalizing":
            raise Conflict("batch_ended", f"A batch with the status '{record.state}' cannot be cancelled.")
        at = self._ports.wall()
        batch = self._batches.get(batch_id)
        if batch is not None:
            record = batch.record
        record = msgspec.structs.replace(record, state="cancelling", cancelling_at=at)
        if batch is not None:
            batch.record = record
            self._end(batch, "cancelled")
        await self.store.ask(PutBatch(record))
        found: BatchRecord | None = await self.store.ask(GetBatch(tenant, batch_id))
        return record if found is None else found

    def stop(self) -> None:
        """Begin nothing more, and cut what runs: the next process goes on with it."""
        self._stopped = True
        for batch in self._batches.values():
            batch.validation.cancel()
            batch.cut(SHUTTING_DOWN, _STOPPED)

    def statistics(self) -> BatchStatistics:
        states: dict[str, int] = {}
        for batch in self._batches.values():
            states[batch.record.state] = states.get(batch.record.state, 0) + 1
        files, held = self._sums
        return BatchStatistics(
            batches=states,
            in_flight=self._flow.in_flight,
            answered_total=self._lines.answered_total,
            failed_total=self._lines.failed_total,
            retried_total=self._lines.retried_total,
            files=files,
            stored_bytes=held,
        )

    # --- its work -------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._woken.set()

    def _take_in(self, record: BatchRecord) -> None:
        if self._nursery is None or self._stopped or record.id in self._batches:
            return
        batch = self._batches[record.id] = RunningBatch(record)
        if record.state == "cancelling":
            batch.ends_as = "cancelled"
        self._flow.add(record.id, record.tenant)
        log.info("batch_taken_in", batch=record.id, tenant=record.tenant, state=record.state)
        if batch.validating:
            self._nursery.start_soon(self._validate, batch)
        self._wake()

    def _make_ready(self) -> None:
        nursery = self._nursery
        assert nursery is not None
        for batch in self._batches.values():
            self._flow.ready(batch.record.id, 0 if batch.ends_as or self._stopped else len(batch.lines))
            if batch.wants_lines and not self._stopped:
                batch.fetching = True
                nursery.start_soon(self._fetch, batch)

    def _begin_line(self) -> bool:
        """Whether a request was begun."""
        nursery, formats = self._nursery, self._formats
        assert nursery is not None
        assert formats is not None
        batch_id = self._flow.next(trio.current_time(), self._has_room)
        batch = None if batch_id is None else self._batches.get(batch_id)
        if batch_id is None or batch is None or batch.ends_as is not None or not batch.lines or self._stopped:
            return False
        line = batch.lines.popleft()
        batch.open[line.number] = None
        self._flow.begun(batch_id)
        nursery.start_soon(self._lines.run, batch, line, formats)
        return True

    def _has_room(self, tenant: str, in_flight: int) -> bool:
        limits, concurrent = self._ports.limits(tenant)
        return leaves_half(limits, concurrent, in_flight)

    def _tick(self, at: float) -> None:
        assert self._nursery is not None
        for batch in list(self._batches.values()):
            if self._stopped:
                return
            if at >= batch.record.expires and batch.ends_as is None and batch.record.state != "finalizing":
                self._end(batch, "expired")
            if batch.is_done:
                batch.finishing = True
                self._nursery.start_soon(self._finish, batch)

    def _end(self, batch: RunningBatch, ends_as: BatchState) -> None:
        batch.ends_as = ends_as
        batch.cut(*_WHY[ends_as])
        self._wake()

    async def _fetch(self, batch: RunningBatch) -> None:
        batch.fetched(await self._insist(NextLines(batch.record.id, batch.after, FETCHED)))
        self._wake()

    async def _validate(self, batch: RunningBatch) -> None:
        assert self._formats is not None
        found: Validated | None = None
        with batch.validation:
            while found is None:
                try:
                    found = await validate(batch.record, self.store, self._formats, self._ports, self.settings)
                except Unavailable:
                    await trio.sleep(_RETRY_S)
        if found is None:
            # The next process begins it again.
            return
        batch.validating = False
        at, record = self._ports.wall(), batch.record
        if batch.ends_as is not None:
            # Cancelled meanwhile: its requests are listed as such, if they are in order.
            batch.record = msgspec.structs.replace(record, total=0 if found.faults else found.total)
            if record.state == "validating":
                batch.record = msgspec.structs.replace(batch.record, state="in_progress")
        elif found.faults:
            batch.record = msgspec.structs.replace(record, state="failed", failed_at=at, faults=found.faults)
            await self._insist(PutBatch(batch.record))
            self._forget(batch)
        else:
            batch.record = msgspec.structs.replace(record, state="in_progress", in_progress_at=at, total=found.total)
            await self._insist(PutBatch(batch.record))
        self._wake()

    async def _finish(self, batch: RunningBatch) -> None:
        """Write the results of what was not answered, then the end."""
        assert self._formats is not None
        record, ends_as = batch.record, batch.ends_as or "completed"
        if record.state == "in_progress" and ends_as == "completed":
            # Of another end the next process knows by the window, or by the state "cancelling".
            finalizing_at = self._ports.wall()
            record = batch.record = msgspec.structs.replace(record, state="finalizing", finalizing_at=finalizing_at)
            await self._insist(PutBatch(record))
        if ends_as in _WHY:
            after = 0
            while lines := await self._insist(NextLines(record.id, after, _UNANSWERED)):
                after = lines[-1].number
                results = [
                    LineResult(line.number, False, self._formats.unanswered(line, *_WHY[ends_as])) for line in lines
                ]
                await self._insist(PutResults(record.id, tuple(results)))
        at = self._ports.wall()
        record = msgspec.structs.replace(record, state=ends_as, **{f"{ends_as}_at": at})
        ids = (self._lines.new_file_id(), self._lines.new_file_id())
        record = await self._insist(FinishBatch(record, *ids))
        log.info("batch_ended", batch=record.id, tenant=record.tenant, state=record.state, total=record.total)
        self._forget(batch)
        self._wake()

    def _forget(self, batch: RunningBatch) -> None:
        self._flow.remove(batch.record.id)
        self._batches.pop(batch.record.id, None)

    async def _look(self) -> None:
        """Now and then: batches that are not known yet, and what is kept no longer."""
        swept_at = float("-inf")
        while True:
            for record in await self._insist(UnfinishedBatches()):
                batch = self._batches.get(record.id)
                if batch is None:
                    self._take_in(record)
                elif record.state == "cancelling" and batch.ends_as is None:
                    batch.record = msgspec.structs.replace(
                        batch.record, state="cancelling", cancelling_at=record.cancelling_at
                    )
                    self._end(batch, "cancelled")
            self._sums = await self._insist(FileSums())
            if trio.current_time() - swept_at >= _SWEEP_S:
                swept_at = trio.current_time()
                await self._insist(SweepFiles())
            await trio.sleep(_LOOK_S)

    async def _insist(self, query: Any) -> Any:
        """As `ask`, again and again: the file may be locked or the disk full for a while."""
        while True:
            try:
                return await self.store.ask(query)
            except Unavailable:
                await trio.sleep(_RETRY_S)


def batch_not_found(batch_id: str) -> NotFound:
    """For another tenant's batch, too."""
    return NotFound("batch_not_found", f"There is no batch with the id '{batch_id[:80]}'.")
