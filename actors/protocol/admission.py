"""Messages to the admission actor."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from actors.kernel.actor import Reply
from policies.admission.budget import BudgetRefusal, Grant, Period
from policies.admission.quota import QuotaRefusal, Used
from policies.rollout.experiment import RollBack


class Reserve(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Reserve tokens and money for a request of this tenant."""

    tenant: str
    tokens: int
    cost: float
    """Worst-case cost, which must fit into the remaining budget."""
    reply: Reply[Grant | QuotaRefusal | BudgetRefusal]
    limited: bool = True
    """False: it belongs to a request that was let in. It counts, and is not refused."""


class WouldFit(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Whether the tenant has room for a request of at least so many tokens; asked before long work."""

    tenant: str
    tokens: int
    reply: Reply[QuotaRefusal | None]


class Settle(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The end of a grant, sent exactly once. `used_tokens` None: the request was refused before it ran."""

    grant: Grant
    used_tokens: int | None
    cost: float = 0.0


class RestoreUsage(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Usage from before this process started, read from the ledger."""

    by_tenant: Mapping[str, Mapping[Period, float]]
    """Money since the start of the current hour, day and month."""
    by_cascade: Mapping[str, float]
    """Money since the start of the current day."""
    used: Mapping[str, tuple[Used, ...]] = MappingProxyType({})
    """By tenant, for its quotas."""
    roll_backs: tuple[RollBack, ...] = ()
    """All of them, in order."""


AdmissionMessage = Reserve | WouldFit | Settle | RestoreUsage
