"""Has one request of a batch answered, and writes its result."""

from collections.abc import Callable
from functools import partial
from secrets import token_hex
from typing import cast

import structlog
import trio

from actors.api.errors import ErrorBody, Refusal, Unavailable
from actors.api.request import Credentials, InferenceRequest, OfBatch, ParsedBody
from actors.batches.ports import BatchFormats, BatchPorts
from actors.batches.records import LineResult, WaitingLine
from actors.batches.running_batch import RunningBatch
from actors.batches.store_queries import PutResults
from actors.batches.stored_batches import StoredBatches
from policies.batching.batch_flow import BatchFlow
from policies.batching.retry_rule import retry_after

_LONG_BYTES = 64 * 1024
"""A longer request is read in a thread."""
_RETRY_S = 1.0
_FAILED = ErrorBody(500, "server_error", "internal_error", "The server failed on this request; its log says why.")
_FULL = ("file_storage_full", "The answer did not fit into the tenant's storage for files. Delete files.")
log = structlog.get_logger()


class LineRunner:
    """All requests of one life of the actor."""

    def __init__(self, store: StoredBatches, ports: BatchPorts, flow: BatchFlow, wake: Callable[[], None]) -> None:
        """`wake`: call the actor, as another request may be begun."""
        self._store = store
        self._ports = ports
        self._flow = flow
        self._wake = wake
        self.answered_total = 0
        self.failed_total = 0
        self.retried_total = 0

    async def run(self, batch: RunningBatch, line: WaitingLine, formats: BatchFormats) -> None:
        """The whole way of one request that the flow has begun."""
        waits = [True]
        """It has no place on a backend yet."""

        def placed() -> None:
            if waits:
                waits.clear()
                self._flow.placed(batch.record.id)
                self._wake()

        request_id, pause_s = token_hex(12), None
        status, body = _FAILED.status, b""
        try:
            status, body = 200, await self._answer(batch, line, formats, request_id, placed)
        except Refusal as refusal:
            status, body = refusal.body.status, formats.error(refusal.body)
            pause_s = self._pause_s(batch, line, refusal.body)
        except Exception:
            log.exception("batch_line_failed", batch=batch.record.id, line=line.number)
            body = formats.error(_FAILED)
        self._flow.ended(batch.record.id, trio.current_time(), waited=bool(waits), retry_after_s=pause_s)
        self._wake()
        if status == 200 or (pause_s is None and batch.ends_as is None):
            await self._put(batch, line, formats, request_id, status, body)
            del batch.open[line.number]
        else:
            self.retried_total += batch.ends_as is None
            batch.again(line)
        self._wake()

    async def _answer(
        self,
        batch: RunningBatch,
        line: WaitingLine,
        formats: BatchFormats,
        request_id: str,
        placed: Callable[[], None],
    ) -> bytes:
        """The body of the answer. Raises Refusal."""
        record = batch.record
        parse = partial(formats.parse, line.raw, record.endpoint)
        parsed = parse() if len(line.raw) <= _LONG_BYTES else cast("ParsedBody", await self._ports.run_in_thread(parse))
        request = InferenceRequest(
            request_id=request_id,
            credentials=Credentials(path=record.endpoint),
            body=parsed,
            body_bytes=len(line.raw),
            arrived_at=trio.current_time(),
            batch=OfBatch(record.id, record.tenant, record.key),
        )
        response = await self._ports.open(request)
        try:
            if batch.ends_as is not None:
                raise Unavailable("batch_ended", "Its batch has ended.")
            batch.open[line.number] = response
            response.when_started(placed)
            return await formats.answer(record.endpoint, request, response)
        finally:
            response.close()

    def _pause_s(self, batch: RunningBatch, line: WaitingLine, error: ErrorBody) -> float | None:
        """When to try it again; None: the error is its result."""
        if batch.ends_as is not None:
            return None
        if error.status >= 500 and error.status != 503:
            batch.failures[line.number] += 1
        return retry_after(
            error.status,
            should_retry=error.should_retry,
            retry_after_s=error.retry_after_s,
            failures=batch.failures[line.number],
        )

    async def _put(  # noqa: PLR0917  (a result)
        self, batch: RunningBatch, line: WaitingLine, formats: BatchFormats, request_id: str, status: int, body: bytes
    ) -> None:
        ok = status == 200
        self.answered_total += ok
        self.failed_total += not ok
        result = LineResult(line.number, ok, formats.answered(line, request_id, status, body))
        instead = LineResult(line.number, False, formats.unanswered(line, *_FULL))
        while True:
            try:
                await self._store.ask(PutResults(batch.record.id, (result,), (instead,)))
            except Unavailable:
                # The file may be locked or the disk full for a while; the answer is not lost.
                await trio.sleep(_RETRY_S)
            else:
                return

    @staticmethod
    def new_file_id() -> str:
        return f"file-{token_hex(12)}"
