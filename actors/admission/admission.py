"""The admission actor: reserves and settles quotas and budgets; and the refusals that clients receive.

Its books are `policies.admission.quota` and `policies.admission.budget`, which outlive its restarts. A `Settle` that is
in hand when it dies is handed to the next life and takes effect once, so that no reservation stays open; a `Reserve`
fails with ActorDied, and its request is refused.
"""

from typing import ClassVar

from actors.api.errors import BadKey, BudgetSpent, OverQuota
from actors.kernel.actor import Actor, Mailbox
from actors.kernel.clock import WallClock
from actors.protocol.admission import AdmissionMessage, Reserve, RestoreUsage, Settle, WouldFit
from policies.admission.budget import BudgetBook, BudgetRefusal, Grant, set_aside
from policies.admission.quota import QuotaBook, QuotaRefusal
from policies.errors import UnknownTenant


class Admission(Actor[AdmissionMessage]):
    """Handles `AdmissionMessage`."""

    redelivered: ClassVar[tuple[type, ...]] = (Settle, RestoreUsage)

    def __init__(
        self,
        mailbox: Mailbox[AdmissionMessage],
        quota: QuotaBook,
        budgets: BudgetBook,
        *,
        restored: set[str],
        wall: WallClock,
    ) -> None:
        """`restored`: tenants whose earlier usage is in the books; outlives restarts, as the books do."""
        super().__init__(mailbox)
        self._quota = quota
        self._budgets = budgets
        self._restored = restored
        self._wall = wall

    def on(self, message: AdmissionMessage) -> None:
        """Both books keep entries by number, so that each is settled at most once."""
        match message:
            case Reserve():
                now = self._clock()
                try:
                    answer = set_aside(
                        self._quota,
                        self._budgets,
                        message.tenant,
                        message.tokens,
                        message.cost,
                        now,
                        self._wall(),
                        limited=message.limited,
                    )
                except UnknownTenant:
                    # The tenant was removed from the configuration after its key was checked.
                    message.reply.fail(BadKey(missing=False))
                    return
                if not message.reply.set(answer) and isinstance(answer, Grant):
                    # Its task was cancelled while it waited, and will not settle it.
                    self._quota.cancel(answer.reservation)
                    self._budgets.settle(answer.hold, 0.0)
            case WouldFit(tenant, tokens, reply):
                reply.set(self._quota.refusal(tenant, tokens, self._clock()))
            case Settle(grant, None):
                self._quota.cancel(grant.reservation)
                self._budgets.settle(grant.hold, 0.0)
            case Settle(grant, int(used), cost):
                self._quota.settle(grant.reservation, used)
                self._budgets.settle(grant.hold, cost)
            case RestoreUsage():
                self._restore(message, self._clock())

    def _restore(self, usage: RestoreUsage, now: float) -> None:
        for tenant in {*usage.by_tenant, *usage.used} - self._restored:
            self._restored.add(tenant)
            self._budgets.restore(tenant, usage.by_tenant.get(tenant, {}), self._wall())
            self._quota.restore(tenant, usage.used.get(tenant, ()), now)


def over_quota(refusal: QuotaRefusal) -> OverQuota:
    """The refusal that the client receives."""
    return OverQuota(f"{refusal.limit}_exceeded", str(refusal), _resets_in_s(refusal))


def budget_spent(refusal: BudgetRefusal) -> BudgetSpent:
    """The refusal that the client receives."""
    return BudgetSpent(str(refusal), refusal.view.resets_in_s)


def _resets_in_s(refusal: QuotaRefusal) -> float | None:
    # When a running request will end is unknown: one second is a guess.
    return 1.0 if refusal.limit == "concurrent" else refusal.resets_in_s
