"""Response headers: the decision and the rung that answered, and the tenant's remaining rate limits."""

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from actors.api.response import DecisionInfo, Served, Start
from engine.sampling.schema_relax import list_places
from policies.admission.quota import RateLimits

_LONGEST = 1024
"""Bytes of a header value that contains names from the client, at most."""


class DecisionHeaders:
    """Headers about the decision. Before there is one, they name the policy in force."""

    __slots__ = ("_limits", "decided", "request_id", "request_line")

    def __init__(self, request_id: str, decided: DecisionInfo, limits: Callable[[], bytes]) -> None:
        """`limits`: lines with the client's remaining rate limits; called when the headers are written."""
        self._limits = limits
        self.request_id = request_id
        self.request_line = b"x-request-id: %b\r\n" % request_id.encode()
        self.decided = decided

    def decision_lines(self) -> bytes:
        """Policy, experiment arm, unenforced schema keywords, and remaining rate limits."""
        decided = self.decided
        lines = _line("policy", decided.policy)
        if decided.arm:
            lines += b"x-penstock-arm: %b/%b\r\n" % (_ascii(decided.experiment), _ascii(decided.arm))
        if decided.passed_over:
            lines += b"x-penstock-schema-passed-over: %b\r\n" % _ascii(list_places(decided.passed_over))[:_LONGEST]
        return lines + self._limits()

    def headers(self) -> bytes:
        return self.request_line + self.decision_lines()


def served_headers(served: Served) -> bytes:
    """Headers of a complete answer: route, rung, reason, models, degradation."""
    return _lines(served, (served.adapter or "").partition("@")[0], served.why)


def start_headers(start: Start) -> bytes:
    """The same headers, as far as they are known at the first content."""
    return _lines(start, start.adapter, None)


def _lines(served: Served | Start, adapter: str, why: str | None) -> bytes:
    return _served_lines(
        served.route,
        served.rung,
        adapter or None,
        served.model_asked or None,
        served.model_served or None,
        why,
        ", ".join(served.degraded) or None,
        served.tier,
        served.mark,
    )


SERVED_NAMES = ("route", "rung", "adapter", "model-asked", "model-served", "why", "degraded", "tier", "mark")


@lru_cache(maxsize=1024)
def _served_lines(*values: str | None) -> bytes:
    """Kept, because most answers have the same: names of the settings, and of the models as upstreams name them."""
    named = zip(SERVED_NAMES, values, strict=True)
    return b"".join([_line(name, value) for name, value in named if value is not None])


@lru_cache(maxsize=1024)
def _line(name: str, value: str) -> bytes:
    return b"x-penstock-%b: %b\r\n" % (name.encode(), _ascii(value))


def _ascii(word: str) -> bytes:
    """A name as a header value: any character from the configuration must be safe in a header."""
    if word.isascii() and word.isprintable():
        return word.encode()
    return "".join([each if each.isprintable() else "?" for each in word]).encode("ascii", "replace")


_MINUTE_S, _HOUR_S = 60, 3600


def limit_lines(limits: RateLimits | None) -> bytes:
    """The `x-ratelimit-…` header lines; b"" without limits."""
    if limits is None:
        return b""
    fields = limit_fields(limits)
    return (_limit_lines_of(*fields) % tuple(fields.values())).encode()


@cache
def _limit_lines_of(*names: str) -> str:
    return "".join([f"x-ratelimit-{name.replace('_', '-')}: %s\r\n" for name in names])


def limit_fields(limits: RateLimits) -> dict[str, Any]:
    """The same as an object, with the header names without `x-ratelimit-` and with underscores."""
    known = (("requests", limits.requests), ("tokens", limits.tokens))
    fields: dict[str, Any] = {}
    for name, window in known:
        if window is not None:
            fields["limit_" + name] = window.limit
    for name, window in known:
        if window is not None:
            fields["remaining_" + name] = window.remaining
    for name, window in known:
        if window is not None:
            fields["reset_" + name] = duration(window.resets_in_s)
    return fields


def duration(seconds: float) -> str:
    """A duration in OpenAI's (Go's) format, rounded up: "0s", "12ms", "8.64s", "6m0s", "23h59m1s"."""
    if seconds <= 0:
        return "0s"
    milliseconds = -int(-seconds * 1000 // 1)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    if milliseconds < _MINUTE_S * 1000:
        return f"{milliseconds / 1000:g}s"
    whole = -(-milliseconds // 1000)
    hours, rest = divmod(whole, _HOUR_S)
    minutes, left = divmod(rest, _MINUTE_S)
    return f"{hours}h{minutes}m{left}s" if hours else f"{minutes}m{left}s"
