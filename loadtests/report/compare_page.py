"""A comparison as a page: the verdict of each measure, and both distributions."""

from collections.abc import Callable, Sequence

from loadtests.comparing.comparison import ComparedMeasure, LoadComparison
from loadtests.model.latency_histogram import LatencyHistogram, merged
from loadtests.model.run_record import RunRecord
from loadtests.report.axis import PlotAxis
from loadtests.report.distribution import distribution
from loadtests.report.document import document, figure, section, table, verdict_box
from loadtests.report.plot import WIDTH
from loadtests.report.words import number, percent, plain, seconds

_TIMES = (
    ("Time to the first token (TTFT)", "ttft"),
    ("Inter-token latency (ITL)", "itl"),
    ("Time per output token (TPOT)", "tpot"),
    ("End to end (E2E)", "e2e"),
)
_WORDS = {"none": "no difference seen", "unknown": "cannot be told", "better": "B is better", "worse": "B is worse"}
_ROW_HEIGHT = 26
_LEFT, _RIGHT = 110, 40
_WIDEST = 2.0
"""A greater change is at the edge."""
_BEYOND = 1e9


def compare_page(comparison: LoadComparison, a: Sequence[RunRecord], b: Sequence[RunRecord]) -> str:
    """The HTML document."""
    figures = []
    for title, field in _TIMES:
        lines = [("A", 0, _all(a, field)), ("B", 1, _all(b, field))]
        figures.append(figure(title, distribution(lines)))
    pairs = "in pairs: the same requests at the same times" if comparison.paired else "not in pairs"
    about = (
        f"A: {comparison.a}; B: {comparison.b}. {comparison.runs} run(s) of each, {pairs}. An interval is where the "
        f"difference lies with {percent(comparison.confidence)}, by a bootstrap over blocks of time."
    )
    parts = [
        "<h1>B against A</h1>",
        f"<p>{plain(about)}</p>",
        verdict_of(comparison),
        section("Measures", "", table(rows_of(comparison), text_columns=(5,))),
        section(
            "Change from A to B", "Each line is an interval; the dot is what was measured.", _intervals(comparison)
        ),
        section(
            "Distributions", "Response times, from the intended time.", f'<div class="pair">{"".join(figures)}</div>'
        ),
    ]
    if comparison.conditions:
        rows = [("condition", "outcome", "")]
        rows += [(each.text, each.outcome, each.words) for each in comparison.conditions]
        parts.insert(3, section("Conditions", "", table(rows, text_columns=(2,))))
    return document(f"{comparison.b} against {comparison.a}: load tests", parts)


def verdict_of(comparison: LoadComparison) -> str:
    """In one box."""
    if comparison.invalid:
        return verdict_box("bad", "Not valid: figures of a run are not its server's", comparison.invalid)
    broken = [each.text for each in comparison.conditions if each.outcome == "broken"]
    kind, title = "", headline(comparison)
    if broken or any(each.verdict == "worse" for each in comparison.measures):
        kind = "bad" if broken else "warn"
    return verdict_box(kind, title, [*[f"broken: {text}" for text in broken], *comparison.notes])


def headline(comparison: LoadComparison) -> str:
    """The outcome in a sentence."""
    better = [each.name for each in comparison.measures if each.verdict == "better"]
    worse = [each.name for each in comparison.measures if each.verdict == "worse"]
    if better or worse:
        found = [
            f"B is {word} in {', '.join(names)}" for word, names in (("worse", worse), ("better", better)) if names
        ]
        return "; ".join(found)
    if all(each.verdict == "unknown" for each in comparison.measures):
        return "Too little was measured to see any difference"
    return "No difference seen"


def rows_of(comparison: LoadComparison) -> list[tuple[str, ...]]:
    """A header and a row for each measure, as text."""
    rows: list[tuple[str, ...]] = [("measure", "A", "B", "change", "interval", "verdict")]
    for each in comparison.measures:
        words = words_of(each)
        change = "–" if each.change is None else f"{100 * each.change:+.1f} %"
        interval = "–"
        if each.change_low is not None and each.change_high is not None:
            interval = f"{100 * each.change_low:+.1f} … {100 * each.change_high:+.1f} %"
        elif each.low is not None and each.high is not None:
            interval = f"{words(each.low)} … {words(each.high)}"
        a, b = ("–" if value is None else words(value) for value in (each.a, each.b))
        rows.append((each.name, a, b, change, interval, _WORDS[each.verdict] + (f": {each.why}" if each.why else "")))
    return rows


def words_of(compared: ComparedMeasure) -> Callable[[float], str]:
    """How a value of the measure is shown."""
    by_unit = {"s": _signed_seconds, "share": percent, "money": number}
    return by_unit.get(compared.unit, lambda value: f"{number(value)}/s")


def _signed_seconds(value: float) -> str:
    return f"−{seconds(-value)}" if value < 0 else seconds(value)


def _intervals(comparison: LoadComparison) -> str:
    shown = [(each, change) for each in comparison.measures if (change := _relative(each)) is not None]
    if not shown:
        return '<p class="none">No interval is known.</p>'
    low = min(-0.05, *[change[0] for _, change in shown])
    high = max(0.05, *[change[2] for _, change in shown])
    axis = PlotAxis(max(1.05 * low, -1.0), min(1.05 * high, _WIDEST), lambda share: f"{100 * share:+.0f} %")
    height = _ROW_HEIGHT * len(shown) + 34
    bottom = height - 26

    def place(share: float) -> float:
        return round(_LEFT + axis.share(share) * (WIDTH - _LEFT - _RIGHT), 1)

    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img">']
    for value in axis.ticks(7):
        x = place(value)
        parts.append(f'<path class="grid" d="M{x} 4V{bottom}"/>')
        parts.append(
            f'<text x="{x}" y="{height - 8}" text-anchor="middle">{axis.words(value).replace("+0 ", "0 ")}</text>'
        )
    parts.append(f'<path class="limit" d="M{place(0)} 4V{bottom}"/>')
    for row, (each, change) in enumerate(shown):
        y = 4 + _ROW_HEIGHT * (row + 0.5)
        colour = {"better": 2, "worse": 1}.get(each.verdict, 5)
        begin, here, end = map(place, change)
        parts.append(f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end">{plain(each.name)}</text>')
        parts.append(f'<path class="line l{colour}" stroke-width="3" d="M{begin} {y}H{end}"/>')
        parts.append(f'<circle class="f{colour}" cx="{here}" cy="{y}" r="4"/>')
    return "".join([*parts, "</svg>"])


def _relative(compared: ComparedMeasure) -> tuple[float, float, float] | None:
    """The change as a share of A, with its interval around it; beyond all bounds where A is zero and B is not."""
    if compared.change is not None and compared.change_low is not None and compared.change_high is not None:
        return compared.change_low, compared.change, compared.change_high
    if compared.a != 0 or compared.low is None or compared.high is None:
        return None
    low, here, high = (_BEYOND if each > 0 else 0.0 for each in (compared.low, compared.difference, compared.high))
    return low, here, high


def _all(records: Sequence[RunRecord], field: str) -> LatencyHistogram:
    return merged([getattr(record.totals.latencies, field) for record in records])
