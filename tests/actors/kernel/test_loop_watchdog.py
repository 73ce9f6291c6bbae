"""A loop that hangs is noticed by a thread, and one that runs is left alone."""

import json
import subprocess
import sys
from queue import SimpleQueue
from threading import Event

import pytest
import trio

from actors.kernel.errors import EXIT_STALLED
from actors.kernel.loop_watchdog import LoopWatchdog, _watch
from actors.kernel.thread_bridge import stacks
from tests.paths import ROOT
from tests.patience import PATIENCE_S

HANGS = """
import time, trio
from actors.kernel.loop_watchdog import LoopWatchdog

def a_function_that_never_returns():
    while True:
        time.sleep(0.01)

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(LoopWatchdog(0.3).run)
        await trio.sleep(0.05)
        a_function_that_never_returns()

trio.run(main)
"""


async def test_a_loop_that_hangs_is_reported_once() -> None:
    hung, reported = Event(), []

    def on_hung(deadline_s: float) -> None:
        reported.append(deadline_s)
        hung.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(LoopWatchdog(0.05, on_hung).run)
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        assert hung.wait(PATIENCE_S)  # this blocks the loop
        nursery.cancel_scope.cancel()
    assert reported == [0.05]


@pytest.mark.parametrize(("beats", "hangs"), [([True] * 30 + [False], False), ([False], False), ([True], True)])
def test_it_counts_looks_in_vain(beats: list[bool], hangs: bool) -> None:
    inbox: SimpleQueue[bool] = SimpleQueue()
    for beat in beats:
        inbox.put(beat)
    hung: list[bool] = []
    _watch(0.001, lambda: hung.append(True), inbox, lambda _: None)
    assert bool(hung) == hangs


async def test_it_can_be_switched_off() -> None:
    await LoopWatchdog(0.0).run()


def test_the_process_ends_with_its_own_code_and_says_where_it_hung() -> None:
    process = subprocess.run(
        [sys.executable, "-c", HANGS], cwd=ROOT, stderr=subprocess.PIPE, timeout=PATIENCE_S, check=False
    )
    assert process.returncode == EXIT_STALLED
    first, rest = process.stderr.split(b"\n", 1)
    assert json.loads(first) == {
        "event": "no_progress",
        "level": "critical",
        "what": "event loop",
        "deadline_s": 0.3,
    }
    assert b"a_function_that_never_returns" in rest


def test_stacks_name_threads_and_functions() -> None:
    text = stacks()
    assert "MainThread:" in text
    assert "test_stacks_name_threads_and_functions" in text
