"""What an answer's head says of the decision and of who answered."""

from collections.abc import Callable

from actors.api.response import DecisionInfo, Served, Start
from engine.sampling.schema_relax import told
from gateway.openai.responses.rate_limit_headers import limit_lines
from policies.admission.rate_limits import RateLimits

_LONGEST = 1024
"""Bytes of a header's value that a client's own names have a part in."""


class DecisionHeaders:
    """What the head says of the decision. Until there is one, the policy is that which would decide."""

    __slots__ = ("_limits", "decided", "request_line")

    def __init__(self, request_id: str, decided: DecisionInfo, limits: Callable[[], RateLimits | None]) -> None:
        """`limits`: what is left of the client's, asked when the head is written."""
        self._limits = limits
        self.request_line = b"x-request-id: %b\r\n" % request_id.encode()
        self.decided = decided

    def decision_lines(self) -> bytes:
        """The policy, the arm, what of a schema is not enforced, and what is left of the client's limits."""
        decided = self.decided
        lines = b"x-penstock-policy: %b\r\n" % _ascii(decided.policy)
        if decided.arm:
            lines += b"x-penstock-arm: %b/%b\r\n" % (_ascii(decided.experiment), _ascii(decided.arm))
        if decided.passed_over:
            lines += b"x-penstock-schema-passed-over: %b\r\n" % _ascii(told(decided.passed_over))[:_LONGEST]
        return lines + limit_lines(self._limits())

    def headers(self) -> bytes:
        """Both."""
        return self.request_line + self.decision_lines()


def served_headers(served: Served) -> bytes:
    """Who answered, and why it was this one."""
    adapter, _, _ = (served.adapter or "").partition("@")
    lines = _place_lines(served.route, served.rung, adapter) + _model_lines(served.model_asked, served.model_served)
    return lines + b"x-penstock-why: %b\r\n" % _ascii(served.why) + _degraded_lines(served)


def start_headers(start: Start) -> bytes:
    """Who answers, as far as it is known before the end."""
    lines = _place_lines(start.route, start.rung, start.adapter) + _model_lines(start.model_asked, start.model_served)
    return lines + _degraded_lines(start)


def _place_lines(route: str, rung: str, adapter: str) -> bytes:
    """Where it was answered, and with which adapter if there was one."""
    lines = b"x-penstock-route: %b\r\nx-penstock-rung: %b\r\n" % (_ascii(route), _ascii(rung))
    return lines + b"x-penstock-adapter: %b\r\n" % _ascii(adapter) if adapter else lines


def _degraded_lines(served: Served | Start) -> bytes:
    """What was done less than asked for, by so much as is known."""
    lines = b""
    if served.degraded:
        lines += b"x-penstock-degraded: %b\r\n" % _ascii(", ".join(served.degraded))
    if served.tier is not None:
        lines += b"x-penstock-tier: %b\r\n" % _ascii(served.tier)
    if served.mark is not None:
        lines += b"x-penstock-mark: %b\r\n" % _ascii(served.mark)
    return lines


def _model_lines(asked: str, served: str) -> bytes:
    """The model's name that was asked for, and the one that answered."""
    lines = b"x-penstock-model-asked: %b\r\n" % _ascii(asked) if asked else b""
    return lines + b"x-penstock-model-served: %b\r\n" % _ascii(served) if served else lines


def _ascii(word: str) -> bytes:
    """Names come from the configuration: whatever they hold, they must not break the head."""
    if word.isascii() and word.isprintable():
        return word.encode()
    return "".join([each if each.isprintable() else "?" for each in word]).encode("ascii", "replace")
