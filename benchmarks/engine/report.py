"""Benchmark results and their table: records of single runs, medians over rounds, ratios to the first server."""

import statistics
from pathlib import Path

import msgspec

from benchmarks.engine.client import Figures
from benchmarks.engine.floor import Machine
from benchmarks.engine.workloads import TITLES


class Record(msgspec.Struct, frozen=True):
    """One run of one workload by one server."""

    server: str
    model: str
    workload: str
    threads: int
    round: int
    figures: Figures


class Report(msgspec.Struct):
    """All results of one command; reports can be merged."""

    cpu: str = ""
    machine: Machine | None = None
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    absent: dict[str, str] = msgspec.field(default_factory=dict)
    """Skipped servers, and why."""
    agreement: dict[str, str] = msgspec.field(default_factory=dict)
    """By "model server": greedy tokens equal to Penstock's."""
    floors: dict[str, float] = msgspec.field(default_factory=dict)
    """Output tokens per second at the lower bound, by "model workload"."""
    records: list[Record] = msgspec.field(default_factory=list)

    def merge(self, other: "Report") -> None:
        self.cpu = self.cpu or other.cpu
        self.machine = other.machine or self.machine
        self.versions |= other.versions
        self.absent |= other.absent
        self.agreement |= other.agreement
        self.floors |= other.floors
        self.records += other.records

    def save(self, path: Path) -> None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)))

    def table(self) -> str:
        lines = [self.cpu]
        if self.machine is not None:
            rates = ", ".join(
                f"{rate / 1e9:.0f} at {rows} rows" for rows, rate in self.machine.operations_per_s.items()
            )
            lines.append(f"reads {self.machine.read_bytes_per_s / 1e9:.1f} GB/s; bf16 products in GFLOP/s: {rates}")
        lines += [f"{name}: {version}" for name, version in self.versions.items()]
        lines += [f"{name} skipped: {reason}" for name, reason in self.absent.items()]
        lines += [f"{key}: {text}" for key, text in self.agreement.items()]
        for model in dict.fromkeys(record.model for record in self.records):
            lines += ["", *self._model(model)]
        return "\n".join(lines)

    def _model(self, model: str) -> list[str]:
        lines = [
            f"| {model} | server | output tokens/s | of the floor | TTFT ms | TPOT ms | ITL ms | rounds |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for workload in TITLES:
            groups: dict[str, list[Figures]] = {}
            for record in self.records:
                if (record.model, record.workload) == (model, workload):
                    groups.setdefault(record.server, []).append(record.figures)
            medians = {name: _median(figures) for name, figures in groups.items()}
            floor = self.floors.get(f"{model} {workload}", 0.0)
            first = next(iter(medians.values()), None)
            for name, it in medians.items():
                speed = it.output_tokens_per_s
                ratio = f" (×{speed / first.output_tokens_per_s:.2f})" if first and it is not first else ""
                share = f"{speed / floor:.0%}" if floor else ""
                lines.append(
                    f"| {workload} | {name} | {speed:.0f}{ratio} | {share} | {it.ttft_ms:.0f} | "
                    f"{it.tpot_ms:.1f} | {it.itl_ms:.1f} | {len(groups[name])} |"
                )
        return lines


def _median(runs: list[Figures]) -> Figures:
    names = Figures.__struct_fields__
    return Figures(**{name: statistics.median(getattr(run, name) for run in runs) for name in names})
