"""Faults of the ledger, of the clock, of the policy's file, and the end of the process that is announced."""

from typing import Any

import trio

from actors.kernel.actor import Reply
from actors.protocol.ledger import Flush
from tests.fault_table.case import Case, Fault
from tests.fault_table.engines import SAYS
from tests.fault_table.scene import SERVICE, TEXT_TOKENS, Scene
from tests.fault_table.seen import Seen

LEDGER, CLOCK, RELOAD, DRAIN = "ledger", "clock", "reload", "end of the process"
_BEFORE_S, _MIDWAY_S = 0.0, 0.45
"""In an answer of `TEXT_TOKENS` steps of 0.1 s."""


def locked(from_s: float, for_s: float) -> Fault:
    """Another process holds the file."""

    async def lock(here: Scene) -> None:
        await trio.sleep(from_s)
        here.struck()
        here.service.workers.lock()
        await trio.sleep(for_s)
        here.service.workers.unlock()

    return lock


def fails(from_s: float, times: int, what: str) -> Fault:
    """So many commits fail, from then on."""

    async def fail(here: Scene) -> None:
        await trio.sleep(from_s)
        here.struck()
        here.service.workers.ledger_errors += [what] * times
        here.service.service._ledger.put_nowait(Flush(Reply()))

    return fail


def clock_jumps(by_s: float) -> Fault:
    async def jump(here: Scene) -> None:
        await trio.sleep(_MIDWAY_S)
        here.struck()
        here.wall.offset_s += by_s

    return jump


def reloads(change: Any, *, refused: bool = False) -> Fault:
    """The policy's file is another while the answer runs."""

    async def reload(here: Scene) -> None:
        await trio.sleep(_MIDWAY_S)
        here.struck()
        file = here.folder / "service.toml"
        before = file.read_text()
        file.write_text(change(before))
        assert change(before) != before
        result = await here.service.service.admin.reload()
        assert (type(result).__name__ == "ReloadRefused") is refused, result

    return reload


def drains(within_s: float) -> Fault:
    """As SIGTERM does, and a second one with no time left."""

    async def drain(here: Scene) -> None:
        await trio.sleep(_MIDWAY_S)
        here.struck()
        with trio.CancelScope(shield=True):
            await here.service.service.drain(trio.current_time() + within_s)

    return drain


async def _comes_during_drain(here: Scene, case: Case) -> Seen:
    await here.service.service.drain(trio.current_time() + 1)
    here.struck()
    assert here.seen is not None
    return await here.ask(case.transport, case.body, seen=here.seen)


def case(group: str, what: str, fault: Fault, **more: Any) -> Case:
    return Case(group, what, fault, **{"scripts": SAYS, **more})


FULL = "database or disk is full"
DAY_S = 86_400.0
STOPS = SERVICE[SERVICE.index('[[routes]]\nname = "stops"') : SERVICE.index('[[routes]]\nname = "alone"')]
MACHINES = [
    case(LEDGER, "the file is locked for 1 s as the request comes", locked(_BEFORE_S, 1)),
    case(LEDGER, "the file is locked for 1 s as the request comes", locked(_BEFORE_S, 1), transport="whole"),
    case(LEDGER, "the file is locked for 60 s as the request comes", locked(_BEFORE_S, 60), settles_s=90.0),
    case(LEDGER, "the file is locked for 5 s midway", locked(_MIDWAY_S, 5)),
    case(LEDGER, "the disk is full for one commit as the request comes", fails(_BEFORE_S, 1, FULL)),
    case(LEDGER, "the disk is full for one commit midway", fails(_MIDWAY_S, 1, FULL)),
    case(LEDGER, "the disk is full for three commits midway", fails(_MIDWAY_S, 3, FULL)),
    case(LEDGER, "the disk fails for one commit midway", fails(_MIDWAY_S, 1, "disk I/O error"), transport="WebSocket"),
    case(CLOCK, "the time of day jumps by a day midway", clock_jumps(DAY_S)),
    case(CLOCK, "the time of day jumps back by a day midway", clock_jumps(-DAY_S)),
    case(
        RELOAD,
        "another ladder for its route midway",
        reloads(lambda text: text.replace('use = { ladder = "small-first" }', 'use = { ladder = "large-only" }')),
        reloads=True,
    ),
    case(
        RELOAD,
        "its route and its model are taken away midway",
        reloads(lambda text: text.replace("[models.stops]\n", "").replace(STOPS, "")),
        reloads=True,
        body={"model": "stops"},
    ),
    case(
        RELOAD,
        "a policy with errors midway",
        reloads(lambda text: text[: len(text) // 2], refused=True),
        reloads=True,
    ),
    case(DRAIN, "SIGTERM midway, and time enough", drains(30)),
    case(DRAIN, "SIGTERM midway, and 0.2 s of time", drains(0.2)),
    case(DRAIN, "SIGTERM midway, and 0.2 s of time", drains(0.2), transport="WebSocket"),
    case(DRAIN, "SIGTERM midway, and 0.2 s of time", drains(0.2), transport="whole"),
    case(DRAIN, "SIGTERM before the request", lambda _: None, client=_comes_during_drain),
]
assert TEXT_TOKENS > _MIDWAY_S / 0.1
