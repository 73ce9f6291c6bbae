"""Reserves tokens from a tenant's quotas and money from its budget in one step."""

from policies.admission.budget import BudgetBook, BudgetHold, BudgetRefusal
from policies.admission.quota import QuotaBook, QuotaRefusal, Reservation


def set_aside(  # noqa: PLR0917  (a quota and a budget, each with its own clock)
    quota: QuotaBook, budgets: BudgetBook, tenant: str, tokens: int, cost: float, now: float, at: float
) -> tuple[Reservation, BudgetHold] | QuotaRefusal | BudgetRefusal:
    """Reserve both, or neither. Synchronous: no other request can be admitted between the check and the reservation.

    `now` is on the quotas' monotonic clock, `at` in seconds since 1970. Raises UnknownTenant.
    """
    if not budgets.fits(tenant, cost, at):
        view = budgets.view(tenant, at)
        assert view is not None, "without a budget every cost fits"
        return BudgetRefusal(tenant, view, cost)
    reservation = quota.reserve(tenant, tokens, now)
    if isinstance(reservation, QuotaRefusal):
        return reservation
    return reservation, budgets.reserve(tenant, cost, at)
