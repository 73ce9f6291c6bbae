"""The admission actor: reserves and settles quotas and budgets, and words the refusals.

Its books are `policies.admission.quota` and `policies.admission.budget`.
"""

import time
from collections.abc import Callable

import trio

from actors.api.errors import BadKey, BudgetSpent, OverQuota
from actors.kernel.actor import Actor
from actors.kernel.mailbox import Mailbox
from actors.protocol.admission import AdmissionMessage, Grant, Reserve, RestoreUsage, Settle
from policies.admission.budget import BudgetBook, BudgetRefusal
from policies.admission.quota import QuotaBook, QuotaRefusal
from policies.admission.reservation import set_aside
from policies.errors import UnknownTenant


class Admission(Actor[AdmissionMessage]):
    """Answers `Reserve`; obeys `Settle`. The books outlive its restarts, so no reservation is forgotten."""

    def __init__(
        self,
        mailbox: Mailbox[AdmissionMessage],
        quota: QuotaBook,
        budgets: BudgetBook,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`wall`: seconds since 1970; budgets follow the calendar."""
        super().__init__(mailbox)
        self._quota = quota
        self._budgets = budgets
        self._wall = wall

    def on(self, message: AdmissionMessage) -> None:
        """One reservation or its end."""
        now = trio.current_time()
        match message:
            case Reserve():
                try:
                    answer = self._reserve(message, now)
                except UnknownTenant:
                    # Its tenant was taken out of the configuration since its key was looked at.
                    message.reply.fail(BadKey(missing=False))
                    return
                if not message.reply.set(answer) and isinstance(answer, Grant):
                    # Its task was cancelled while it waited: nobody else would ever settle it.
                    self._quota.cancel(answer.reservation, now)
                    self._budgets.settle(answer.hold, 0.0)
            case Settle(grant, None):
                self._quota.cancel(grant.reservation, now)
                self._budgets.settle(grant.hold, 0.0)
            case Settle(grant, int(used), cost):
                self._quota.settle(grant.reservation, used, now)
                self._budgets.settle(grant.hold, cost)
            case RestoreUsage():
                for tenant, spent in message.by_tenant.items():
                    self._budgets.restore(tenant, spent, self._wall())
                for tenant, before in message.used.items():
                    self._quota.restore(tenant, before, now)

    def _reserve(self, asked: Reserve, now: float) -> Grant | QuotaRefusal | BudgetRefusal:
        aside = set_aside(self._quota, self._budgets, asked.tenant, asked.tokens, asked.cost, now, self._wall())
        return Grant(*aside) if isinstance(aside, tuple) else aside


def over_quota(refusal: QuotaRefusal) -> OverQuota:
    """What the client reads."""
    return OverQuota(f"{refusal.limit}_exceeded", str(refusal), _resets_in_s(refusal))


def budget_spent(refusal: BudgetRefusal) -> BudgetSpent:
    """What the client reads."""
    return BudgetSpent(str(refusal), refusal.view.resets_in_s)


def _resets_in_s(refusal: QuotaRefusal) -> float | None:
    # One of the running requests ends when it ends: a second is as good a guess as any.
    return 1.0 if refusal.limit == "concurrent" else refusal.resets_in_s
