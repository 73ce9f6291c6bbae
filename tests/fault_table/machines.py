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


def unwritable(from_s: float, for_s: float, why: str = "") -> Fault:
    """The file takes nothing; `why` empty: another process has locked it."""

    async def fail(here: Scene) -> None:
        workers = here.service.workers
        await trio.sleep(from_s)
        here.struck()
        workers.lock(why)
        here.service.service._ledger.put_nowait(Flush(Reply()))
        with trio.CancelScope(shield=True):
            await trio.sleep(for_s)
            workers.unlock()

    return fail


def thread_fails(from_s: float, times: int, what: str) -> Fault:
    """The ledger's thread ends, so many times."""

    async def fail(here: Scene) -> None:
        await trio.sleep(from_s)
        here.struck()
        here.service.workers.ledger_errors += [what] * times
        here.service.service._ledger.put_nowait(Flush(Reply()))

    return fail


async def _comes_later(here: Scene, case: Case) -> Seen:
    """The file has failed for five seconds."""
    await trio.sleep(5)
    assert here.seen is not None
    return await here.ask(case.transport, case.body, seen=here.seen)


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
REFUSES = {"asked": '`on_failure = "refuse"`', "settles_s": 90.0}
CONTINUES = {
    "asked": '`on_failure = "continue"`',
    "settles_s": 90.0,
    "settings": SERVICE.replace('path = ":memory:"', 'path = ":memory:"\non_failure = "continue"'),
}
MACHINES = [
    case(LEDGER, "locked for 1 s as the request comes", unwritable(_BEFORE_S, 1)),
    case(LEDGER, "locked for 1 s as the request comes", unwritable(_BEFORE_S, 1), transport="whole"),
    case(LEDGER, "locked for 60 s as the request comes", unwritable(_BEFORE_S, 60), **REFUSES),
    case(LEDGER, "locked for 60 s as the request comes", unwritable(_BEFORE_S, 60), **CONTINUES),
    case(LEDGER, "locked for 5 s midway", unwritable(_MIDWAY_S, 5)),
    *[
        case(LEDGER, f"{what} {when}", unwritable(at_s, 60, error), **how, **more)
        for what, error in (("full disk", FULL), ("read-only file", "attempt to write a readonly database"))
        for when, at_s, more in (
            ("as the request comes", _BEFORE_S, {}),
            ("for 5 s when the request comes", _BEFORE_S, {"client": _comes_later}),
            ("midway", _MIDWAY_S, {}),
        )
        for how in (REFUSES, CONTINUES)
    ],
    case(LEDGER, "full disk for 0.2 s as the request comes", unwritable(_BEFORE_S, 0.2, FULL), **CONTINUES),
    case(LEDGER, "full disk midway", unwritable(_MIDWAY_S, 60, FULL), transport="WebSocket", settles_s=90.0),
    case(LEDGER, "its thread ends midway", thread_fails(_MIDWAY_S, 1, "NOT NULL constraint failed")),
    case(LEDGER, "its thread ends three times midway", thread_fails(_MIDWAY_S, 3, "NOT NULL constraint failed")),
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
