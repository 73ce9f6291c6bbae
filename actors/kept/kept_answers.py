"""All kept answers: who may read them, how many bytes they take, and when they are dropped.

Each runs in a task of its own, so that a lost connection does not end it. After `keep_s` without a reader it is
cancelled, as the request of a client that left is, and charged in the same way.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import ClassVar

import structlog
import trio

from actors.api.errors import ErrorBody, IdempotencyKeyReused, NotFound, Refusal
from actors.api.request import InferenceRequest
from actors.api.response import ResponseEvent
from actors.api.statistics import KeptStatistics
from actors.kept.kept_answer import KeptAnswer, KeptReader
from actors.request.response_stream import ResponseStream

_SWEEP_S = 0.25
_TENANT_SHARE = 4
"""A tenant may use one in so many bytes of the memory."""
_ANSWER_SHARE = 4
"""An answer may use one in so many bytes of its tenant's."""
_UNREAD = 64
"""Answers of a tenant that run without a reader, at most."""
_FAILED = ErrorBody(500, "server_error", "internal_error", "The server failed on this request; its log says why.")
_ENDED = ErrorBody(503, "server_error", "answer_dropped", "The answer was dropped: it had no reader for too long.")
_MOST_UNSENT = 1 << 20
"""Bytes of an answer that is not kept any more and that its readers have not taken, at most."""
log = structlog.get_logger()


class KeptAnswers:
    """By request id, and by tenant and Idempotency-Key. All methods but `run` are synchronous."""

    redelivered: ClassVar[tuple[type, ...]] = ()

    def __init__(
        self, start: Callable[[InferenceRequest], Awaitable[ResponseStream]], *, keep_s: float, memory_bytes: int
    ) -> None:
        """`start` begins an answer. `keep_s` 0: none is kept."""
        self._start = start
        self.keep_s = keep_s
        self._memory_bytes = memory_bytes
        self._answers: dict[str, KeptAnswer] = {}
        self._by_key: dict[tuple[str, str], tuple[bytes, KeptAnswer]] = {}
        self._used: Counter[str] = Counter()
        """Bytes by tenant."""
        self.used_bytes = 0
        self._nursery: trio.Nursery | None = None
        self.attached_total = 0
        """Readers of an answer that was there already."""

    def __len__(self) -> int:
        return len(self._answers)

    def statistics(self) -> KeptStatistics:
        return KeptStatistics(len(self), self.used_bytes, self.attached_total)

    async def run(self) -> None:
        """Run the answers, and drop those whose time is over."""
        try:
            async with trio.open_nursery() as self._nursery:
                while True:
                    await trio.sleep(_SWEEP_S)
                    self._sweep(trio.current_time())
        finally:
            self._nursery = None

    def begin(
        self, request: InferenceRequest, tenant: str, *, endpoint: str, created: int, key: str = "", digest: bytes = b""
    ) -> KeptReader | None:
        """A reader of a new answer, or of the one with this Idempotency-Key; None: it cannot be kept now.

        `digest`: of the request that the key stands for. Raises IdempotencyKeyReused if it stands for another one.
        """
        found = self._by_key.get((tenant, key)) if key else None
        if found is not None:
            if found[0] != digest:
                raise IdempotencyKeyReused
            self.attached_total += 1
            return KeptReader(found[1])
        if self._nursery is None or not self.keep_s or not self._make_room(tenant, request.body_bytes):
            return None
        answer = KeptAnswer(request, tenant, endpoint=endpoint, created=created, key=key, on_left=self._on_left)
        reader = KeptReader(answer)
        self._answers[request.request_id] = answer
        self._charge(tenant, answer.bytes)
        if key:
            self._by_key[tenant, key] = digest, answer
        self._nursery.start_soon(self._run, answer)
        return reader

    def find(self, answer_id: str, tenant: str) -> KeptReader:
        """A reader of an answer of this tenant. Raises NotFound."""
        answer = self._answers.get(answer_id)
        if answer is None or answer.tenant != tenant:
            raise NotFound(
                "answer_not_kept",
                "There is no such answer: its id is wrong, it was not requested as one to keep, or it has had no "
                f"reader for {self.keep_s:g} s. Send the request again.",
            )
        self.attached_total += 1
        return KeptReader(answer)

    # --- an answer's task -----------------------------------------------------------------------------------------

    async def _run(self, answer: KeptAnswer) -> None:
        try:
            with answer.scope:
                response = await self._start(answer.request)
                try:
                    answer.opened(response.decided)
                    while not answer.ended and (events := await response.next_events()):
                        self._add(answer, events)
                finally:
                    response.close()
        except Refusal as refusal:
            answer.refuse(refusal.body)
        except Exception:
            # A defect in one answer must not end the others.
            log.exception("kept_answer_failed", request_id=answer.request.request_id)
            answer.refuse(_FAILED)
        finally:
            answer.refuse(_ENDED)
            if not answer.readers:
                answer.idle_since = trio.current_time()
            if answer.failed:
                # A retry is to be tried again.
                self._free_key(answer)
                if not answer.position:
                    self._drop(answer)

    def _add(self, answer: KeptAnswer, events: list[ResponseEvent]) -> None:
        before = answer.bytes
        answer.add(events)
        if answer.request.request_id in self._answers:
            self._charge(answer.tenant, answer.bytes - before)
            share = self._memory_bytes // _TENANT_SHARE // _ANSWER_SHARE
            if answer.bytes > share or not self._make_room(answer.tenant, 0):
                self._drop(answer)
        else:
            # Only those who read it now get the rest.
            answer.trim()
            if not answer.readers or answer.bytes - answer.request.body_bytes > _MOST_UNSENT:
                answer.scope.cancel()

    # --- bounds -------------------------------------------------------------------------------------------------------

    def _make_room(self, tenant: str, size: int) -> bool:
        """Whether so many bytes fit. Drops ended answers without a reader, the tenant's own and the oldest first."""
        most, share = self._memory_bytes, self._memory_bytes // _TENANT_SHARE
        if self._used[tenant] + size > share:
            self._drop_ended(lambda each: each.tenant == tenant, self._used[tenant] + size - share)
        if self.used_bytes + size > most:
            self._drop_ended(lambda _: True, self.used_bytes + size - most)
        return self._used[tenant] + size <= share and self.used_bytes + size <= most

    def _drop_ended(self, of: Callable[[KeptAnswer], bool], size: int) -> None:
        for answer in [each for each in self._answers.values() if each.ended and not each.readers and of(each)]:
            if size <= 0:
                break
            size -= answer.bytes
            self._drop(answer)

    def _drop(self, answer: KeptAnswer) -> None:
        """It cannot be found any more."""
        if self._answers.pop(answer.request.request_id, None) is None:
            return
        self._charge(answer.tenant, -answer.bytes)
        self._free_key(answer)

    def _charge(self, tenant: str, size: int) -> None:
        self.used_bytes += size
        self._used[tenant] += size
        if not self._used[tenant]:
            del self._used[tenant]

    def _free_key(self, answer: KeptAnswer) -> None:
        """Its key stands for it no longer; it may stand for a later answer already."""
        _, current = self._by_key.get((answer.tenant, answer.key), (b"", None))
        if current is answer:
            del self._by_key[answer.tenant, answer.key]

    def _on_left(self, answer: KeptAnswer) -> None:
        """Its last reader has left."""
        if answer.ended:
            return
        unread = [each for each in self._answers.values() if each.tenant == answer.tenant and each.is_unread]
        if len(unread) > _UNREAD or answer.request.request_id not in self._answers:
            self._end(answer)

    def _sweep(self, now: float) -> None:
        for answer in list(self._answers.values()):
            if answer.idle_since is not None and now - answer.idle_since >= self.keep_s:
                self._end(answer)

    def _end(self, answer: KeptAnswer) -> None:
        answer.scope.cancel()
        self._drop(answer)
