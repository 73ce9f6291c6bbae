from random import Random

import numpy as np

from loadtests.model.latency_histogram import LatencyHistogram
from loadtests.running.pending_times import PendingTimes


def test_times_that_waited_count_as_others_do() -> None:
    rng = Random(1)
    pending = PendingTimes()
    late = [(LatencyHistogram(), step) for step in (1, 1, 10)]
    at_once = [LatencyHistogram() for _ in late]
    for _ in range(10_000):
        place, value = rng.randrange(len(late)), rng.uniform(-0.01, 1.0)
        histogram, step = late[place]
        if rng.random() < 0.5:
            pending.add(histogram, value, step=step)
            at_once[place].add_one(value, step=step)
        else:
            values = np.array([value, value * 2])
            pending.add_all(histogram, values, step=step)
            at_once[place].add(values, step=step)
    pending.add_all(late[0][0], np.empty(0))
    assert late[0][0].count > 1000, "nothing waits for long"
    pending.flush()
    pending.flush()
    for (histogram, _), other in zip(late, at_once, strict=True):
        assert histogram.count == other.count
        assert histogram.buckets == other.buckets
