"""Checks tenants, their tiers, quotas and budgets."""

from config.check.names import known
from config.model.settings import Settings
from config.problems.problems import Problems
from config.problems.source_map import Path
from config.tenants import ANONYMOUS, known_tenants


def check_tenants(settings: Settings, problems: Problems) -> None:
    """Check that tiers exist, and that quotas and budgets are consistent."""
    for name, tenant in known_tenants(settings).items():
        if name in settings.tenants:
            known(settings, ("tenants", name, "tier"), "tier", tenant.tier, problems)
        elif tenant.tier not in settings.tiers and not problems.is_broken(("tiers",)):
            problems.add(
                ("tiers",),
                f"without keys everybody is the tenant '{ANONYMOUS}', whose tier '{tenant.tier}' does not exist",
                expected=f"[tiers.{tenant.tier}], or [tenants.{ANONYMOUS}] with a tier",
                at_key=True,
            )
    for name, tenant in settings.tenants.items():
        path: Path = ("tenants", name)
        minute, day = tenant.tokens.per_minute, tenant.tokens.per_day
        if minute is not None and day is not None and day < minute:
            problems.add(
                (*path, "tokens", "per_day"),
                f"{day} tokens a day are fewer than the {minute} of one minute",
                expected=f"at least per_minute, {minute}",
            )
        budget = tenant.budget
        if budget is None:
            continue
        if budget.when_spent == "downgrade" and budget.downgrade_to is None:
            problems.add(
                (*path, "budget"),
                "when_spent is \"downgrade\", and 'downgrade_to' is missing",
                expected="the tier in which the tenant is served then",
            )
        if budget.downgrade_to is None:
            continue
        if not known(settings, (*path, "budget", "downgrade_to"), "tier", budget.downgrade_to, problems):
            continue
        if budget.when_spent != "downgrade":
            problems.warn(
                (*path, "budget", "downgrade_to"),
                f'this has no effect while when_spent is "{budget.when_spent}"',
                expected='when_spent = "downgrade"',
            )
        elif budget.downgrade_to == tenant.tier:
            problems.warn(
                (*path, "budget", "downgrade_to"),
                f"the tenant is in the tier '{tenant.tier}' anyway: nothing changes when the budget is spent",
            )
    if settings.tenants and not settings.keys and set(settings.tenants) != {ANONYMOUS}:
        problems.warn(
            ("tenants",),
            f"there are no [[keys]]: everybody is the tenant '{ANONYMOUS}'",
            expected="a key for each tenant, as `penstock keys new` makes them",
            at_key=True,
        )
