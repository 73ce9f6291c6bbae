"""Compares the runs of A and B: a difference for each measure, with its interval, and a verdict. Pure."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import msgspec
import numpy as np

from loadtests.comparing.condition import Condition
from loadtests.comparing.measures import COSTS, COUNTS, SHOWN, TIMES, Measure, measure
from loadtests.comparing.time_blocks import ENOUGH_BLOCKS, Drawn, Numbers, TimeBlocks, TimedValues, draw_blocks
from loadtests.model.run_record import RunRecord

_DRAWS = 2000
_CONFIDENCE = 0.99
"""Of each measure: there are a dozen in a comparison, and one in eight comparisons would see a difference by chance."""
_LEAST_BEYOND = 10
"""A percentile with fewer values beyond it is not compared: a bootstrap cannot tell how sure it is."""
Difference = Literal["better", "worse", "none", "unknown"]
Outcome = Literal["broken", "kept", "unknown"]


class ComparedMeasure(msgspec.Struct, frozen=True):
    """One measure of A and B. `change` is (B - A) / A where A is above zero, and None otherwise."""

    name: str
    unit: str
    a: float | None
    b: float | None
    """None: nothing was measured."""
    difference: float = 0.0
    """B - A."""
    low: float | None = None
    """With `high`: where the difference lies, with the confidence of the comparison. None: too little was measured."""
    high: float | None = None
    change: float | None = None
    change_low: float | None = None
    change_high: float | None = None
    verdict: Difference = "unknown"
    why: str = ""
    """Why the verdict is unknown."""


class ConditionOutcome(msgspec.Struct, frozen=True):
    """broken: surely beyond. kept: surely not, or the figure is within. unknown: the figure is beyond, not surely."""

    text: str
    outcome: Outcome
    words: str


class LoadComparison(msgspec.Struct, frozen=True):
    """A comparison, as `penstock load compare --json` prints it."""

    a: str
    b: str
    runs: int
    """Of each side."""
    paired: bool
    """Both sides had the same requests at the same times."""
    confidence: float
    measures: tuple[ComparedMeasure, ...]
    conditions: tuple[ConditionOutcome, ...]
    invalid: tuple[str, ...]
    """Why the figures of a run are not the server's."""
    notes: tuple[str, ...]
    format: Literal["penstock-load-comparison"] = "penstock-load-comparison"
    version: Literal[1] = 1


def compare_runs(
    a: Sequence[RunRecord],
    b: Sequence[RunRecord],
    conditions: Sequence[Condition] = (),
    *,
    names: tuple[str, str] = ("A", "B"),
    seed: int = 1,
) -> LoadComparison:
    """`seed`: of the bootstrap."""
    sides = (TimeBlocks(a), TimeBlocks(b))
    paired = _paired(a, b) and sides[0].by_run == sides[1].by_run
    drawn = draw_blocks(sides, _DRAWS, seed, together=paired)
    is_priced = any(record.totals.cost for record in [*a, *b])
    wanted = [measure(name) for name in SHOWN + (COSTS if is_priced else ())]
    wanted += [each.measure for each in conditions if each.measure not in wanted]
    compared = {each.name: _compared(each, sides, drawn) for each in dict.fromkeys(wanted)}
    shown = [each for each in compared.values() if each.a is not None or each.b is not None]
    return LoadComparison(
        a=names[0],
        b=names[1],
        runs=len(a),
        paired=paired,
        confidence=_CONFIDENCE,
        measures=tuple(shown),
        conditions=tuple([_outcome(each, compared[each.measure.name]) for each in conditions]),
        invalid=tuple(_invalid(a, names[0]) + _invalid(b, names[1])),
        notes=tuple(_notes(a, b, paired=paired)),
    )


def _compared(what: Measure, sides: Sequence[TimeBlocks], drawn: Sequence[Drawn]) -> ComparedMeasure:
    spread = _spread_of(min(side.count for side in sides))
    if what.source in COUNTS:
        (a, in_a), (b, in_b) = (_counted(what, side, each) for side, each in zip(sides, drawn, strict=True))
        if a is None or b is None:
            why = f"{'A' if a is None else 'B'} has nothing that it can be divided by"
            return ComparedMeasure(what.name, what.unit, a, b, why=why)
        return _judged(what, (a, b), (in_a, in_b), _too_few_blocks(sides), spread)
    times = [_times(what, side) for side in sides]
    if not times[0].count or not times[1].count:
        known = [_value(each, what.percent) if each.count else None for each in times]
        missing = "A" if not times[0].count else "B"
        return ComparedMeasure(what.name, what.unit, known[0], known[1], why=f"{missing} has no such time")
    values = (_value(times[0], what.percent), _value(times[1], what.percent))
    why = _too_few_blocks(sides)
    if what.percent is not None:
        beyond = min(each.count for each in times) * min(what.percent, 100 - what.percent) / 100
        if beyond < _LEAST_BEYOND:
            needed = _LEAST_BEYOND * 100 / min(what.percent, 100 - what.percent)
            why = f"too few values: it needs {needed:,.0f} on each side"
    if why:
        return _judged(what, values, (), why, spread)
    draws = [
        each.means(draw) if what.percent is None else each.percentiles(draw, what.percent)
        for each, draw in zip(times, drawn, strict=True)
    ]
    return _judged(what, values, draws, "", spread)


def _judged(
    what: Measure, values: tuple[float, float], draws: Sequence[Numbers], why: str, spread: float
) -> ComparedMeasure:
    """`draws`: of A and of B; none if it is unknown, and then `why`. `spread`: see `_spread_of`."""
    a, b = values
    change = (b - a) / a if a > 0 else None
    if why:
        return ComparedMeasure(what.name, what.unit, a, b, b - a, change=change, why=why)
    in_a, in_b = draws
    low, high = _bounds(in_b - in_a, b - a, spread)
    change_low = change_high = None
    if change is not None:
        change_low, change_high = _bounds((in_b - in_a) / np.maximum(in_a, 1e-12), change, spread)
    verdict: Difference = "none"
    if low > 0 or high < 0:
        verdict = "better" if (low > 0) == what.more_is_better else "worse"
    return ComparedMeasure(what.name, what.unit, a, b, b - a, low, high, change, change_low, change_high, verdict)


def _outcome(condition: Condition, compared: ComparedMeasure) -> ConditionOutcome:
    relative = condition.relative
    figure = compared.change if relative else compared.difference
    low, high = (compared.change_low, compared.change_high) if relative else (compared.low, compared.high)
    if compared.b is None and compared.a is not None:
        return ConditionOutcome(condition.text, "broken", f"A has it, and {compared.why}")
    if compared.a is None or compared.b is None:
        return ConditionOutcome(condition.text, "unknown", compared.why)
    if figure is None:
        # A is zero: as a share of it, any rise is beyond all bounds.
        bound = 0.0 if condition.change >= 0 else -math.inf
        figure, low, high = compared.difference, compared.low, compared.high
        condition = msgspec.structs.replace(condition, change=bound)
    sign = 1 if condition.above else -1
    is_beyond = sign * (figure - condition.change) > 0
    if low is None or high is None:
        return ConditionOutcome(condition.text, "unknown", compared.why)
    nearest = low if condition.above else high
    if sign * (nearest - condition.change) > 0:
        return ConditionOutcome(condition.text, "broken", "beyond, even at the near end of its interval")
    if is_beyond:
        return ConditionOutcome(condition.text, "unknown", "beyond, but not surely: its interval reaches back")
    return ConditionOutcome(condition.text, "kept", "within")


def _times(what: Measure, side: TimeBlocks) -> TimedValues:
    value = TIMES[what.source]
    return side.of_gaps() if value is None else side.of_requests(value)


def _value(times: TimedValues, percent: float | None) -> float:
    return times.mean() if percent is None else times.percentile(percent)


def _counted(what: Measure, side: TimeBlocks, drawn: Drawn) -> tuple[float | None, Numbers]:
    """What was measured, and in each draw. None: what it is divided by is zero."""
    _, count, by = COUNTS[what.source]
    above = side.of_counts(count)
    below = side.seconds if by is None else side.of_counts(by)
    whole = float(above.sum() / below.sum()) if below.sum() else None
    return whole, (drawn.times @ above) / np.maximum(drawn.times @ below, 1e-12)


def _bounds(draws: Numbers, measured: float, spread: float) -> tuple[float, float]:
    rest = 50 * (1 - _CONFIDENCE)
    low, high = np.percentile(draws, [rest, 100 - rest]).tolist()
    return measured - spread * max(measured - low, 0.0), measured + spread * max(high - measured, 0.0)


def _spread_of(blocks: int) -> float:
    """By how much a bootstrap over so few blocks is too narrow.

    It draws from what was measured, which scatters less than what could have been by sqrt((n - 1) / n), and knows that
    scatter from n values alone: Student's t in place of the normal distribution (Cornish-Fisher expansion: Abramowitz &
    Stegun 1964, 26.7.5).
    """
    free = max(blocks - 1, 1)
    z = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2)
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return t / z * math.sqrt(max(blocks, 2) / free)


def _too_few_blocks(sides: Sequence[TimeBlocks]) -> str:
    least = min(side.count for side in sides)
    return "" if least >= ENOUGH_BLOCKS else f"too short: it needs {ENOUGH_BLOCKS} s measured on each side"


def _paired(a: Sequence[RunRecord], b: Sequence[RunRecord]) -> bool:
    """In a closed loop the server decides when it is asked."""
    return len(a) == len(b) and all(
        left.header.scenario.arrivals.kind != "closed"
        and _plan(left) == _plan(right)
        and left.header.measured_s == right.header.measured_s
        for left, right in zip(a, b, strict=True)
    )


def _plan(record: RunRecord) -> tuple[object, ...]:
    """What the requests and their times follow from."""
    scenario = record.header.scenario
    parts = (scenario.seed, scenario.duration, scenario.arrivals, scenario.mix, scenario.prefixes, scenario.sessions)
    return (*parts, scenario.warm_up)


def _invalid(records: Sequence[RunRecord], name: str) -> list[str]:
    return [f"{name}: {reason}" for record in records if not record.verdict.valid for reason in record.verdict.reasons]


def _notes(a: Sequence[RunRecord], b: Sequence[RunRecord], *, paired: bool) -> list[str]:
    notes = []
    if not paired:
        notes.append("A and B had different requests or times: smaller differences can be seen with the same scenario")
    first, second = a[0].header, b[0].header
    for what, left, right in (
        ("SLOs", (first.scenario.slo, first.scenario.tier_slo), (second.scenario.slo, second.scenario.tier_slo)),
        ("machines of the load tester", first.machine, second.machine),
        ("versions of the load tester", first.penstock, second.penstock),
    ):
        if left != right:
            notes.append(f"A and B had different {what}")
    notes += [f"{name} was cut short" for name, side in (("A", a), ("B", b)) if any(r.verdict.cut_short for r in side)]
    for name, side in (("A", a), ("B", b)):
        kept, every = sum(len(record.rows) for record in side), sum(record.requests for record in side)
        if kept < every:
            notes.append(f"{name}: latencies of an even sample of {kept:,} of {every:,} requests")
    return notes
