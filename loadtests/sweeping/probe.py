"""What one run says about its rate: do the SLOs hold, how surely, which was missed, and where did the time go? Pure."""

import math
from collections.abc import Sequence
from statistics import NormalDist

from loadtests.model.run_record import RequestRow, RunRecord
from loadtests.model.scenario import SloSettings
from loadtests.sweeping.sweep_record import SweepProbe, TimeParts

_BLOCKS = 12
_GROWS = 1.5
_NOTHING = "no request was due in the measured time whose client did not leave: give a longer --for, or a higher --rate"
_SOME = 8
"""Fewer requests in flight are no queue."""
_PREFILL = ("prefill", "prompt")
_DECODE = ("decode", "predicted")
"""Names in the server's own timings: Penstock's, then llama.cpp's."""


def probe_of(record: RunRecord, rate: float, target: float) -> SweepProbe:
    """`target`: the share of requests that must be good."""
    totals, seconds = record.totals, record.header.measured_s or 1.0
    share = totals.good_share
    error = share_error(record)
    latencies = totals.latencies
    return SweepProbe(
        rate=rate,
        seed=record.header.scenario.seed,
        valid=record.verdict.valid and totals.judged > 0,
        reasons=record.verdict.reasons if totals.judged else (_NOTHING,),
        requests=totals.judged,
        good=totals.good,
        share=share,
        error=error,
        holds=NormalDist().cdf((share - target) / error),
        growing=is_growing(record),
        goodput=totals.delivered.good / seconds,
        tokens=totals.delivered.tokens / seconds,
        ttft_p50=latencies.ttft.percentile(50),
        ttft_p99=latencies.ttft.percentile(99),
        itl_p99=latencies.itl.percentile(99),
        e2e_p99=latencies.e2e.percentile(99),
        missed=missed_shares(record),
        parts=time_parts([row for row in record.rows if row.measured and row.outcome == "ok"]),
        good_token_cost=totals.good_token_cost,
    )


def share_error(record: RunRecord) -> float:
    """The standard error of the share of good requests, by blocks of time: neighbours share a queue.

    At least the binomial one, with two successes and two failures added (Agresti & Coull 1998): a share of exactly 1 is
    not surely 1.
    """
    totals, header = record.totals, record.header
    requests = totals.judged
    if not requests:
        return 1.0
    likely = (totals.good + 2) / (requests + 4)
    binomial = math.sqrt(likely * (1 - likely) / requests)
    share = totals.good / requests
    width = max(header.measured_s / _BLOCKS, header.window_s)
    sums: dict[int, list[int]] = {}
    for window in record.windows:
        if window.begins_s >= header.warm_up_s:
            block = sums.setdefault(int((window.begins_s - header.warm_up_s) / width), [0, 0])
            block[0] += window.measures.good
            block[1] += window.measures.judged
    count = len(sums)
    if count < 2:
        return binomial
    spread = sum((good - share * number) ** 2 for good, number in sums.values())
    return max(binomial, math.sqrt(count / (count - 1) * spread) / requests)


def is_growing(record: RunRecord) -> bool:
    """Whether more and more requests were in flight."""
    header = record.header
    end_s = header.warm_up_s + header.measured_s
    inside = [window.in_flight for window in record.windows if header.warm_up_s <= window.begins_s < end_s]
    third = len(inside) // 3
    if not third:
        return False
    before, after = (sum(part) / third for part in (inside[third : 2 * third], inside[-third:]))
    return after > _SOME and after > _GROWS * before


def missed_shares(record: RunRecord) -> dict[str, float]:
    """By SLO: the share of requests that missed it, of the rows without those whose clients left.

    Sheds and failures have names of their own.
    """
    scenario = record.header.scenario
    rows = [row for row in record.rows if row.measured and row.outcome != "left"]
    counts = {"shed": 0, "failed": 0}
    for row in rows:
        if row.outcome == "shed":
            counts["shed"] += 1
        elif row.outcome != "ok":
            counts["failed"] += 1
        else:
            for name in _missed(row, scenario.tier_slo.get(row.tier, scenario.slo)):
                counts[name] = counts.get(name, 0) + 1
    return {name: count / len(rows) for name, count in counts.items() if count}


def _missed(row: RequestRow, slo: SloSettings) -> list[str]:
    first = None if row.first_s is None else row.first_s - row.intended_s
    times = (
        ("ttft", slo.ttft, math.inf if first is None else first),
        ("itl", slo.itl, row.itl_max_s),
        ("tpot", slo.tpot, row.tpot_s or 0.0),
        ("e2e", slo.e2e, row.end_s - row.intended_s),
    )
    return [name for name, limit, value in times if limit is not None and value > limit]


def time_parts(rows: Sequence[RequestRow]) -> TimeParts | None:
    """None: there is no whole answer."""
    streamed = [row for row in rows if row.first_s is not None]
    if not streamed:
        return None
    count = len(streamed)
    client = sum(row.sent_s - row.intended_s for row in streamed) / count
    before = sum((row.first_s or 0.0) - row.sent_s for row in streamed) / count
    after = sum(row.end_s - (row.first_s or 0.0) for row in streamed) / count
    queue = _mean([row.queue_s for row in streamed])
    prefill = _mean([_said(row, _PREFILL) for row in streamed])
    decode = _mean([_said(row, _DECODE) for row in streamed])
    said = [each for each in (queue, prefill, decode) if each is not None]
    delivery = max(0.0, before + after - sum(said)) if prefill is not None and decode is not None else None
    return TimeParts(client, before, after, queue, prefill, decode, delivery)


def _said(row: RequestRow, names: Sequence[str]) -> float | None:
    return next((row.timings[name] for name in names if name in row.timings), None)


def _mean(values: Sequence[float | None]) -> float | None:
    """None: not all are known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
