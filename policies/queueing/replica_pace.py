"""Finds replicas of an engine that are alive but much slower than the others: a throttled or a shared device. Sans-IO.

Steps are compared with steps of about as many tokens: how long a step takes depends on that first of all. A replica
whose median is several times that of the others gets no jobs for a time that grows with each ejection, as addresses of
upstreams do; what it has in hand goes on. Never more than half of the replicas are ejected at the same time.
"""

from collections import deque
from statistics import median

_WINDOW = 16
"""Steps of one size that are remembered, the latest ones."""
_LEAST = 8
"""Steps of one size that a replica must have made to be judged, or to judge."""
_SLOWER = 4.0
"""A median so many times that of the others ejects ..."""
_SLOWER_S = 0.02
"""... if it is longer by so much."""
_FIRST_EJECTION_S = 5.0
_LONGEST_EJECTION_S = 300.0
_FORGIVEN_S = 600.0
"""After so long without an ejection the next one is short again."""


class _Record:
    __slots__ = ("ejected_until", "ejections", "steps_s", "steps_total")

    def __init__(self) -> None:
        self.steps_s: dict[int, deque[float]] = {}
        """By size: the binary logarithm of the step's tokens."""
        self.steps_total = 0
        self.ejected_until = float("-inf")
        self.ejections = 0


class ReplicaPace:
    """Of all replicas of one engine, by number. Mutable; owned by the task that dispatches jobs."""

    def __init__(self, replicas: int) -> None:
        self._records = [_Record() for _ in range(replicas)]
        self.ejected_total = [0] * replicas

    def is_ejected(self, number: int, now: float) -> bool:
        return self._records[number].ejected_until > now

    def step(self, number: int, steps_total: int, tokens: int, seconds: float, now: float) -> float | None:
        """Its latest step; seen before, it counts once. Returns for how long it is ejected, if it is now."""
        mine = self._records[number]
        if steps_total == mine.steps_total or tokens < 1:
            return None
        mine.steps_total = steps_total
        if self.is_ejected(number, now):
            # Of jobs that it had before. When it is back it is judged by what it does then.
            return None
        size = tokens.bit_length()
        mine.steps_s.setdefault(size, deque(maxlen=_WINDOW)).append(seconds)
        if self._is_slower(number, size) and self._may_eject(now):
            return self._eject(number, now)
        return None

    def forget(self, number: int) -> None:
        """It is down: its next life may be another."""
        self._records[number].steps_s.clear()
        self._records[number].steps_total = 0

    def _is_slower(self, number: int, size: int) -> bool:
        mine = _typical(self._records[number], size)
        others = [_typical(each, size) for index, each in enumerate(self._records) if index != number]
        known = [each for each in others if each is not None]
        if mine is None or not known:
            return False
        usual = median(known)
        return mine > max(_SLOWER * usual, usual + _SLOWER_S)

    def _may_eject(self, now: float) -> bool:
        ejected = sum([each.ejected_until > now for each in self._records])
        return ejected + 1 <= len(self._records) // 2

    def _eject(self, number: int, now: float) -> float:
        record = self._records[number]
        if now - record.ejected_until > _FORGIVEN_S:
            record.ejections = 0
        record.ejections += 1
        self.ejected_total[number] += 1
        for_s = min(_FIRST_EJECTION_S * 2.0 ** (record.ejections - 1), _LONGEST_EJECTION_S)
        record.ejected_until = now + for_s
        record.steps_s.clear()
        return for_s


def _typical(record: _Record, size: int) -> float | None:
    """None: there were too few such steps."""
    steps = record.steps_s.get(size, ())
    return median(steps) if len(steps) >= _LEAST else None
