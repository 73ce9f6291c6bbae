"""A token bucket without a clock of its own."""


class TokenBucket:
    """`rate` tokens a second; holds at most one second's worth.

    It can be overdrawn: then `take` returns how long to wait.
    """

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._tokens = rate
        self._at = now

    def take(self, now: float) -> float:
        """Take one token, on credit if there is none. Returns seconds until the debt is paid, 0 without debt."""
        tokens = self._tokens + (now - self._at) * self._rate
        self._at = now
        self._tokens = min(tokens, self._rate) - 1
        return -self._tokens / self._rate if self._tokens < 0 else 0.0
