"""One attempt's work for one backend, and the messages about it: to the dispatcher and to the backend's actor."""

from collections.abc import Mapping
from typing import Any

import msgspec

from actors.api.request import Prompt
from actors.kernel.actor import Reply
from actors.kernel.thread_bridge import WorkerEvents
from actors.protocol.delivery import Delivery
from engine.core.limits import EngineLimits
from engine.core.messages import Embed, ExpectTokens, Submit
from engine.lora.adapters import Adapter
from engine.sampling.grammar import Grammar
from engine.sampling.params import SamplingParams
from engine.scheduling.prefix_marks import prefix_marks
from policies.queueing.backend_queue import BackendJob
from policies.queueing.placement import PrefixMark


class UpstreamCall(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """One choice's answer, asked of an upstream: what `Submit` is for an engine."""

    sequence_id: int
    model: str
    """The name that the upstream knows."""
    prompt: Prompt
    params: SamplingParams
    grammar: Grammar | None = None
    """What the answer must be like, if it is no tool call."""
    limit: int | None = None
    """Output tokens that client or route allow; None: they have not said. `params` has a bound in either case."""
    written: Mapping[str, Any] = {}
    """The fields of the request, as the client wrote them."""
    begun: str = ""
    """What the client has of the answer: it goes on after this."""


class Job(BackendJob, frozen=True, kw_only=True):
    """One attempt on one rung: what waits in the fair queue, and what the engine or the upstream then runs."""

    job_id: int
    engine: str
    """The rung's name."""
    sequences: tuple[Submit, ...] | tuple[UpstreamCall, ...] | tuple[Embed, ...]
    """Each with a `sequence_id`: `Submit` for an engine, `Embed` for an encoder, `UpstreamCall` for an upstream."""
    delivery: Delivery

    @property
    def sequence_count(self) -> int:
        return len(self.sequences)

    @property
    def prompt_lengths(self) -> list[int]:
        """Encoders and upstreams keep no KV blocks."""
        return [len(each.prompt_token_ids) for each in self.sequences if isinstance(each, Submit)]

    def prefix_marks(self, block_size: int) -> tuple[PrefixMark, ...]:
        """Of the first choice, which begins as all do."""
        first = self.sequences[0]
        if not isinstance(first, Submit):
            return ()
        return tuple([PrefixMark(*mark) for mark in prefix_marks(first, block_size)])


class Enqueue(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Take this into the queue of its engine. All answers go to the work's delivery."""

    job: Job

    @property
    def reply(self) -> Delivery:
        """Told when the message is lost in a crash."""
        return self.job.delivery


class Withdraw(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Nobody waits for this work any more, wherever it is."""

    job: Job


class DraftTokens(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A draft for the sequence of this work. Nobody hears of it if the work does not run any more."""

    job: Job
    expect: ExpectTokens


class EngineUp(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A replica of the engine takes work. Every life of a replica has its own epoch."""

    engine: str
    epoch: int
    limits: EngineLimits
    replica: int = 0


class EngineDown(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A replica's life is over, and with it all that it had in hand."""

    engine: str
    epoch: int
    code: str
    message: str
    replica: int = 0


class JobsFinished(msgspec.Struct, frozen=True, tag=True, gc=False):
    """These works have ended in the engine, and so many output tokens were made for each tenant since the last time."""

    engine: str
    jobs: tuple[Job, ...]
    made: Mapping[str, int]


class QueueAlarm(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Something in the queue may have expired."""


QueueMessage = Enqueue | Withdraw | DraftTokens | EngineUp | EngineDown | JobsFinished | QueueAlarm


class StartJob(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Start this work, if the engine still lives in this epoch (else dispatch has told its reader already)."""

    job: Job
    epoch: int


class CancelJob(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Abort what still runs of this work."""

    job: Job


class StallAlarm(msgspec.Struct, frozen=True, tag=True, gc=False):
    """No step was reported for as long as the settings allow."""


class Install(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Work that is started after this gets the adapter when it asks for its name."""

    adapter: Adapter
    reply: Reply[None]
    """Set as soon as everybody can see it."""


class Uninstall(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Work that is started after this does not get that adapter any more."""

    name: str
    reply: Reply[None]


EngineMessage = StartJob | CancelJob | DraftTokens | WorkerEvents | StallAlarm | Install | Uninstall
