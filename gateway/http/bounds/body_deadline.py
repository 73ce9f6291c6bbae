"""Until when the rest of a body must have come."""

from gateway.http.bounds.limits import ServerLimits


class BodyDeadline:
    """Three bounds at once.

    The whole body takes at most `body_timeout_s`, silence at most `header_timeout_s`, and the average is at least
    `min_body_bytes_per_s` after a start of `header_timeout_s`. Many bytes at once buy no right to be silent.
    """

    __slots__ = ("_ends_at", "_limits", "at")

    def __init__(self, limits: ServerLimits, now: float) -> None:
        self._limits = limits
        self._ends_at = now + limits.body_timeout_s
        self.at = min(now + limits.header_timeout_s, self._ends_at)
        """The time at which the sender is given up."""

    def received(self, size: int, now: float) -> None:
        """So many bytes came."""
        limits = self._limits
        earned = self.at + size / limits.min_body_bytes_per_s
        self.at = min(earned, now + limits.header_timeout_s, self._ends_at)
