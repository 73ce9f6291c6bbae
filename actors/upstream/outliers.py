"""Finds addresses of an upstream that do worse than the others: they fail more often, or answer much later. Sans-IO.

Consecutive failures are not enough: of an address that fails every second call each success forgives the last failure,
and one that answers slowly never fails. As in Envoy's outlier detection, an address is judged by the others, is ejected
for a time that grows with each ejection, and at most half of the addresses are ejected at the same time.
"""

from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Literal

_WINDOW = 20
"""Calls of an address that are judged, the latest ones."""
_LEAST = 8
"""Calls that an address must have had to be judged, or to judge."""
_FAILING = 0.4
"""Share of failed calls from which on an address may be ejected ..."""
_WORSE = 2.0
"""... if it is so many times that of the best other one."""
_SLOWER = 3.0
"""A median time to the first output so many times that of the others ejects ..."""
_SLOWER_S = 0.25
"""... if it is later by so much."""
_FIRST_EJECTION_S = 5.0
_LONGEST_EJECTION_S = 300.0
_FORGIVEN_S = 600.0
"""After so long without an ejection the next one is short again."""


class _Record:
    __slots__ = ("ejected_until", "ejections", "failed", "ttft_s")

    def __init__(self) -> None:
        self.failed: deque[bool] = deque(maxlen=_WINDOW)
        self.ttft_s: deque[float] = deque(maxlen=_WINDOW)
        self.ejected_until = float("-inf")
        self.ejections = 0

    @property
    def failure_rate(self) -> float:
        return sum(self.failed) / len(self.failed)


class Outliers:
    """Of one upstream's addresses, by index. `now` must not decrease."""

    def __init__(self, count: int) -> None:
        self._records = [_Record() for _ in range(count)]
        self.ejected_total = [0] * count

    def ejected_for_s(self, number: int, now: float) -> float:
        return max(self._records[number].ejected_until - now, 0.0)

    def is_ejected(self, number: int, now: float) -> bool:
        return self._records[number].ejected_until > now

    def record(self, number: int, ok: bool | None, ttft_s: float | None, now: float) -> Literal["fails", "slow"] | None:
        """A call has ended. `ok` None: that says nothing about the address. `ttft_s` None: it gave no output.

        Returns why the address is ejected, if it is now.
        """
        if len(self._records) == 1:
            return None
        mine = self._records[number]
        if self.is_ejected(number, now):
            # The call began before.
            return None
        if ok is not None:
            mine.failed.append(not ok)
        if ttft_s is not None:
            mine.ttft_s.append(ttft_s)
        others = [each for each in self._records if each is not mine]
        ejected = [each for each in others if each.ejected_until > now]
        if len(ejected) + 1 > len(self._records) // 2:
            return None
        if self._fails_more(mine, others):
            self._eject(number, now)
            return "fails"
        if self._is_slower(mine, others):
            self._eject(number, now)
            return "slow"
        return None

    def _fails_more(self, mine: _Record, others: Sequence[_Record]) -> bool:
        rates = [each.failure_rate for each in others if len(each.failed) >= _LEAST]
        if len(mine.failed) < _LEAST or not rates:
            return False
        return mine.failure_rate >= max(_FAILING, _WORSE * min(rates))

    def _is_slower(self, mine: _Record, others: Sequence[_Record]) -> bool:
        medians = [median(each.ttft_s) for each in others if len(each.ttft_s) >= _LEAST]
        if len(mine.ttft_s) < _LEAST or not medians:
            return False
        usual = median(medians)
        return median(mine.ttft_s) > max(_SLOWER * usual, usual + _SLOWER_S)

    def _eject(self, number: int, now: float) -> None:
        record = self._records[number]
        if now - record.ejected_until > _FORGIVEN_S:
            record.ejections = 0
        record.ejections += 1
        self.ejected_total[number] += 1
        record.ejected_until = now + min(_FIRST_EJECTION_S * 2.0 ** (record.ejections - 1), _LONGEST_EJECTION_S)
        # What it did before says nothing about how it does when it is back.
        record.failed.clear()
        record.ttft_s.clear()
