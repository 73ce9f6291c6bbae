"""Checks the tests in the file: the names in `given` and `expect` must exist."""

import datetime as dt

from config.check.conditions.single_conditions import check_address, check_header_name, check_language
from config.check.names import check_distinct, known, known_rung, may_be_route
from config.model.expectations import ExpectedDecision, GivenRequest
from config.model.settings import Settings
from config.model.words import REASON_CODES, STATIC_ANSWER
from config.problems.problems import Problems
from config.problems.source_map import Path
from config.tenants import known_tenants


def check_tests(settings: Settings, problems: Problems) -> None:
    check_distinct("tests", "test", [test.name for test in settings.tests], problems)
    for index, test in enumerate(settings.tests):
        path: Path = ("tests", index)
        _check_given(settings, (*path, "given"), test.given, problems)
        _check_expect(settings, (*path, "expect"), test.expect, problems)


def _check_given(settings: Settings, path: Path, given: GivenRequest, problems: Problems) -> None:
    for kind in ("model", "tier"):
        if (name := getattr(given, kind)) is not None:
            known(settings, (*path, kind), kind, name, problems)
    tenants = known_tenants(settings)
    if given.tenant is not None and given.tenant not in tenants and not problems.is_broken(("tenants",)):
        problems.unknown_name((*path, "tenant"), "tenant", given.tenant, tenants)
    for name in given.header:
        check_header_name((*path, "header", name), name, problems)
    check_address((*path, "path"), given.path, problems)
    if given.language is not None:
        check_language((*path, "language"), given.language, problems)
    if given.time is not None:
        _check_time((*path, "time"), given.time, problems)
    for rung in given.load:
        known_rung(settings, (*path, "load", rung), rung, problems)
    for index, cascade in enumerate(given.busy):
        place: Path = (*path, "busy", index)
        is_known = known(settings, place, "cascade", cascade, problems)
        if is_known and settings.cascades[cascade].when_busy is None:
            problems.add(place, f"the cascade '{cascade}' has no when_busy")
    experiments = [experiment.name for experiment in settings.experiments]
    for index, name in enumerate(given.rolled_back):
        if name not in experiments and not problems.is_broken(("experiments",)):
            problems.unknown_name((*path, "rolled_back", index), "experiment", name, experiments)


def _check_time(path: Path, text: str, problems: Problems) -> None:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        problems.add(
            path,
            "this is not a time" if moment is None else "the time has no zone",
            expected='a time such as "2026-11-21T22:30:00+01:00"',
        )


def _check_expect(settings: Settings, path: Path, expect: ExpectedDecision, problems: Problems) -> None:
    if expect == ExpectedDecision():
        problems.add_at_key(path, "the test expects nothing", expected="a route, a refusal, a rung or more")
    if expect.refused is not None and expect != ExpectedDecision(refused=expect.refused):
        problems.add(path, "a refused request has no route, rung or arm", expected="'refused' alone")
    routes = [route.name for route in settings.routes]
    if expect.route is not None and expect.route not in routes and not may_be_route(settings, expect.route, problems):
        problems.unknown_name((*path, "route"), "route", expect.route, routes)
    for kind in ("cascade", "ladder"):
        if (name := getattr(expect, kind)) is not None:
            known(settings, (*path, kind), kind, name, problems)
    has_answers = any(rung.answer is not None for ladder in settings.ladders.values() for rung in ladder)
    places: list[tuple[Path, str]] = [((*path, "rungs", index), rung) for index, rung in enumerate(expect.rungs or ())]
    if expect.first_rung is not None:
        places.append(((*path, "first_rung"), expect.first_rung))
    for place, rung in places:
        if not (rung == STATIC_ANSWER and has_answers):
            known_rung(settings, place, rung, problems)
    if expect.why is not None and expect.why not in REASON_CODES:
        problems.unknown_name((*path, "why"), "word of a cascade", expect.why, REASON_CODES)
    if expect.arm is not None:
        arms = {arm for experiment in settings.experiments for arm in experiment.arms}
        if expect.arm not in arms and not problems.is_broken(("experiments",)):
            problems.unknown_name((*path, "arm"), "arm", expect.arm, arms)
