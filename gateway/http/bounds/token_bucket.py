"""How often something may happen: a token bucket, without a clock of its own."""


class TokenBucket:
    """`rate` tokens a second, at most one second's worth of them kept.

    A bucket that is overdrawn says how long to wait; what waits is not lost, only later.
    """

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._tokens = rate
        self._at = now

    def take(self, now: float) -> float:
        """Take one token, on credit if need be; seconds until the bucket is out of debt, 0 if it has none."""
        tokens = self._tokens + (now - self._at) * self._rate
        self._at = now
        self._tokens = min(tokens, self._rate) - 1
        return -self._tokens / self._rate if self._tokens < 0 else 0.0
