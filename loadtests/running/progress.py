"""What a worker tells of its run while it runs."""

import msgspec

from loadtests.model.latency_histogram import LatencyHistogram


class WorkerProgress(msgspec.Struct):
    """Counts since the beginning; histograms since the last report."""

    at_s: float = 0.0
    sent: int = 0
    ok: int = 0
    shed: int = 0
    failed: int = 0
    left: int = 0
    in_flight: int = 0
    waiting: int = 0
    """For a place."""
    tokens: int = 0
    """Of answers that have ended."""
    ttft: LatencyHistogram = msgspec.field(default_factory=LatencyHistogram)
    itl_mean_s: float = 0.0
    """Of the last answer that ended; 0.0: none has."""
    lag: LatencyHistogram = msgspec.field(default_factory=LatencyHistogram)


def together(reports: "list[WorkerProgress]") -> WorkerProgress:
    """Those of several workers as one."""
    whole = WorkerProgress()
    for each in reports:
        whole.at_s = max(whole.at_s, each.at_s)
        whole.sent += each.sent
        whole.ok += each.ok
        whole.shed += each.shed
        whole.failed += each.failed
        whole.left += each.left
        whole.in_flight += each.in_flight
        whole.waiting += each.waiting
        whole.tokens += each.tokens
        whole.ttft.merge(each.ttft)
        whole.lag.merge(each.lag)
        whole.itl_mean_s = max(whole.itl_mean_s, each.itl_mean_s)
    return whole
