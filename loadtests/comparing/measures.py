"""The measures of runs that have names, such as `ttft_p99`: what conditions of CI and comparisons speak of."""

import re
from collections.abc import Callable
from typing import Literal

import msgspec

from config.problems.problems import nearest
from loadtests.model.errors import LoadError
from loadtests.model.run_record import Measures, RequestRow

Unit = Literal["s", "/s", "share", "money"]
Count = Callable[[Measures], float]
_PERCENTILE = re.compile(r"(?P<times>[a-z0-9_]+)_(?:p(?P<percent>50|75|90|95|99|99\.9|999)|(?P<mean>mean))")

TIMES: dict[str, Callable[[RequestRow], float | None] | None] = {
    "ttft": lambda row: None if row.first_s is None else row.first_s - row.intended_s,
    "ttft_service": lambda row: None if row.first_s is None else row.first_s - row.sent_s,
    "tpot": lambda row: row.tpot_s,
    "e2e": lambda row: row.end_s - row.intended_s,
    "e2e_service": lambda row: row.end_s - row.sent_s,
    "itl_max": lambda row: row.itl_max_s or None,
    "queue": lambda row: row.queue_s,
    "itl": None,
}
"""By name: the time of a request. None: every gap, which is in histograms."""

COUNTS: dict[str, tuple[Unit, Count, Count | None]] = {
    "goodput": ("/s", lambda measures: measures.delivered.good, None),
    "rate": ("/s", lambda measures: measures.requests, None),
    "tokens": ("/s", lambda measures: measures.delivered.tokens, None),
    "good_tokens": ("/s", lambda measures: measures.delivered.good_tokens, None),
    "cost": ("/s", lambda measures: measures.delivered.cost, None),
    "good_share": ("share", lambda measures: measures.good, lambda measures: measures.judged),
    "shed_share": ("share", lambda measures: measures.shed, lambda measures: measures.requests),
    "failed_share": ("share", lambda measures: measures.failed, lambda measures: measures.requests),
    "token_cost": ("money", lambda measures: measures.cost, lambda measures: measures.output_tokens / 1e6),
    "good_token_cost": ("money", lambda measures: measures.cost, lambda measures: measures.good_tokens / 1e6),
}
"""By name: what is counted, and what it is divided by; None: by seconds."""

_MORE_IS_BETTER = frozenset({"goodput", "rate", "tokens", "good_tokens", "good_share"})
SHOWN = (
    *("ttft_p50", "ttft_p99", "itl_p50", "itl_p99", "tpot_p50", "tpot_p99", "e2e_p50", "e2e_p99"),
    *("goodput", "good_share", "tokens", "shed_share", "failed_share"),
)
"""Those of every comparison."""
COSTS = ("cost", "token_cost", "good_token_cost")
"""Those of comparisons where a price is known."""


class MeasureError(LoadError):
    """There is no measure of this name."""


class Measure(msgspec.Struct, frozen=True):
    """One measure."""

    name: str
    unit: Unit
    source: str
    """A name of `TIMES` or `COUNTS`."""
    percent: float | None = None
    """A percentile of times; None: the mean, or what is counted."""

    @property
    def more_is_better(self) -> bool:
        return self.source in _MORE_IS_BETTER


def measure(name: str) -> Measure:
    """Raises MeasureError."""
    if name in COUNTS:
        return Measure(name, COUNTS[name][0], name)
    match = _PERCENTILE.fullmatch(name)
    if match is not None and match["times"] in TIMES:
        percent = None if match["mean"] else {"999": 99.9}.get(match["percent"], float(match["percent"] or 0))
        return Measure(name, "s", match["times"], percent)
    known = [*(f"{times}_p99" for times in TIMES), *COUNTS]
    near = nearest(name, known)
    hint = f"did you mean {near}? " if near else ""
    raise MeasureError(
        f"there is no measure {name!r}: {hint}there are {', '.join(TIMES)}, each with _p50, _p75, _p90, _p95, _p99, "
        f"_p999 or _mean, and {', '.join(COUNTS)}"
    )
