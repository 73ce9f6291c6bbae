"""Runs all checks of decoded settings."""

import datetime as dt
from collections.abc import Mapping

from config.check.batch import check_batch
from config.check.conditions.effects import check_effects, check_usage
from config.check.conditions.reach import check_reach
from config.check.conditions.single_conditions import check_conditions
from config.check.engines import check_adapters, check_engines, check_prices
from config.check.expectations import check_tests
from config.check.judging import check_judging
from config.check.keys import check_admin, check_keys
from config.check.routing.cascades import check_calibrated_weights, check_cascades, check_emits
from config.check.routing.continuity import check_continuity
from config.check.routing.ladders import check_ladders
from config.check.routing.rollout import check_experiments, check_shadows
from config.check.routing.routes import check_deadlines, check_routes
from config.check.server import check_server
from config.check.tenants import check_budgets, check_tenants
from config.check.upstreams import check_upstream_stages, check_upstreams
from config.model.settings import Settings
from config.problems.problems import Problems


def check_settings(
    settings: Settings,
    problems: Problems,
    *,
    today: dt.date | None = None,
    tokenizers: Mapping[str, str] | None = None,
    makes: Mapping[str, str] | None = None,
) -> None:
    """Report all inconsistencies.

    `today`: warn about stale calibrations. `tokenizers` (by engine, a digest of its tokenizer): check which engines can
    continue each other's tokens. `makes` (by engine): see `check_judging`.
    """
    for check in (
        check_server,
        check_batch,
        check_engines,
        check_adapters,
        check_upstreams,
        check_prices,
        check_tenants,
        check_keys,
        check_admin,
    ):
        check(settings, problems)

    def check_flow(settings: Settings, problems: Problems) -> None:
        """All checks of what an arm may override: they run on the settings of every arm, too."""
        check_judging(settings, problems, makes)
        check_conditions(settings, problems)
        check_ladders(settings, problems)
        check_cascades(settings, problems, today)
        for check in (check_emits, check_upstream_stages, check_routes, check_deadlines):
            check(settings, problems)
        check_continuity(settings, problems, tokenizers)

    check_flow(settings, problems)
    check_calibrated_weights(settings, problems)
    check_reach(settings, problems)
    check_budgets(settings, problems)
    check_experiments(settings, problems, check_flow)
    for check in (check_shadows, check_tests, check_usage, check_effects):
        check(settings, problems)
