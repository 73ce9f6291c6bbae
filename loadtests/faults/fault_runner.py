"""Carries out a scenario's faults at their times, and undoes them."""

import contextlib
import signal
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import trio

from loadtests.faults.breaking_proxy import BreakingProxy
from loadtests.faults.own_process import OwnProcess
from loadtests.faults.plain_http import ask
from loadtests.faults.signals import TargetProcess
from loadtests.model.errors import RunError
from loadtests.model.faults import FaultSettings
from loadtests.model.run_record import FaultRecord
from loadtests.model.scenario import Scenario

_SHOWN = 200
DONE = "done"


class FaultRunner:
    """Enter it before the run: it starts the scenario's processes and proxies, and ends them on leaving."""

    def __init__(
        self, scenario: Scenario, pids: Mapping[str, int], keys: Mapping[int, str], nursery: trio.Nursery
    ) -> None:
        """`pids`: of processes that run already. `keys`: by the place of a fault that sends one.

        The proxies' connections run in `nursery`.
        """
        self._nursery = nursery
        self._scenario = scenario
        self._pids = pids
        self._keys = keys
        self._stack = contextlib.AsyncExitStack()
        self._own: dict[str, OwnProcess] = {}
        self._targets: dict[str, TargetProcess] = {}
        self._proxies: dict[str, BreakingProxy] = {}
        self._begun_s = 0.0
        self.records: list[FaultRecord] = []

    async def __aenter__(self) -> Self:
        """Raises RunError."""
        scenario = self._scenario
        named = {fault.process for fault in scenario.faults if fault.process} - set(scenario.processes)
        for name in sorted(named - set(self._pids)):
            raise RunError(
                f"a fault is for the process {name!r}: start it by [processes.{name}], or name it by --pid {name}=PID"
            )
        for name in sorted(set(self._pids) - named):
            raise RunError(f"--pid {name}=…: no fault is for a process of this name")
        try:
            for name, pid in self._pids.items():
                self._targets[name] = self._stack.enter_context(TargetProcess(name, pid))
            for name, settings in scenario.proxies.items():
                proxy = self._proxies[name] = BreakingProxy(name, settings, self._nursery)
                self._stack.callback(proxy.close)
                await proxy.open()
            for name, process in scenario.processes.items():
                self._own[name] = await self._stack.enter_async_context(OwnProcess(name, process))
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):
            await self._stack.aclose()

    async def run(self, begun_s: float) -> None:
        """Until all are over. `begun_s`: the run's beginning by `time.perf_counter`."""
        self._begun_s = begun_s
        async with trio.open_nursery() as nursery:
            for place, fault in enumerate(self._scenario.faults):
                nursery.start_soon(self._carry_out, place, fault)

    async def _carry_out(self, place: int, fault: FaultSettings) -> None:
        await trio.sleep(max(0.0, fault.at - self._now()))
        begin_s = self._now()
        outcome = "ended with the run"
        try:
            outcome = await self._do(place, fault)
        except RunError as error:
            outcome = str(error)
        finally:
            self.records.append(FaultRecord(name_of(fault), fault.kind, begin_s, self._now(), outcome))
            self.records.sort(key=lambda record: record.begin_s)

    async def _do(self, place: int, fault: FaultSettings) -> str:
        match fault.kind:
            case "stall":
                return await self._stall(self._target(fault.process), float(fault.lasts or 0.0))
            case "kill":
                return _gone(fault, self._target(fault.process).send(signal.SIGKILL))
            case "restart":
                await self._own[fault.process].restart()
                return DONE
            case "proxy":
                proxy = self._proxies[fault.proxy]
                proxy.break_by(fault)
                await trio.sleep(float(fault.lasts or 0.0))
                await proxy.mend()
                return DONE
            case "reload":
                return await self._reload(fault, self._keys.get(place, ""))

    async def _stall(self, target: TargetProcess, lasts_s: float) -> str:
        is_there = target.send(signal.SIGSTOP)
        try:
            await trio.sleep(lasts_s)
        finally:
            is_there = target.send(signal.SIGCONT) and is_there
        return DONE if is_there else f"the process {target.name} was gone"

    async def _reload(self, fault: FaultSettings, key: str) -> str:
        try:
            status, body = await ask("POST", fault.url, key=key)
        except OSError as error:
            return f"{fault.url}: {error}"
        return DONE if status < 300 else f"the answer was {status}: {body[:_SHOWN]}"

    def _target(self, name: str) -> TargetProcess:
        """Raises RunError."""
        if name in self._own:
            target = self._own[name].target
            if target is None:
                raise RunError(f"the process {name} does not run")
            return target
        return self._targets[name]

    def _now(self) -> float:
        return time.perf_counter() - self._begun_s


def name_of(fault: FaultSettings) -> str:
    """As the report calls it."""
    if fault.name:
        return fault.name
    what = {"proxy": f"{fault.mode} {fault.proxy}", "reload": "reload"}.get(fault.kind, f"{fault.kind} {fault.process}")
    return f"{what}, {fault.lasts:g} s" if fault.lasts else what


def _gone(fault: FaultSettings, is_there: bool) -> str:
    return DONE if is_there else f"the process {fault.process} was gone"
