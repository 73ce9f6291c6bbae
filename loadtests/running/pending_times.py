"""Times that wait to be counted: many at once cost a tenth of what each costs by itself."""

from array import array

import numpy as np
import numpy.typing as npt

from loadtests.model.latency_histogram import LatencyHistogram

_AT_ONCE = 4096


class PendingTimes:
    """`flush` before a histogram is looked at."""

    def __init__(self) -> None:
        self._pending: dict[int, tuple[LatencyHistogram, int, array[float]]] = {}
        """By the histogram's identity: it, its step (see `LatencyHistogram.add`), and the times for it."""
        self._count = 0

    def add(self, histogram: LatencyHistogram, value: float, *, step: int = 1) -> None:
        """A histogram always gets the same `step`."""
        self._of(histogram, step).append(value)
        self._count += 1
        if self._count >= _AT_ONCE:
            self.flush()

    def add_all(self, histogram: LatencyHistogram, values: npt.NDArray[np.float64], *, step: int = 1) -> None:
        self._of(histogram, step).frombytes(values.tobytes())
        self._count += len(values)
        if self._count >= _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Count all."""
        for histogram, step, values in self._pending.values():
            histogram.add(np.frombuffer(values), step=step)
        self._pending.clear()
        self._count = 0

    def _of(self, histogram: LatencyHistogram, step: int) -> "array[float]":
        found = self._pending.get(id(histogram))
        if found is None:
            found = self._pending[id(histogram)] = histogram, step, array("d")
        return found[2]
