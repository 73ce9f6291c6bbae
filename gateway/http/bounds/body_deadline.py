"""The deadline by which the rest of a body must arrive."""

from gateway.http.bounds.limits import ServerLimits


class BodyDeadline:
    """Combines three limits.

    The whole body takes at most `body_timeout_s`, a pause at most `header_timeout_s`, and the average rate is at least
    `min_body_bytes_per_s` after the first `header_timeout_s`. Many bytes at once do not allow a longer pause.
    """

    __slots__ = ("_ends_at", "_limits", "at")

    def __init__(self, limits: ServerLimits, now: float, *, whole_s: float | None = None) -> None:
        """`whole_s`: for the whole body; None: `body_timeout_s`."""
        self._limits = limits
        self._ends_at = now + (limits.body_timeout_s if whole_s is None else whole_s)
        self.at = min(now + limits.header_timeout_s, self._ends_at)
        """When the connection times out."""

    def received(self, size: int, now: float) -> None:
        limits = self._limits
        earned = self.at + size / limits.min_body_bytes_per_s
        self.at = min(earned, now + limits.header_timeout_s, self._ends_at)
