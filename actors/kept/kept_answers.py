"""All kept answers: who may read them, how many bytes they take, and when they are dropped.

Each runs in a task of its own, so that a lost connection does not end it. After `keep_s` without a reader it is
cancelled, as the request of a client that left is, and charged in the same way. With a journal the events of each are
in a file before its readers get them, and what an ended process has left there goes on when a reader comes.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from secrets import randbits
from typing import ClassVar, Protocol

import msgspec
import structlog
import trio

from actors.api.errors import SHUTTING_DOWN, ErrorBody, IdempotencyKeyReused, NotFound, OverQuota, Refusal
from actors.api.request import BegunAnswer, InferenceRequest
from actors.api.response import DecisionInfo, Failed, ResponseEvent, Usage
from actors.api.statistics import KeptStatistics
from actors.kept.kept_answer import KeptAnswer, KeptReader
from actors.kept.kept_journal import KeptJournal, KeptThreads
from actors.kept.kept_store import DeleteAnswer, ForgetDelivered, KeptOpened, append_events, put_answer
from actors.kernel.clock import WallClock
from actors.protocol.ledger import Delivered

_SWEEP_S = 0.25
_OLDEST_S = 86_400.0
"""An answer that has begun earlier is not taken over from an ended process."""
_PATIENCE_S = 30.0
"""How long an answer of an ended process tries to go on while all models are busy."""
_TENANT_SHARE = 4
"""A tenant may use one in so many bytes of the memory."""
_ANSWER_SHARE = 4
"""An answer may use one in so many bytes of its tenant's."""
_UNREAD = 64
"""Answers of a tenant that run without a reader, at most."""
_SEED_BITS = 62
"""Choices add their number."""
_FAILED = ErrorBody(500, "server_error", "internal_error", "The server failed on this request; its log says why.")
_ENDED = ErrorBody(503, "server_error", "answer_dropped", "The answer was dropped: it had no reader for too long.")
_DELETED = ErrorBody(
    409, "invalid_request_error", "answer_deleted", "The answer was deleted or cancelled by its client."
)
_MOST_UNSENT = 1 << 20
"""Bytes of an answer that is not kept any more and that its readers have not taken, at most."""
log = structlog.get_logger()


class Responding(Protocol):
    """What is used of a `ResponseStream`."""

    on_held_back: Callable[[], None] | None

    @property
    def decided(self) -> DecisionInfo: ...
    @property
    def delivered(self) -> Delivered: ...
    async def next_events(self) -> list[ResponseEvent]: ...
    def close(self) -> None: ...


class KeptAnswers:
    """By request id, and by tenant and Idempotency-Key. All methods but `run` are synchronous."""

    redelivered: ClassVar[tuple[type, ...]] = ()

    def __init__(
        self,
        start: Callable[[InferenceRequest], Awaitable[Responding]],
        *,
        keep_s: float,
        memory_bytes: int,
        background_s: float = 3600.0,
        background_most: int = 16,
        threads: KeptThreads | None = None,
        may_open: Callable[[], bool] = lambda: True,
        serves: Callable[[], bool] = lambda: True,
        wall: WallClock,
    ) -> None:
        """`start` begins an answer. `keep_s` 0: none is kept.

        `background_s`: how long one in the background is kept from its beginning on, and runs at most;
        `background_most`: so many of a tenant run at once.
        `threads`: start the thread of the file; None: there is none. `may_open`: see `KeptJournal`. `serves`: models
        are loaded, so that those who come back can be answered.
        """
        self._start = start
        self.keep_s = keep_s
        self._background_s = background_s
        self._background_most = background_most
        self._memory_bytes = memory_bytes
        self._serves = serves
        self._wall = wall
        self._answers: dict[str, KeptAnswer] = {}
        self._by_key: dict[tuple[str, str], tuple[bytes, KeptAnswer]] = {}
        self._used: Counter[str] = Counter()
        """Bytes by tenant."""
        self.used_bytes = 0
        self._nursery: trio.Nursery | None = None
        self.attached_total = 0
        """Readers of an answer that was there already."""
        self.continued_total = 0
        """Answers of ended processes that went on."""
        self.on_ended: Callable[[KeptAnswer], None] = lambda _: None
        """Called once with each answer that has ended and can still be found, unless its `hand_on` was called before.

        Also with those that had ended when they were taken over from an ended process.
        """
        self._journal: KeptJournal | None = None
        if threads is not None and keep_s:
            self._journal = KeptJournal(threads, may_open=may_open, on_opened=self._restore, on_lost=self._not_stored)

    def __len__(self) -> int:
        return len(self._answers)

    def statistics(self) -> KeptStatistics:
        failures = 0 if self._journal is None else self._journal.failures_total
        stored = sum([answer.stored for answer in self._answers.values()])
        return KeptStatistics(len(self), self.used_bytes, self.attached_total, stored, self.continued_total, failures)

    async def ready(self) -> None:
        """Wait until it is known what earlier processes have left. Raises Unavailable."""
        if self._journal is not None:
            await self._journal.ready()

    async def run(self) -> None:
        """Run the answers, and drop those whose time is over."""
        try:
            async with trio.open_nursery() as self._nursery:
                if self._journal is not None:
                    self._nursery.start_soon(self._journal.run)
                while True:
                    await trio.sleep(_SWEEP_S)
                    self._sweep(trio.current_time())
        finally:
            self._nursery = None

    def begin(
        self,
        request: InferenceRequest,
        tenant: str,
        *,
        endpoint: str,
        created: int,
        key: str = "",
        digest: bytes = b"",
        background: bool = False,
    ) -> KeptReader | None:
        """A reader of a new answer, or of the one with this Idempotency-Key; None: it cannot be kept now.

        `digest`: of the request that the key stands for. Raises IdempotencyKeyReused if it stands for another one, and
        for an answer in the background OverQuota if the tenant has too many of them.
        """
        found = self._by_key.get((tenant, key)) if key else None
        if found is not None:
            if found[0] != digest:
                raise IdempotencyKeyReused
            return self._attach(found[1])
        if self._nursery is None or not self.keep_s or not self._make_room(tenant, request.body_bytes):
            return None
        if background and self._in_background(tenant) >= self._background_most:
            raise OverQuota(
                "too_many_in_background",
                f"At most {self._background_most} answers of a tenant run in the background at once. Wait for one to "
                "end, or delete one.",
                None,
            )
        # Drawn here, so that another process samples what this one would have.
        request = msgspec.structs.replace(request, seed=randbits(_SEED_BITS))
        answer = KeptAnswer(
            request,
            tenant,
            endpoint=endpoint,
            created=created,
            key=key,
            on_left=self._on_left,
            background=background,
        )
        reader = KeptReader(answer)
        self._take_in(answer, digest)
        self._put(answer, digest)
        self._nursery.start_soon(self._run, answer)
        return reader

    def _in_background(self, tenant: str) -> int:
        return sum([each.background and not each.ended and each.tenant == tenant for each in self._answers.values()])

    async def written(self) -> None:
        """Wait until what was begun so far is in the file, if there is one."""
        if self._journal is not None:
            await self._journal.commit()

    def find(self, answer_id: str, tenant: str) -> KeptReader:
        """A reader of an answer of this tenant, which goes on if it has not ended. Raises NotFound."""
        return self._attach(self.look(answer_id, tenant))

    def look(self, answer_id: str, tenant: str) -> KeptAnswer:
        """An answer of this tenant. Raises NotFound."""
        answer = self._answers.get(answer_id)
        if answer is None or answer.tenant != tenant:
            raise NotFound(
                "answer_not_kept",
                "There is no such answer: its id is wrong, it was not requested as one to keep, or it has had no "
                f"reader for {self.keep_s:g} s. Send the request again.",
            )
        return answer

    def end(self, answer: KeptAnswer) -> None:
        """Its client wants no more of it: as if it had left, and it cannot be found any more."""
        answer.hand_on()
        answer.refuse(_DELETED)
        self._end(answer)

    def _attach(self, answer: KeptAnswer) -> KeptReader:
        self.attached_total += 1
        reader = KeptReader(answer)
        self._go_on(answer)
        return reader

    def _take_in(self, answer: KeptAnswer, digest: bytes) -> None:
        self._answers[answer.request.request_id] = answer
        self._charge(answer.tenant, answer.bytes)
        if answer.key and not answer.failed:
            # What was begun before the file could be read stays what its key stands for.
            self._by_key.setdefault((answer.tenant, answer.key), (digest, answer))

    # --- the file -------------------------------------------------------------------------------------------------

    def _put(self, answer: KeptAnswer, digest: bytes) -> None:
        """Its row is in the file before any of its events."""
        if self._journal is None or not self._journal.is_on:
            return
        try:
            put = put_answer(
                answer.request,
                answer.tenant,
                answer.endpoint,
                answer.created,
                answer.key,
                digest,
                background=answer.background,
            )
        except Exception as error:  # noqa: BLE001  (a number of more than 64 bits, for example)
            log.warning("kept_answer_not_stored", request_id=answer.request.request_id, why=type(error).__name__)
            return
        answer.stored = True
        self._journal.write(put)

    async def _append(self, answer: KeptAnswer, events: list[ResponseEvent], response: Responding) -> None:
        """Wait until they are in the file, or it is clear that they will not be."""
        if self._journal is None or not answer.stored or answer.decided is None:
            return
        try:
            write = append_events(
                answer.request.request_id, answer.position, events, answer.decided, response.delivered
            )
        except Exception as error:  # noqa: BLE001  (an upstream's fields may be anything)
            log.warning("kept_answer_not_stored", request_id=answer.request.request_id, why=type(error).__name__)
            self._unstore(answer)
            return
        await self._journal.commit(write)

    def _unstore(self, answer: KeptAnswer) -> None:
        if self._journal is not None and answer.stored:
            answer.stored = False
            self._journal.write(DeleteAnswer(answer.request.request_id))

    def _not_stored(self) -> None:
        """The file has failed: answers go on in memory."""
        for answer in self._answers.values():
            answer.stored = False

    def _restore(self, opened: KeptOpened) -> None:
        """What an ended process has left."""
        now, at, restored = trio.current_time(), self._wall(), 0
        for each in opened.answers:
            put = each.put
            request = msgspec.structs.replace(each.request, arrived_at=now)
            answer = KeptAnswer(
                request,
                put.tenant,
                endpoint=put.endpoint,
                created=put.created,
                key=put.key,
                on_left=self._on_left,
                background=put.background,
            )
            answer.restore(each.decided, each.events)
            oldest_s = self._background_s if put.background else _OLDEST_S
            if at - put.created > oldest_s or not self._make_room(put.tenant, answer.bytes):
                self._unstore(answer)
                continue
            restored += 1
            self._take_in(answer, put.digest)
            if answer.ended:
                self._hand_on(answer)
            if answer.background:
                # What comes of it does not wait for a reader. As many as before, at most.
                self._go_on(answer)
        if opened.answers or opened.unreadable:
            log.info("kept_answers_restored", answers=restored, of=len(opened.answers), unreadable=opened.unreadable)

    def _go_on(self, answer: KeptAnswer) -> None:
        """The answer of an ended process is wanted now."""
        if not answer.waits:
            return
        answer.waits = False
        if self._nursery is None:
            answer.refuse(_ENDED)
            return
        self.continued_total += 1
        log.info("kept_answer_continued", request_id=answer.request.request_id, events=answer.position)
        self._nursery.start_soon(self._run, answer)

    # --- an answer's task -----------------------------------------------------------------------------------------

    async def _run(self, answer: KeptAnswer) -> None:
        left = False
        """Another process will go on with it."""
        try:
            with answer.scope:
                response = await self._open(answer)
                try:
                    answer.opened(response.decided)
                    response.on_held_back = answer.held_back
                    while not answer.ended and (events := await response.next_events()):
                        await self._add(answer, events, response)
                finally:
                    response.close()
        except Refusal as refusal:
            left = answer.stored and refusal.body.code == SHUTTING_DOWN
            answer.refuse(_named(refusal.body, answer))
        except Exception:
            # A defect in one answer must not end the others.
            log.exception("kept_answer_failed", request_id=answer.request.request_id)
            answer.refuse(_named(_FAILED, answer))
        except trio.Cancelled:
            left = answer.stored
            raise
        finally:
            answer.refuse(_ENDED)
            if not left:
                self._hand_on(answer)
            if not answer.readers:
                answer.idle_since = trio.current_time()
            if answer.failed and not left:
                # A retry is to be tried again.
                self._free_key(answer)
                if not answer.position and not answer.background:
                    self._drop(answer)
                elif not answer.position:
                    # Its client comes back to learn of it, but no other process tries it again.
                    self._unstore(answer)

    async def _open(self, answer: KeptAnswer) -> Responding:
        """Begin it, or go on with what an ended process has left. Raises Refusal."""
        if not answer.restored:
            return await self._start(answer.request)
        if self._journal is not None:
            await self._journal.commit(ForgetDelivered(answer.request.request_id))
        until = trio.current_time() + (self._background_s if answer.background else _PATIENCE_S)
        while True:
            begun = BegunAnswer(answer.tenant, answer.events)
            request = msgspec.structs.replace(answer.request, begun=begun, arrived_at=trio.current_time())
            try:
                return await self._start(request)
            except Refusal as refusal:
                body = refusal.body
                if body.code != "loading" and (not body.should_retry or trio.current_time() > until):
                    raise
                await trio.sleep(min(body.retry_after_s or 1.0, _PATIENCE_S))

    async def _add(self, answer: KeptAnswer, events: list[ResponseEvent], response: Responding) -> None:
        last = events[-1]
        if isinstance(last, Failed):
            if answer.stored and last.error.code == SHUTTING_DOWN:
                # It has not ended: another process goes on with it.
                if events[:-1]:
                    await self._append(answer, events[:-1], response)
                    self._publish(answer, events[:-1])
                raise Refusal(last.error)
            events = [*events[:-1], msgspec.structs.replace(last, error=_named(last.error, answer, last.usage))]
        await self._append(answer, events, response)
        self._publish(answer, events)

    def _publish(self, answer: KeptAnswer, events: list[ResponseEvent]) -> None:
        before = answer.bytes
        answer.add(events)
        if answer.ended:
            # There may be no room for it from here on.
            self._hand_on(answer)
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

    def _hand_on(self, answer: KeptAnswer) -> None:
        if answer.request.request_id in self._answers and answer.hand_on():
            self.on_ended(answer)

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
        for answer in [each for each in self._answers.values() if _may_go(each) and of(each)]:
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
        self._unstore(answer)

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
        found = answer.request.request_id in self._answers
        if answer.ended or (answer.background and found):
            return
        unread = [each for each in self._answers.values() if each.tenant == answer.tenant and each.is_unread]
        if len(unread) > _UNREAD or not found:
            self._end(answer)

    def _sweep(self, now: float) -> None:
        for answer in list(self._answers.values()):
            if answer.readers or answer.idle_since is None:
                continue
            if answer.waits and not self._serves():
                answer.idle_since = now
            if answer.background:
                over = self._wall() - answer.created >= self._background_s
            else:
                over = now - answer.idle_since >= self.keep_s
            if over:
                self._end(answer)

    def _end(self, answer: KeptAnswer) -> None:
        answer.scope.cancel()
        self._drop(answer)


def _may_go(answer: KeptAnswer) -> bool:
    return (answer.ended or answer.waits) and not answer.readers


def _named(error: ErrorBody, answer: KeptAnswer, usage: Usage | None = None) -> ErrorBody:
    """The error with what a client needs to know of an answer that has broken off; unchanged before its first event."""
    if not answer.position:
        return error
    tokens = answer.delivered_tokens if usage is None else usage.completion_tokens
    return msgspec.structs.replace(error, stream=answer.request.request_id, delivered_tokens=tokens)
