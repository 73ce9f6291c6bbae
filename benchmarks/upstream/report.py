"""Results: records of single cells, medians over the rounds, ratios between Penstock and the others."""

import statistics
from pathlib import Path

import msgspec

from benchmarks.upstream.figures import Figure

FIRST = "penstock"


class Record(msgspec.Struct, frozen=True):
    """One cell of one gateway in one round."""

    gateway: str
    cell: str
    round: int
    figures: list[Figure]


class Row(msgspec.Struct, frozen=True):
    """A figure of all gateways, over the rounds."""

    cell: str
    name: str
    unit: str
    better: str
    fault: bool
    values: dict[str, float]
    """By gateway: the median, or the sum of a fault."""
    rounds: dict[str, list[float]]
    ratios: dict[str, float]
    """By gateway: how many times better Penstock is; below 1 it is worse."""


class Report(msgspec.Struct):
    """All results of one command."""

    machine: str = ""
    pinned: bool = True
    load_average: list[float] = msgspec.field(default_factory=list)
    """Before and after the measurements."""
    titles: dict[str, str] = msgspec.field(default_factory=dict)
    """Of the cells."""
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    absent: dict[str, str] = msgspec.field(default_factory=dict)
    """Gateways that were not measured, or not to the end, and why."""
    failed: list[str] = msgspec.field(default_factory=list)
    """Cells without a figure, and why."""
    records: list[Record] = msgspec.field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write every record and the rows made of them."""
        built = {"report": self, "rows": self.rows()}
        path.write_bytes(msgspec.json.format(msgspec.json.encode(built)))

    def rows(self) -> list[Row]:
        groups: dict[tuple[str, str], list[tuple[str, Figure]]] = {}
        for record in self.records:
            for figure in record.figures:
                groups.setdefault((record.cell, figure.name), []).append((record.gateway, figure))
        order = list(self.titles)
        keys = sorted(groups, key=lambda key: order.index(key[0]) if key[0] in order else len(order))
        return [_row(cell, groups[cell, name]) for cell, name in keys]

    def table(self) -> str:
        """Markdown."""
        names = list(dict.fromkeys(record.gateway for record in self.records))
        order = [*self.versions]
        names.sort(key=lambda name: order.index(name) if name in order else len(order))
        rows = self.rows()
        lines = [self.machine]
        lines += ["cores are shared: this process may use only one"] if not self.pinned else []
        lines += [f"load average before and after: {', '.join(f'{value:.1f}' for value in self.load_average)}"]
        lines += [f"{name}: {version}" for name, version in self.versions.items()]
        lines += [f"{name} is skipped: {reason}" for name, reason in self.absent.items()]
        lines += [f"no figure: {reason}" for reason in self.failed]
        for cell, title in self.titles.items():
            figures = [row for row in rows if row.cell == cell and not row.fault]
            if figures:
                lines += ["", f"**{cell}**: {title}", "", *_table(figures, names)]
        faults = [row for row in rows if row.fault and any(row.values.values())]
        lines += ["", "**faults**, all rounds added", ""]
        lines += (
            _table(faults, names, with_cell=True)
            if faults
            else ["none: nothing lost, failed, unfinished or asked twice"]
        )
        if FIRST in names and len(names) > 1:
            compared = [row for row in rows if row.ratios]
            lines += ["", "**how many times better Penstock is** (below 1: worse)", ""]
            lines += _ratios(compared, [name for name in names if name != FIRST])
        return "\n".join(lines)


def _row(cell: str, found: list[tuple[str, Figure]]) -> Row:
    figure = found[0][1]
    rounds: dict[str, list[float]] = {}
    for gateway, it in found:
        rounds.setdefault(gateway, []).append(it.value)
    take = sum if figure.fault else statistics.median
    values = {gateway: float(take(given)) for gateway, given in rounds.items()}
    ratios = {}
    own = values.get(FIRST)
    if own is not None and not figure.fault and figure.better != "none":
        for gateway, value in values.items():
            over, under = (own, value) if figure.better == "more" else (value, own)
            if gateway != FIRST and under > 0 and over >= 0:
                ratios[gateway] = over / under
    return Row(cell, figure.name, figure.unit, figure.better, figure.fault, values, rounds, ratios)


def _table(rows: list[Row], names: list[str], *, with_cell: bool = False) -> list[str]:
    lines = [f"| | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    for row in rows:
        head = f"{row.cell}: {row.name}" if with_cell else row.name
        head += f", {row.unit}" if row.unit else ""
        cells = [_number(row.values[name]) if name in row.values else "" for name in names]
        lines.append(f"| {head} | {' | '.join(cells)} |")
    return lines


def _ratios(rows: list[Row], names: list[str]) -> list[str]:
    lines = [f"| | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    for row in rows:
        cells = [f"{row.ratios[name]:.2f}" if name in row.ratios else "" for name in names]
        lines.append(f"| {row.cell}: {row.name} | {' | '.join(cells)} |")
    return lines


def _number(value: float) -> str:
    """Three digits, or all before the point."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
