"""What the actors say to each other. Whoever receives one of these `match`es the union named after it."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from actors.api.messages import Prompt
from actors.kernel.reply import Reply
from engine.core.limits import EngineLimits
from engine.core.messages import Embed, ExpectTokens, Submit
from engine.lora.adapters import Adapter
from engine.sampling.grammar import Grammar
from engine.sampling.params import SamplingParams
from engine.scheduling.prefix_marks import prefix_marks
from policies.admission.budget import BudgetHold, BudgetRefusal, Period
from policies.admission.quota import QuotaRefusal, Reservation, Used
from policies.fallback.breaker import BreakerOpen
from policies.fallback.verdict import NOTHING_SAID, Said
from policies.lifecycle.reload import ReloadResult
from policies.model.breaker_view import Permit
from policies.queueing.backend_queue import BackendJob
from policies.queueing.placement import PrefixMark
from policies.rollout.experiment import RollBack

if TYPE_CHECKING:
    from actors.protocol.delivery import Delivery

# --- to admission -----------------------------------------------------------------------------------------------


class Grant(msgspec.Struct, frozen=True, gc=False):
    """What was set aside for one request."""

    reservation: Reservation
    hold: BudgetHold


class Reserve(msgspec.Struct, frozen=True, tag=True, gc=False):
    """May this tenant use so many tokens, for so much money?"""

    tenant: str
    tokens: int
    cost: float
    """It must fit into what is left of the tenant's budget."""
    reply: Reply[Grant | QuotaRefusal | BudgetRefusal]


class Settle(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A grant's end; sent exactly once, whatever happened. `used_tokens` None: no work was done for it."""

    grant: Grant
    used_tokens: int | None
    cost: float = 0.0


class RestoreUsage(msgspec.Struct, frozen=True, tag=True, gc=False):
    """What the ledger knows of the time before this process began, as far as it counts now."""

    by_tenant: Mapping[str, Mapping[Period, float]]
    """Money since the begin of the present hour, day and month."""
    by_cascade: Mapping[str, float]
    """Money since the begin of the present day."""
    used: Mapping[str, tuple[Used, ...]] = MappingProxyType({})
    """Of each tenant's quotas."""
    roll_backs: tuple[RollBack, ...] = ()
    """All of them, the first one first."""


AdmissionMessage = Reserve | Settle | RestoreUsage

# --- to the breakers --------------------------------------------------------------------------------------------


class AskPermit(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Asked only while the published breaker is not closed, or for a retry, which the shared budget pays."""

    rung: str
    is_retry: bool
    reply: "Reply[Permit | BreakerOpen | None]"
    """None: the retry budget is spent."""


class Record(msgspec.Struct, frozen=True, tag=True, gc=False):
    """An attempt's outcome. `ok` None says nothing about the rung."""

    rung: str
    permit: Permit
    ok: bool | None
    at: float
    is_retry: bool


BreakerMessage = AskPermit | Record

# --- to the ledger ----------------------------------------------------------------------------------------------


class LedgerEntry(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A reservation, written down before the first content goes out."""

    number: int
    """Unique in this process."""
    request_id: str
    tenant: str
    model: str
    route: str
    prompt_tokens: int
    reserved_tokens: int
    reserved_cost: float
    cascade: str = ""
    """Whose money it is, too; empty: no cascade's."""


class EntryClosing(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Its end: what the tenant is charged."""

    number: int
    """The line's."""
    tenant: str
    rung: str
    outcome: str
    why: str
    prompt_tokens: int
    completion_tokens: int
    discarded_tokens: int
    cost: float
    degraded: tuple[str, ...] = ()
    """In which ways less was done than was asked for."""


class OpenEntry(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Write the line; the reply is set when it is committed."""

    line: LedgerEntry
    reply: Reply[None]


class CloseEntry(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Write the closing."""

    closing: EntryClosing


class WriteRollBack(msgspec.Struct, frozen=True, tag=True, gc=False):
    """An experiment is over; written down before any answer that is decided so."""

    roll_back: RollBack


class Flush(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The reply is set when all that came before this is committed."""

    reply: Reply[None]


class WorkerEvents(msgspec.Struct, frozen=True, tag=True, gc=False):
    """What a thread has posted to its actor since the last time."""

    posts: Sequence[Any]


class FlushDue(msgspec.Struct, frozen=True, tag=True, gc=False):
    """What waits has waited for company long enough."""


LedgerMessage = OpenEntry | CloseEntry | WriteRollBack | Flush | FlushDue | WorkerEvents

# --- to dispatch and the engines --------------------------------------------------------------------------------


class UpstreamCall(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """One choice's answer, asked of an upstream: what `Submit` is for an engine."""

    request_id: int
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

    id: int
    engine: str
    """The rung's name."""
    sequences: tuple[Submit, ...] | tuple[UpstreamCall, ...] | tuple[Embed, ...]
    """Each with a `request_id`: `Submit` for an engine, `Embed` for an encoder, `UpstreamCall` for an upstream."""
    delivery: "Delivery"

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
    def reply(self) -> "Delivery":
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

# --- to the policy's keeper --------------------------------------------------------------------------------------

ReloadTrigger = Literal["signal", "file", "admin"]


class Reload(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Read the configuration again, and swap the policy if it is good."""

    asked_by: ReloadTrigger
    reply: Reply[ReloadResult] | None = None


# --- to a request's delivery ------------------------------------------------------------------------------------


class JobStarted(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The work has left the queue for its engine."""

    at: float


class JobRejected(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The work was not, or no longer, let in."""

    why: str
    message: str
    retry_after_s: float | None = None
    lasting: bool = False
    """The rung takes no such request, now or later."""
    said: Said = NOTHING_SAID
    """By an upstream."""


class JobFailed(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The engine or upstream broke off while it had the work."""

    code: str
    message: str
    retryable: bool = True
    """The same rung may do better at once."""
    retry_after_s: float | None = None
    """An upstream has asked for so long a pause."""
    rung_is_up: bool = False
    """Other replicas of the engine serve on: it says nothing about the rung."""
    said: Said = NOTHING_SAID
    """By an upstream."""


class Terminate(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The service ends this answer."""

    code: str
    message: str


StreamNotice = JobStarted | JobRejected | JobFailed | Terminate
