"""Messages to the ledger, and what it writes: entries are opened, noted while they are open, and closed; roll-backs."""

import msgspec

from actors.kernel.actor import Reply
from actors.kernel.thread_bridge import WorkerEvents
from policies.rollout.experiment import RollBack


class LedgerEntry(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A request with what it reserves, written before its first content is sent."""

    entry_id: int
    """Unique in this process."""
    request_id: str
    tenant: str
    model: str
    route: str
    prompt_tokens: int
    reserved_tokens: int
    reserved_cost: float
    cascade: str = ""
    """The cascade whose daily money the cost counts against; empty: none."""
    key: str = ""
    """Id of the API key; empty: none was needed."""
    user: str = ""
    """As the client names its own user."""
    arm: str = ""
    """EXPERIMENT/ARM; empty: in no experiment."""
    tags: tuple[str, ...] = ()
    batch: str = ""
    """Id of the batch; empty: in none."""
    admitted_at: float | None = None
    """Seconds since 1970, by which it counts; None: when it is written."""


class EntryClosing(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The end of an entry: what the tenant is charged."""

    entry_id: int
    tenant: str
    rung: str
    outcome: str
    why: str
    prompt_tokens: int
    completion_tokens: int
    discarded_tokens: int
    cost: float
    degraded: tuple[str, ...] = ()
    """The answer's codes, see `policies.model.plan.Degraded`."""


class EntryProgress(msgspec.Struct, frozen=True, tag=True, gc=False):
    """What the client has of an answer that goes on: the charge, should the process die before its end."""

    entry_id: int
    prompt_tokens: int
    completion_tokens: int
    cost: float


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """What was delivered of an answer by one process, and what that costs."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


def refused_closing(entry: LedgerEntry) -> EntryClosing:
    """The end of an entry whose request was refused because the ledger did not take it in time."""
    return EntryClosing(entry.entry_id, entry.tenant, "", "refused", "ledger_unavailable", 0, 0, 0, 0.0)


class OpenEntry(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Write the entry; the reply is set when it is committed."""

    entry: LedgerEntry
    reply: Reply[None]


class CloseEntry(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Write the end of an entry."""

    closing: EntryClosing


class WriteRollBack(msgspec.Struct, frozen=True, tag=True, gc=False):
    """An experiment is rolled back; written before any answer that is decided by the roll-back."""

    roll_back: RollBack


class Flush(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The reply is set when all earlier messages are committed."""

    reply: Reply[None]


class FlushDue(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The delay is over for which closings wait to be written together."""


LedgerMessage = OpenEntry | CloseEntry | WriteRollBack | Flush | FlushDue | WorkerEvents
