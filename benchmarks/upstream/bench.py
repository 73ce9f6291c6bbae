"""The gateways in turns: cell by cell and round by round, stopped by a signal while others are measured."""

import gc
import sys

from benchmarks.upstream.cells.all_cells import Cell
from benchmarks.upstream.cells.speed_cells import warm_up
from benchmarks.upstream.figures import Sizes
from benchmarks.upstream.gateways.gateways import GatewayAbsentError
from benchmarks.upstream.report import Record, Report
from benchmarks.upstream.stand import CellFailedError, Setting, Stand

_MOST_STARTS = 4
"""Of one gateway, beside those for cells that need a fresh one."""


class Bench:
    """The gateways that are measured in turns."""

    def __init__(self, setting: Setting, sizes: Sizes, report: Report, names: list[str]) -> None:
        self._setting = setting
        self._sizes = sizes
        self._report = report
        self._names = names
        self._stands: dict[str, Stand] = {}
        self._starts = dict.fromkeys(names, 0)

    def start(self) -> None:
        """Start all of them; those that do not answer are left out."""
        for name in list(self._names):
            self._start(name)

    def end(self) -> None:
        for stand in self._stands.values():
            stand.end()

    def measure(self, name: str, cell: Cell, turn: int) -> None:
        """One cell of all gateways; each round begins with another one."""
        names = self._names
        first = turn % max(len(names), 1)
        for gateway in names[first:] + names[:first]:
            print(f"round {turn + 1}: {name}: {gateway}", file=sys.stderr, flush=True)
            try:
                stand = self._stand(gateway, fresh=cell.fresh)
            except GatewayAbsentError as reason:
                self._leave_out(gateway, str(reason))
                continue
            gc.collect()
            gc.disable()
            try:
                figures = cell.run(stand, self._sizes)
            except CellFailedError as reason:
                self._report.failed.append(f"{gateway}, {name}, round {turn + 1}: {reason}")
                print(self._report.failed[-1], file=sys.stderr, flush=True)
            else:
                self._report.records.append(Record(gateway, name, turn, figures))
            finally:
                gc.enable()
            if cell.fresh:
                stand.end()
            settled = stand.settle()
            if not cell.fresh and (stand.ended or not settled):
                self._stands.pop(gateway).end()
                stand.settle()
            else:
                stand.pause()

    def _stand(self, gateway: str, *, fresh: bool) -> Stand:
        """A gateway that runs. Raises `GatewayAbsentError`."""
        if fresh:
            return Stand(gateway, self._setting)
        if gateway not in self._stands:
            self._start(gateway)
        if gateway not in self._stands:
            raise GatewayAbsentError(self._report.absent[gateway])
        self._stands[gateway].resume()
        return self._stands[gateway]

    def _start(self, name: str) -> None:
        """Start one, and let it warm up."""
        self._starts[name] += 1
        if self._starts[name] > _MOST_STARTS:
            self._leave_out(name, f"was started {_MOST_STARTS} times, and ended or hung in its cells")
            return
        try:
            stand = Stand(name, self._setting)
        except GatewayAbsentError as reason:
            self._leave_out(name, str(reason))
            return
        try:
            warm_up(stand, self._sizes)
        except CellFailedError as reason:
            stand.end()
            self._leave_out(name, f"failed in its warm-up: {reason}")
            return
        except BaseException:
            stand.end()
            raise
        stand.pause()
        self._stands[name] = stand
        self._report.versions[name] = stand.version
        print(f"{name} answers", file=sys.stderr, flush=True)

    def _leave_out(self, name: str, reason: str) -> None:
        """Stop measuring this gateway; earlier results are kept."""
        if name in self._names:
            self._names.remove(name)
        self._report.absent[name] = reason
        print(f"{name} is skipped: {reason}", file=sys.stderr, flush=True)
