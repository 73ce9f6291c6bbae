"""Messages to the admission actor."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from actors.kernel.actor import Reply
from policies.admission.budget import BudgetRefusal, Grant, Period
from policies.admission.quota import QuotaRefusal, Used
from policies.rollout.experiment import RollBack


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
