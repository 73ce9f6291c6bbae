"""What the ledger is told: entries, which are opened and closed, and roll-backs."""

import msgspec

from actors.kernel.reply import Reply
from actors.kernel.workers import WorkerEvents
from policies.rollout.experiment import RollBack


class LedgerEntry(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A reservation, written down before the first content goes out."""

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
    """Whose money it is, too; empty: no cascade's."""


class EntryClosing(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Its end: what the tenant is charged."""

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
    """In which ways less was done than was asked for."""


class OpenEntry(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Write the entry; the reply is set when it is committed."""

    entry: LedgerEntry
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


class FlushDue(msgspec.Struct, frozen=True, tag=True, gc=False):
    """What waits has waited for company long enough."""


LedgerMessage = OpenEntry | CloseEntry | WriteRollBack | Flush | FlushDue | WorkerEvents
