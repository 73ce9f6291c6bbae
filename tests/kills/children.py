"""Kills of an engine's process by SIGKILL, in a real gateway, while answers of all kinds run on it."""

import os
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import trio

from tests.e2e.conftest import write_model
from tests.e2e.process import GatewayProcess
from tests.e2e.test_adapters_live import write_adapter
from tests.e2e.test_hosted_engine import child_of
from tests.fault_table.processes import SETTINGS, STATES, ask_process, body_of, hosted_is_ready
from tests.fault_table.seen import TRANSPORTS, Seen
from tests.kills.rounds import RoundReport
from tests.patience import PATIENCE_S

NAMES = [name for name in STATES if name not in {"a LoRA adapter", "a cascade, in mid-verification"}]
"""What one engine answers alone."""


def kill_children(seed: int, count: int) -> RoundReport:
    """So many kills, one after the other."""
    report = RoundReport()
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        folder = Path(name)
        write_model(folder / "small", 1)
        shutil.copytree(folder / "small", folder / "large")
        write_adapter(folder / "small", folder / "legal", 1)
        (folder / "config.toml").write_text(SETTINGS)
        process = GatewayProcess("--config", str(folder / "config.toml"), log=folder / "log")
        try:
            uncut = trio.run(_uncut, process)
            for number in range(count):
                trio.run(_kill, process, uncut, Random(f"{seed} {number}"), report)
        finally:
            process.end()
    return report


def _body(name: str) -> dict[str, Any]:
    return {**body_of(name), "model": "hosted"}


async def _uncut(process: GatewayProcess) -> Mapping[str, Seen]:
    found = {name: Seen("whole") for name in NAMES}
    for name, seen in found.items():
        await ask_process(process.port, "whole", _body(name), seen)
        assert seen.done, (name, seen.error)
    return found


async def _kill(process: GatewayProcess, uncut: Mapping[str, Seen], chance: Random, report: RoundReport) -> None:
    sent = [(name, Seen(chance.choice(TRANSPORTS))) for name in chance.sample(NAMES, 4)]
    pieces = chance.randint(1, 60)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for name, seen in sent:
                nursery.start_soon(ask_process, process.port, seen.transport, _body(name), seen)
            while sum(each.pieces for _, each in sent) < pieces and not all(each.ended for _, each in sent):  # noqa: ASYNC110
                await trio.sleep(0.002)
            child = child_of(process)
            if child and not all(seen.ended for _, seen in sent):
                os.kill(child, signal.SIGKILL)
                report.kills["engine's process"] += 1
        while not hosted_is_ready(process):  # noqa: ASYNC110
            await trio.sleep(0.05)
    for name, seen in sent:
        report.ends["whole" if seen.done else "true error" if seen.error else "lost"] += 1
        if seen.lost or seen.ended != 1:
            report.faults.append(f"{name} ({seen.transport}): its end was lost or doubled")
        if seen.done and seen.content() != uncut[name].content():
            report.faults.append(f"{name} ({seen.transport}): another answer than without the kill")
        for index, choice in seen.choices.items():
            if not uncut[name].choices[index].text.startswith(choice.text):
                report.faults.append(f"{name} ({seen.transport}): not the beginning of the answer without the kill")
