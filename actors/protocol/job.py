"""One attempt's work for one backend, and the messages about it: to the dispatcher and to the backend's actor."""

from collections.abc import Mapping
from math import inf
from typing import Any

import msgspec

from actors.api.request import Prompt, RequestContent
from actors.kernel.actor import Reply
from actors.kernel.thread_bridge import WorkerEvents
from actors.protocol.delivery import Delivery
from engine.core.limits import EngineLimits
from engine.lora.adapters import Adapter
from engine.messages import Embed, ExpectTokens, Submit, Weigh
from engine.sampling.grammar import Grammar
from engine.sampling.params import SamplingParams
from engine.scheduling.prefix_marks import prefix_marks
from policies.queueing.backend_queue import BackendJob
from policies.queueing.placement import PrefixMark
from policies.queueing.queue_item import QueueItem


class UpstreamCall(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The call of an upstream for one choice: what `Submit` is for an engine."""

    sequence_id: int
    model: str
    """The model's name at the upstream."""
    prompt: Prompt
    params: SamplingParams
    grammar: Grammar | None = None
    """Constraint on the answer unless it is a tool call."""
    limit: int | None = None
    """Output tokens that the client or the route allow; None: no limit. `params` always has a bound."""
    written: Mapping[str, Any] = {}
    """The fields of the request, as the client wrote them."""
    extra: tuple[str, ...] = ()
    """The names of those among them that only some upstreams know."""
    begun: str = ""
    """The text that the client has received: the answer continues after it."""
    streamed: bool = True
    """False: the upstream is to send the answer whole."""
    stall_s: float = inf
    """The route's: an answer that is silent for so long is given up."""
    cache_salt: bytes = b""
    """For an upstream that supports it; b"": none."""
    marks: tuple[bytes, ...] = ()
    """Of the conversation's beginnings, where the upstream has several addresses; shortest first."""


class Job(BackendJob, frozen=True, kw_only=True):
    """The work of one attempt: it waits in a backend's fair queue, then the engine or the upstream runs it."""

    job_id: int
    engine: str
    """The name of the engine or upstream."""
    sequences: tuple[Submit, ...] | tuple[UpstreamCall, ...] | tuple[Embed | Weigh, ...]
    """Each with a `sequence_id`: `Submit` and `Weigh` for a model of text, `Embed` for one that makes vectors,
    `UpstreamCall` for an upstream."""
    delivery: Delivery
    asked: RequestContent

    @property
    def content(self) -> bytes:
        return self.asked.digest

    @property
    def sequence_count(self) -> int:
        return len(self.sequences)

    @property
    def prompt_lengths(self) -> list[int]:
        """Of what the queue counts KV blocks for: not of vectors and upstreams."""
        return [len(each.prompt_token_ids) for each in self.sequences if isinstance(each, Submit | Weigh)]

    def prefix_marks(self, block_size: int) -> tuple[PrefixMark, ...]:
        """Of the first choice; the prompts of all choices begin alike."""
        first = self.sequences[0]
        if not isinstance(first, Submit | Weigh):
            return ()
        return tuple([PrefixMark(*mark) for mark in prefix_marks(first, block_size)])


class Enqueue(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Enqueue the job at its backend. All outputs and notices go to its delivery."""

    job: Job

    @property
    def reply(self) -> Delivery:
        """Its `fail` is called if the message is lost in a crash."""
        return self.job.delivery


class Withdraw(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The job is not needed any more: dequeue or cancel it."""

    job: Job


class DraftTokens(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A draft for the job's sequence. It is dropped if the job does not run any more."""

    job: Job
    expect: ExpectTokens


class EngineUp(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A replica takes jobs. Every life of a replica has its own epoch."""

    engine: str
    epoch: int
    limits: EngineLimits
    replica: int = 0


class EngineDown(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A replica is down and has lost its jobs."""

    engine: str
    epoch: int
    code: str
    message: str
    replica: int = 0


class BackendDown(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A backend is marked down: none of its replicas will be up for a while."""

    backend: str


class JobsFinished(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Jobs that have ended in the engine, and output tokens by tenant since the last such message."""

    engine: str
    jobs: tuple[Job, ...]
    made: Mapping[str, int]
    first_s: tuple[tuple[str, float], ...] = ()
    """(tenant, seconds from the start) of jobs that gave their first output since."""


class QueueAlarm(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A job in a queue may have expired."""


class RefusedEarly(msgspec.Struct, frozen=True, tag=True, gc=False):
    """This newcomer was refused before it had a job, as these backends would have rejected it: count it there."""

    item: QueueItem
    backends: tuple[str, ...]


QueueMessage = (
    Enqueue | Withdraw | DraftTokens | EngineUp | EngineDown | BackendDown | JobsFinished | QueueAlarm | RefusedEarly
)


class StartJob(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Start the job if the replica is still in this epoch (else the dispatcher has failed the job already)."""

    job: Job
    epoch: int


class CancelJob(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Abort the job's running sequences."""

    job: Job


class StallAlarm(msgspec.Struct, frozen=True, tag=True, gc=False):
    """No step was reported for as long as the settings allow."""


class Install(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Jobs that are started after this can use the adapter."""

    adapter: Adapter
    reply: Reply[None]
    """Set when the adapter is published."""


class Uninstall(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Jobs that are started after this cannot use the adapter."""

    name: str
    reply: Reply[None]


EngineMessage = StartJob | CancelJob | DraftTokens | WorkerEvents | StallAlarm | Install | Uninstall
