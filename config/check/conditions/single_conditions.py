"""Checks conditions one by one: names must exist, ranges and time spans must not be empty, headers must be allowed."""

import zoneinfo
from collections.abc import Collection, Iterable
from graphlib import TopologicalSorter

from config.check.conditions.space import located, nested, signal_uses
from config.check.names import cycles, known_rung
from config.model.conditions import NUMBERS, LoadCondition, SignalSettings, TimeCondition
from config.model.settings import Settings
from config.model.table import Range
from config.model.words import ADDRESSES, LANGUAGES
from config.problems.problems import Problems
from config.problems.secrets import HEADER_NAME
from config.problems.source_map import Path
from config.tenants import known_tenants

_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"})
_END_OF_DAY = 24 * 60
_MAX_WEIGHT = 1000
"""Limit on the conditions in a signal with the signals that it uses."""


def check_conditions(settings: Settings, problems: Problems) -> None:
    uses = signal_uses(settings)
    found_cycles = cycles(uses)
    for cycle in found_cycles:
        problems.add(("signals", cycle[0]), f"the signal uses itself: {' → '.join(cycle)}", breaks=True)
    if not found_cycles:
        _check_weights(settings, uses, problems)
    tenants = known_tenants(settings)
    for path, whole in located(settings):
        for place, when in nested(path, whole):
            _check_condition(settings, tenants, place, when, problems)


def _check_weights(settings: Settings, uses: dict[str, list[str]], problems: Problems) -> None:
    """Report signals whose size explodes because they use other signals several times, at several levels."""
    weights: dict[str, int] = {}
    for name in TopologicalSorter(uses).static_order():
        if name not in uses:
            continue
        weights[name] = sum(1 for _ in nested((), settings.signals[name]))
        weights[name] += sum(weights.get(used, 0) for used in uses[name])
        if weights[name] > _MAX_WEIGHT:
            weights[name] = 1  # so that the signals that use it are not reported as well
            problems.add(
                ("signals", name),
                f"with the signals that it uses it expands to more than {_MAX_WEIGHT} conditions",
                expected="fewer uses of other signals",
                breaks=True,
            )


def check_header_name(path: Path, name: str, problems: Problems) -> None:
    if not HEADER_NAME.fullmatch(name):
        problems.add_at_key(path, f"'{name}' is not the name of a header")
    elif name.lower() in _SECRET_HEADERS:
        problems.add_at_key(path, f"'{name}' holds a secret", expected="a condition on the tenant instead")
    elif name != name.lower():
        problems.add_at_key(path, f"'{name}' has capital letters", expected="lower case", suggestion=name.lower())


def check_language(path: Path, code: str, problems: Problems) -> None:
    """Report a language that `policies.routing.language` does not identify."""
    if code not in LANGUAGES:
        problems.unknown_name(path, "language that is identified", code, LANGUAGES)


def check_address(path: Path, address: str, problems: Problems) -> None:
    """Report a path at which no requests arrive."""
    if address not in ADDRESSES:
        problems.unknown_name(path, "address", address, ADDRESSES)


def _check_condition(
    settings: Settings, tenants: Collection[str], path: Path, when: SignalSettings, problems: Problems
) -> None:
    named: tuple[tuple[str, tuple[str, ...], Iterable[str]], ...] = (
        ("model", when.model, settings.models),
        ("tenant", when.tenant, tenants),
        ("tier", when.tier, settings.tiers),
        ("signal", when.signal, settings.signals),
    )
    for field, names, words in named:
        for index, name in enumerate(names):
            if name not in words and not problems.is_broken((f"{field}s",)):
                problems.unknown_name((*path, field, index), field, name, words)
    for index, code in enumerate(when.language):
        check_language((*path, "language", index), code, problems)
    for index, address in enumerate(when.path):
        check_address((*path, "path", index), address, problems)
    for index, tag in enumerate(when.tag):
        if not tag or tag != tag.strip() or "," in tag:
            problems.add((*path, "tag", index), f"no request has the tag '{tag}': tags are separated by commas")
    for name, values in when.header.items():
        check_header_name((*path, "header", name), name, problems)
        if not values:
            problems.add((*path, "header", name), "no value is named", expected='a list such as ["mobile"]')
    for field in NUMBERS:
        bounds = getattr(when, field)
        if bounds is not None:
            _check_range((*path, field), bounds, problems)
    if when.load is not None:
        _check_load(settings, (*path, "load"), when.load, problems)
    if when.time is not None:
        _check_time((*path, "time"), when.time, problems)


def _check_range(path: Path, bounds: Range, problems: Problems) -> None:
    if bounds.at_least is None and bounds.below is None:
        problems.add(path, "the range has no bound", expected="at_least, below, or both")
    elif bounds.at_least is not None and bounds.below is not None and bounds.at_least >= bounds.below:
        problems.add(path, f"nothing is at least {bounds.at_least:g} and below {bounds.below:g}")


def _check_load(settings: Settings, path: Path, load: LoadCondition, problems: Problems) -> None:
    known_rung(settings, (*path, "of"), load.of, problems)
    measures = (("queue_wait_over_slo", load.queue_wait_over_slo), ("kv_usage", load.kv_usage))
    if all(bounds is None for _, bounds in measures) and not load.breaker:
        problems.add(path, "the condition measures nothing", expected="queue_wait_over_slo, kv_usage, breaker, or more")
    for field, bounds in measures:
        if bounds is not None:
            _check_range((*path, field), bounds, problems)
    if load.kv_usage is not None and load.of in settings.upstreams:
        problems.add((*path, "kv_usage"), f"the KV usage of the upstream '{load.of}' is unknown")


def _check_time(path: Path, when: TimeCondition, problems: Problems) -> None:
    if when.from_ == _END_OF_DAY:
        problems.add((*path, "from"), "no day begins at 24:00", expected='"00:00"')
    elif when.from_ == when.to:
        problems.add(
            path,
            "the span is empty: it begins and ends at the same time",
            expected='from = "00:00", to = "24:00" for a whole day',
        )
    try:
        zoneinfo.ZoneInfo(when.zone)
    # The name may be invalid, point outside the database, or be a folder in it.
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        problems.add(
            (*path, "zone"),
            f"there is no time zone '{when.zone}'",
            expected='a name of the IANA data base such as "Europe/Berlin"',
            suggestion=_nearest_zone(when.zone, problems),
        )


def _nearest_zone(name: str, problems: Problems) -> str:
    zones = sorted(zoneinfo.available_timezones())
    by_lower = {zone.lower(): zone for zone in zones}
    by_city = {zone.rpartition("/")[2].lower(): zone for zone in zones}
    wanted = name.lower().replace(" ", "_")
    return by_lower.get(problems.nearest(wanted, by_lower)) or by_city.get(problems.nearest(wanted, by_city), "")
