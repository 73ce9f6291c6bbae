"""Owns one upstream: hands calls to its addresses, outputs to their readers, and failures, too, truthfully.

The dispatcher treats it like an engine: `StartJob` and `CancelJob` come in, outputs and `JobsFinished` go out. Each
call is a task of its own, and must never fail its actor, which would end the other calls.
"""

from collections.abc import Callable

import msgspec
import structlog
import trio

from actors.api.request import ChatPrompt
from actors.kernel.actor import Actor
from actors.kernel.mailbox import Mailbox
from actors.protocol.engine import CancelJob, EngineMessage, StartJob
from actors.protocol.job import Job, UpstreamCall
from actors.protocol.outputs import JobFailed, JobRejected, StreamNotice, TextDelta
from actors.protocol.queue import EngineDown, EngineUp, JobsFinished, QueueMessage
from actors.upstream.call_book import CallBook
from actors.upstream.client import UpstreamClient
from actors.upstream.failures.failure import Failure
from actors.upstream.failures.redaction import unquoted
from actors.upstream.reading.response_reader import ResponseReader
from actors.upstream.replicas import Rest
from actors.upstream.request_body import UpstreamRequestBody, question
from actors.upstream.upstream_status import UpstreamStatus
from config.model.upstreams import UpstreamSettings

_CLOSE_S = 1.0
_MOST_TOKENS = 1 << 20
"""Of an answer that nobody has set a limit to."""
log = structlog.get_logger()


class UpstreamActor(Actor[EngineMessage]):
    """One life of one upstream's actor."""

    def __init__(
        self,
        mailbox: Mailbox[EngineMessage],
        *,
        dispatch: Mailbox[QueueMessage],
        published: UpstreamStatus,
        settings: UpstreamSettings,
        client: Callable[[], UpstreamClient],
    ) -> None:
        super().__init__(mailbox)
        self._dispatch = dispatch
        self._published = published
        self._settings = settings
        self._make_client = client
        self._book = CallBook(settings.concurrent)
        self._scopes: dict[int, trio.CancelScope] = {}
        """Of each call's task."""
        self._freed: list[Job] = []
        self._made: dict[str, int] = {}
        """Output tokens by tenant that dispatch has not heard of."""
        self._made_total = 0
        """By calls that have ended, so that corrections cannot make it smaller."""
        self._nursery: trio.Nursery | None = None
        self._client: UpstreamClient | None = None

    async def run(self) -> None:
        """Serve until cancelled."""
        published = self._published
        if published.epoch:
            published.restarts += 1
        published.epoch += 1
        self._client = self._make_client()
        try:
            async with trio.open_nursery() as self._nursery:
                published.state, published.why = "ready", None
                self._publish()
                assert published.limits is not None
                self._dispatch.put_unbounded(EngineUp(published.name, published.epoch, published.limits))
                await super().run()
        finally:
            message = f"The actor of the upstream {published.name} has ended."
            published.state, published.why = "failed", message
            published.inside = published.running = published.waiting = published.generation_tokens_total = 0
            self._dispatch.put_unbounded(EngineDown(published.name, published.epoch, "upstream_stopped", message))
            with trio.move_on_after(_CLOSE_S, shield=True):
                await self._client.aclose()

    def on(self, message: EngineMessage) -> None:
        """Work goes in; the rest of an engine's messages is never sent here."""
        match message:
            case StartJob(job, epoch):
                if epoch == self._published.epoch:
                    self._book.start(job, tuple([each for each in job.sequences if isinstance(each, UpstreamCall)]))
            case CancelJob(job):
                self._drop(job)

    def after_batch(self) -> None:
        """Begin what has a place, and tell dispatch what has ended."""
        assert self._nursery is not None
        while (begins := self._book.next_call()) is not None:
            job, call = begins
            scope = self._scopes[call.sequence_id] = trio.CancelScope()
            self._nursery.start_soon(self._run_call, job, call, scope)
        if self._freed:
            made = {tenant: tokens for tenant, tokens in self._made.items() if tokens > 0}
            self._dispatch.put_unbounded(JobsFinished(self._published.name, tuple(self._freed), made))
            self._freed.clear()
            self._made = {}
        self._publish()

    def _publish(self) -> None:
        published, book = self._published, self._book
        published.inside = book.inside
        published.running, published.waiting = book.running, book.waiting
        published.generation_tokens_total = self._made_total

    def _drop(self, job: Job) -> None:
        """Its connections are closed as soon as their tasks run."""
        calls = self._book.drop(job)
        if calls is None:
            return
        for call in calls:
            self._scopes[call].cancel()
        self._freed.append(job)

    # --- a call's task ------------------------------------------------------------------------------------------

    async def _run_call(self, job: Job, call: UpstreamCall, scope: trio.CancelScope) -> None:
        failure: Failure | None = None
        try:
            with scope:
                failure = await self._ask(job, call)
        except Exception as error:
            # A fault of ours in one call is no reason to break off all others.
            log.exception("upstream_call_failed", upstream=self._published.name)
            failure = Failure(kind="upstream_error", message=f"The call could not be made ({type(error).__name__}).")
        finally:
            if failure is not None and self._book.job_of(call.sequence_id) is job:
                self._fail(job, failure)
            if self._book.job_of(call.sequence_id) is job:
                # The whole actor ends: dispatch tells the reader.
                self._book.drop(job)
            self._book.gone(call.sequence_id)
            del self._scopes[call.sequence_id]
        self.after_batch()

    async def _ask(self, job: Job, call: UpstreamCall) -> Failure | None:
        """Ask one address after the other, as long as none was reached."""
        assert self._client is not None
        published, settings = self._published, self._settings
        sent = question(call, settings)
        tried: list[int] = []
        failure: Failure | None = None
        while True:
            number = published.replicas.choose(trio.current_time(), tried)
            if number is None:
                return failure
            if isinstance(number, Rest):
                return failure or Failure(
                    kind="upstream_resting" if number.failing else "upstream_busy",
                    message="The upstream has asked for a pause.",
                    retry_after_s=number.retry_after_s,
                )
            tried.append(number)
            failure, begun = await self._ask_replica(number, job, call, sent)
            if failure is None or begun:
                return failure
            asks_for_a_pause = failure.blame == "load" or failure.retry_after_s is not None
            if failure.reached and not asks_for_a_pause:
                return failure

    async def _ask_replica(
        self, number: int, job: Job, call: UpstreamCall, sent: UpstreamRequestBody
    ) -> tuple[Failure | None, bool]:
        """How it failed, and whether something of the answer was handed out."""
        assert self._client is not None
        published = self._published
        published.requests_total += 1
        began_at: float | None = trio.current_time()
        offered = call.prompt.tools.names if isinstance(call.prompt, ChatPrompt) and call.prompt.tools else ()
        logprobs = call.params.logprobs is not None
        most = call.limit if call.limit is not None else _MOST_TOKENS
        reader = ResponseReader(call.sequence_id, most, offered=offered, logprobs=logprobs)

        def on_output(output: TextDelta) -> None:
            nonlocal began_at
            if began_at is not None:
                published.ttft.add(trio.current_time() - began_at)
                began_at = None
            if output.finish is not None and output.upstream_finish:
                log.warning("upstream_finish_unknown", upstream=published.name, word=output.upstream_finish)
            self._hand_out(job, call, output)

        ok: bool | None = None
        failure: Failure | None = None
        try:
            failure = await self._client.ask(published.urls[number], sent, reader, on_output)
            ok = True if failure is None else failure.heard_as
        except trio.Cancelled:
            if began_at is not None and trio.current_time() >= job.deadline:
                # It was given all the time there was, and has said nothing.
                ok = False
                published.failures["upstream_silent"] += 1
            raise
        finally:
            wait = failure.retry_after_s if failure is not None else None
            self._made_total += reader.tokens
            published.replicas.end(number, ok, trio.current_time(), retry_after_s=wait)
        if failure is not None:
            failure = msgspec.structs.replace(failure, said=unquoted(failure.said, call.prompt))
            published.failures[failure.kind] += 1
            told = {"code": failure.said.code, "words": failure.said.noted}
            told = {name: value for name, value in told.items() if value}
            level = {"operator": log.error, "client": log.info}.get(failure.blame, log.warning)
            level("upstream_call_ended", upstream=published.name, url=published.urls[number], kind=failure.kind, **told)
        return failure, began_at is None

    def _hand_out(self, job: Job, call: UpstreamCall, output: TextDelta) -> None:
        if self._book.job_of(call.sequence_id) is None:
            return
        self._made[job.tenant] = self._made.get(job.tenant, 0) + output.token_count
        kept = job.delivery.put(job.job_id, output)
        if output.finish is not None:
            if self._book.complete(call.sequence_id) is not None:
                self._freed.append(job)
            self.after_batch()
        elif not kept:
            self._drop(job)
            self.after_batch()

    def _fail(self, job: Job, failure: Failure) -> None:
        """One call has failed, and the whole attempt with it."""
        self._drop(job)
        kind, message, pause_s, said = failure.kind, failure.told, failure.retry_after_s, failure.said
        notice: StreamNotice = JobFailed(kind, message, failure.retryable, pause_s, failure.by_model, said)
        if failure.refused:
            notice = JobRejected(kind, message, pause_s, lasting=failure.blame == "client", said=said)
        job.delivery.say(job.job_id, notice)
