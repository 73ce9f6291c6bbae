"""What a request may use, set aside in one step: tokens of its tenant's quotas, and money of its budget."""

from policies.admission.budget import BudgetBook, BudgetHold, BudgetRefusal
from policies.admission.quota import QuotaBook, QuotaRefusal, Reservation


def set_aside(  # noqa: PLR0917  (two books, two clocks)
    quota: QuotaBook, budgets: BudgetBook, tenant: str, tokens: int, cost: float, now: float, at: float
) -> tuple[Reservation, BudgetHold] | QuotaRefusal | BudgetRefusal:
    """The worst case of both, or nothing. Between the look at a book and the entry nobody else can come.

    `now` is on the quotas' clock, `at` in seconds since 1970. Raises UnknownTenant.
    """
    if not budgets.fits(tenant, cost, at):
        view = budgets.view(tenant, at)
        assert view is not None, "what has no budget fits"
        return BudgetRefusal(tenant, view, cost)
    reservation = quota.reserve(tenant, tokens, now)
    if isinstance(reservation, QuotaRefusal):
        return reservation
    return reservation, budgets.reserve(tenant, cost, at)
