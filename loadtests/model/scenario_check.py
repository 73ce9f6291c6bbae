"""Finds what is wrong in a scenario, beyond the types of its values."""

from collections.abc import Iterable

from config.check.addresses import check_secret_source, check_url
from config.problems.problems import Problems
from config.problems.secrets import HEADER_NAME
from config.problems.source_map import Path
from loadtests.model.fault_check import check_faults
from loadtests.model.lengths import Lengths, PauseTimes
from loadtests.model.scenario import Arrivals, Behaviour, RequestKind, Scenario
from loadtests.model.timing import arrivals_of, duration_of, warm_up_of

MOST_REQUESTS = 5_000_000
"""Of a run: their times are made beforehand."""
_RESERVED = frozenset(
    {"content-length", "content-type", "host", "transfer-encoding", "accept", "connection", "upgrade"}
)
_OWN_FIELDS = {
    "model": "model in the entry or in [target]",
    "messages": "prompt = { … }",
    "prompt": "prompt = { … }",
    "stream": "transport",
    "stream_options": "transport",
    "max_tokens": "output = { … }",
    "max_completion_tokens": 'output = { … }, and max_tokens_field = "max_completion_tokens" in [target]',
}


def check_scenario(scenario: Scenario, problems: Problems) -> None:
    """Report all inconsistencies."""
    check_url(("target", "url"), scenario.target.url, problems)
    check_secret_source(("target", "key"), scenario.target.key, problems)
    _check_headers(("target",), scenario.target.headers, problems)
    for name, tenant in scenario.tenants.items():
        check_secret_source(("tenants", name, "key"), tenant.key, problems)
        _check_headers(("tenants", name), tenant.headers, problems)
    _check_arrivals(scenario.arrivals, problems)
    _check_time(scenario, problems)
    for name, prefix in scenario.prefixes.items():
        _check_lengths(("prefixes", name, "tokens"), prefix.tokens, problems)
    for name, session in scenario.sessions.items():
        _check_lengths(("sessions", name, "turns"), session.turns, problems)
        _check_pauses(("sessions", name, "think"), session.think, problems)
        _check_pauses(("sessions", name, "tool"), session.tool, problems)
    for name, behaviour in scenario.behaviours.items():
        _check_behaviour(("behaviours", name), behaviour, problems)
    for index, kind in enumerate(scenario.mix):
        _check_kind(("mix", index), kind, scenario, problems)
    tiers = {tenant.tier for tenant in scenario.tenants.values()} - {""}
    for name in scenario.tier_slo:
        if name not in tiers:
            problems.unknown_name(("tier_slo", name), "tier of a tenant", name, tiers, at_key=True)
    check_faults(scenario, problems)
    _check_use("proxies", scenario.proxies, [fault.proxy for fault in scenario.faults], problems, by="fault")
    _check_use("tenants", scenario.tenants, [kind.tenant for kind in scenario.mix], problems)
    _check_use("prefixes", scenario.prefixes, [kind.prefix for kind in scenario.mix], problems)
    _check_use("sessions", scenario.sessions, [kind.session for kind in scenario.mix], problems)
    _check_use("behaviours", scenario.behaviours, [kind.behaviour for kind in scenario.mix], problems)


def _check_arrivals(arrivals: Arrivals, problems: Problems) -> None:
    path: Path = ("arrivals",)
    if arrivals.kind == "closed":
        if arrivals.clients is None:
            problems.add((*path, "kind"), "a closed loop needs its number of clients", expected="clients = 10")
        for name in ("rate", "max_in_flight"):
            if getattr(arrivals, name) is not None:
                problems.add_at_key(
                    (*path, name),
                    f"a closed loop has no '{name}': its clients wait for their answers",
                    expected='kind = "poisson" or "constant", or the line left out',
                )
        if arrivals.phases:
            problems.add_at_key((*path, "phases"), "a closed loop has no phases", expected="an open loop's kind")
        return
    if arrivals.kind == "trace":
        _check_trace(arrivals, problems)
        return
    if arrivals.trace is not None:
        problems.add_at_key(
            (*path, "trace"), f'a trace makes arrivals of kind = "trace", and this is "{arrivals.kind}"'
        )
    if arrivals.clients is not None:
        problems.add_at_key(
            (*path, "clients"),
            f'clients that wait for their answers are kind = "closed", and this is "{arrivals.kind}"',
            expected="max_in_flight for a bound on an open loop",
        )
    if arrivals.rate is None and not arrivals.phases:
        problems.add(path, "there is no rate of arrivals", expected="rate = 5, or [[arrivals.phases]]", at_key=True)
    if arrivals.rate is not None and arrivals.phases:
        problems.add_at_key((*path, "rate"), "the phases have their own rates", expected="either rate or phases")


def _check_trace(arrivals: Arrivals, problems: Problems) -> None:
    path: Path = ("arrivals",)
    if arrivals.trace is None:
        problems.add((*path, "kind"), "there is no trace", expected='trace = "FILE"')
    for name in ("rate", "clients"):
        if getattr(arrivals, name) is not None:
            problems.add_at_key(
                (*path, name), f"a trace has its own times, and no '{name}'", expected="speed = 2, or the line left out"
            )
    if arrivals.phases:
        problems.add_at_key((*path, "phases"), "a trace has its own times, and no phases", expected="speed")


def _check_time(scenario: Scenario, problems: Problems) -> None:
    duration = duration_of(scenario)
    if scenario.warm_up is not None and warm_up_of(scenario) >= duration:
        problems.add(
            ("warm_up",), f"the warm-up takes the whole run of {duration:g} s", expected="less than the duration"
        )
    bound = scenario.arrivals.max_in_flight
    if bound is not None and bound < scenario.workers:
        problems.add(
            ("arrivals", "max_in_flight"),
            f"{scenario.workers} workers share it, and each needs a place",
            expected=f"at least {scenario.workers}, or fewer workers",
        )
    expected = arrivals_of(scenario)
    if expected > MOST_REQUESTS:
        problems.add(
            ("arrivals",),
            f"these are about {expected:,.0f} requests, and a run has at most {MOST_REQUESTS:,}",
            expected="a shorter duration or a lower rate",
            at_key=True,
        )
    elif scenario.arrivals.kind not in {"closed", "trace"} and expected < 1 and not problems.has_errors():
        problems.warn(("arrivals",), "less than one request is to be expected in the whole run")


def _check_lengths(path: Path, lengths: Lengths, problems: Problems) -> None:
    forms = {
        "exactly": lengths.exactly is not None,
        "low and high": lengths.low is not None or lengths.high is not None,
        "median and p95": lengths.median is not None or lengths.p95 is not None,
        "values": bool(lengths.values),
    }
    _check_forms(path, [name for name, given in forms.items() if given], list(forms), problems)
    _check_pair(path, ("low", lengths.low), ("high", lengths.high), problems)
    _check_pair(path, ("median", lengths.median), ("p95", lengths.p95), problems)


def _check_pauses(path: Path, pauses: PauseTimes, problems: Problems) -> None:
    forms = {"exactly": pauses.exactly is not None, "median and p95": bool(pauses.median or pauses.p95)}
    _check_forms(path, [name for name, given in forms.items() if given], list(forms), problems)
    _check_pair(path, ("median", pauses.median), ("p95", pauses.p95), problems)


def _check_forms(path: Path, given: list[str], forms: list[str], problems: Problems) -> None:
    if len(given) != 1:
        got = " and ".join(f"'{each}'" for each in given) if given else "none"
        problems.add(path, f"exactly one form of a distribution is needed, and {got} is given", expected=_or(forms))


def _check_pair(path: Path, low: tuple[str, float | None], high: tuple[str, float | None], problems: Problems) -> None:
    """Both or neither, and the first not above the second."""
    if (low[1] is None) != (high[1] is None):
        missing, present = (low[0], high[0]) if low[1] is None else (high[0], low[0])
        problems.add((*path, present), f"'{present}' needs '{missing}'", expected=f"{missing} = …", at_key=True)
    elif low[1] is not None and high[1] is not None and low[1] > high[1]:
        problems.add((*path, high[0]), f"'{high[0]}' is below '{low[0]}'", expected=f"at least {low[1]:g}")


def _check_behaviour(path: Path, behaviour: Behaviour, problems: Problems) -> None:
    ends = ("leave_after_tokens", "half_open_after_tokens", "reconnect_after_tokens")
    given = [name for name in ends if getattr(behaviour, name) is not None]
    if len(given) > 1:
        problems.add_at_key((*path, given[1]), f"'{given[0]}' is given, too", expected="one of the two")
    if behaviour == Behaviour():
        problems.warn(path, "this behaviour changes nothing")


def _check_kind(path: Path, kind: RequestKind, scenario: Scenario, problems: Problems) -> None:
    for field, kind_name, known in (
        ("tenant", "tenant", scenario.tenants),
        ("prefix", "shared prefix", scenario.prefixes),
        ("session", "session", scenario.sessions),
        ("behaviour", "behaviour", scenario.behaviours),
    ):
        name = getattr(kind, field)
        if name and name not in known:
            problems.unknown_name((*path, field), kind_name, name, known)
    _check_lengths((*path, "prompt"), kind.prompt, problems)
    _check_lengths((*path, "output"), kind.output, problems)
    _check_headers(path, kind.headers, problems)
    for name in kind.body:
        if name in _OWN_FIELDS:
            problems.add_at_key(
                (*path, "body", name), f"'{name}' is set by the load tester", expected=_OWN_FIELDS[name]
            )
    behaviour = scenario.behaviours.get(kind.behaviour, Behaviour())
    if kind.transport == "whole":
        for name in ("leave_after_tokens", "half_open_after_tokens", "reconnect_after_tokens"):
            if getattr(behaviour, name) is not None:
                problems.add(
                    (*path, "behaviour"),
                    f"'{kind.behaviour}' counts tokens ({name}), and a whole answer comes in one piece",
                    expected='transport = "sse"',
                )
    if kind.transport == "websocket" and behaviour.reconnect_after_tokens is not None:
        problems.add((*path, "behaviour"), "an answer over a WebSocket cannot be resumed", expected='transport = "sse"')
    if kind.session and scenario.arrivals.kind == "trace":
        problems.add((*path, "session"), "a trace has its own requests, and no sessions", expected="the line left out")
    if kind.session and kind.endpoint == "completions":
        problems.add((*path, "endpoint"), "a session has messages", expected='endpoint = "chat"')


def _check_headers(path: Path, headers: dict[str, str], problems: Problems) -> None:
    for name, value in headers.items():
        here: Path = (*path, "headers", name)
        if not HEADER_NAME.fullmatch(name):
            problems.add_at_key(here, "this is not the name of a header")
        elif name.lower() in _RESERVED:
            problems.add_at_key(here, f"the header '{name}' is set by the load tester")
        elif name.lower() == "authorization":
            problems.add_at_key(here, "a key must not be in the file", expected="key = { env = ... }")
        elif not all(" " <= character <= "~" or character == "\t" for character in value):
            problems.add(here, "the value of a header must be printable ASCII on one line")


def _check_use(
    table: str, defined: Iterable[str], used: list[str], problems: Problems, *, by: str = "entry of 'mix'"
) -> None:
    for name in defined:
        if name not in used:
            problems.warn_at_key((table, name), f"no {by} uses it")


def _or(words: list[str]) -> str:
    return f"one of: {', '.join(words)}"
