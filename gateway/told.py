"""What an answer's head says of the decision and of who answered."""

from actors.messages import Decided, Served, Start


class Told:
    """What the head says of the decision. Until there is one, the policy is that which would decide."""

    __slots__ = ("decided", "request_line")

    def __init__(self, request_id: str, decided: Decided) -> None:
        self.request_line = b"x-request-id: %b\r\n" % request_id.encode()
        self.decided = decided

    def decision_lines(self) -> bytes:
        """The policy, and the arm if there is one."""
        decided = self.decided
        lines = b"x-penstock-policy: %b\r\n" % _ascii(decided.policy)
        if decided.arm:
            lines += b"x-penstock-arm: %b/%b\r\n" % (_ascii(decided.experiment), _ascii(decided.arm))
        return lines

    def headers(self) -> bytes:
        """Both."""
        return self.request_line + self.decision_lines()


def served_headers(served: Served) -> bytes:
    """Who answered, and why it was this one."""
    adapter, _, _ = (served.adapter or "").partition("@")
    lines = place_lines(served.route, served.rung, adapter) + b"x-penstock-why: %b\r\n" % _ascii(served.why)
    return lines + degraded_lines(served)


def place_lines(route: str, rung: str, adapter: str) -> bytes:
    """Where it was answered, and with which adapter if there was one."""
    lines = b"x-penstock-route: %b\r\nx-penstock-rung: %b\r\n" % (_ascii(route), _ascii(rung))
    return lines + b"x-penstock-adapter: %b\r\n" % _ascii(adapter) if adapter else lines


def degraded_lines(served: Served | Start) -> bytes:
    """What was done less than asked for, by so much as is known."""
    lines = b""
    if served.degraded:
        lines += b"x-penstock-degraded: %b\r\n" % _ascii(", ".join(served.degraded))
    if served.tier is not None:
        lines += b"x-penstock-tier: %b\r\n" % _ascii(served.tier)
    if served.mark is not None:
        lines += b"x-penstock-mark: %b\r\n" % _ascii(served.mark)
    return lines


def _ascii(word: str) -> bytes:
    """Names come from the configuration: whatever they hold, they must not break the head."""
    return "".join([each if each.isprintable() else "?" for each in word]).encode("ascii", "replace")
