"""What a person sees while a load test runs: a table that changes on a terminal, else a line now and then."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtests.model.scenario import Scenario
from loadtests.model.timing import duration_of, warm_up_of
from loadtests.running.progress import WorkerProgress

_LINE_EVERY_S = 5.0


class LiveView:
    """`with` it around the run, and `show` it progress."""

    def __init__(self, scenario: Scenario) -> None:
        self._duration_s = duration_of(scenario)
        self._warm_up_s = warm_up_of(scenario)
        self._bound_s = float(scenario.lag.p99)
        self._last: WorkerProgress | None = None
        self._next_line_s = _LINE_EVERY_S
        self._live: Live | None = None
        if sys.stderr.isatty():
            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: WorkerProgress) -> None:
        """Progress of the whole run."""
        last, self._last = self._last, progress
        if self._live is not None:
            self._live.update(self.picture(progress, last), refresh=True)
        elif progress.at_s >= self._next_line_s:
            self._next_line_s = progress.at_s + _LINE_EVERY_S
            print(line_of(progress, self._duration_s), file=sys.stderr, flush=True)

    def picture(self, progress: WorkerProgress, last: WorkerProgress | None) -> Group:
        """The table of a moment; `last`: the moment before it."""
        since = progress.at_s - last.at_s if last is not None else progress.at_s
        sent = progress.sent - (last.sent if last is not None else 0)
        left_s = max(self._duration_s - progress.at_s, 0.0)
        phase = (
            "warm-up" if progress.at_s < self._warm_up_s else "measuring" if left_s else "waiting for the last answers"
        )
        table = Table.grid(padding=(0, 3))
        table.add_row("sent", str(progress.sent), "rate", f"{sent / since:.1f}/s" if since > 0 else "–")
        table.add_row("in flight", str(progress.in_flight), "waiting", str(progress.waiting))
        table.add_row("whole", str(progress.ok), "shed", str(progress.shed))
        table.add_row(
            "left", str(progress.left), "failed", Text(str(progress.failed), "red" if progress.failed else "")
        )
        table.add_row("TTFT p50", _ms(progress.ttft.percentile(50)), "TTFT p99", _ms(progress.ttft.percentile(99)))
        lag_s = progress.lag.max_s
        style = "bold red" if lag_s > self._bound_s else "green"
        table.add_row("time a token", _ms(progress.itl_mean_s), "own lag, worst", Text(_ms(lag_s), style))
        bar = ProgressBar(total=self._duration_s, completed=min(max(progress.at_s, 0.0), self._duration_s), width=60)
        return Group(
            Text(f"{phase}, {left_s:.0f} s left"), bar, table, Text("Ctrl-C ends it with what was measured", "dim")
        )


def line_of(progress: WorkerProgress, duration_s: float) -> str:
    """A moment on one line."""
    return (
        f"{progress.at_s:6.1f} s of {duration_s:g} s: sent {progress.sent}, in flight {progress.in_flight},"
        f" whole {progress.ok}, shed {progress.shed}, failed {progress.failed},"
        f" TTFT p50 {_ms(progress.ttft.percentile(50))}, own lag at most {_ms(progress.lag.max_s)}"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds else "–"
