"""Faults of engines: they come between two steps, by the runner, and what was running on the engine is lost."""

from collections.abc import Callable
from typing import Any

import trio

from engine.errors import EngineError
from tests.actors.fakes import says
from tests.fault_table.case import Case, Fault
from tests.fault_table.scene import PROMPT_TOKENS, SERVICE, TEXT, TEXT_TOKENS, Scene
from tests.fault_table.seen import Seen

GROUP = "engine"
SAYS = {name: says(TEXT, prompt=PROMPT_TOKENS) for name in ("small", "large")}
SEEDED = {"temperature": 1, "seed": 7, "max_tokens": 12, "ignore_eos": True}
SHORT_LOAD = SERVICE.replace('model = "small"\nmax_running', 'model = "small"\nload_stall = "40s"\nmax_running')
SHORT_STALL = SERVICE.replace('stall = "30s"', 'stall = "5s"')
ASKED = {
    "small": "another engine is next",
    "alone": "nothing is next, so it waits for the restart",
    "stops": 'another engine is next, `midstream = "error"`',
}


def lost() -> None:
    raise EngineError("device_lost", "the device fell off the bus")


def no_memory() -> None:
    raise MemoryError


def defect() -> None:
    raise AttributeError("'NoneType' object has no attribute 'shape'")


def at_step(step: int, what: Callable[[], None] = lost, *, times: int = 1, engine: str = "small") -> Fault:
    return lambda here: here.on_step(engine, step, what, times=times)


def hangs(step: int) -> Fault:
    """A step does not return."""

    def arm(here: Scene) -> None:
        worker = here.service.worker("small")

        def hang(number: int, batch: Any) -> None:
            if number == first:
                worker.hang = True
                here.struck()

        first = here.service.runners["small"][-1].steps + step - 1
        if step:
            here.service.on_step["small"] = hang
        else:
            worker.hang = True
            here.struck()

    return arm


def _every_step_dies(here: Scene) -> None:
    """From the fourth on, and in each life of the engine."""

    def die(number: int, batch: Any) -> None:
        if here.struck_at is not None or number >= first:
            here.struck()
            lost()

    first = here.service.runners["small"][-1].steps + 3
    here.service.on_step["small"] = here.service.on_step["large"] = die


async def _asks_when_marked_down(here: Scene, case: Case) -> Seen:
    """Other requests, each of its own content, have crashed it more often than it may be restarted."""
    here.service.on_step["small"] = lambda *_: lost()
    for seed in range(8):
        await here.ask("whole", {"model": "alone", "seed": seed, "max_tokens": 4})
    here.struck()
    assert here.seen is not None
    return await here.ask(case.transport, case.body, seen=here.seen)


def hangs_in_loading(here: Scene) -> None:
    """It dies, and what is started in its place does not finish to load."""

    def die() -> None:
        here.service.workers.load_s = 1e6
        lost()

    here.on_step("small", 3, die)


def _hung_load(here: Scene) -> Any:
    hangs_in_loading(here)

    async def loads_again() -> None:
        await trio.sleep(20)
        here.service.workers.load_s = 0.0

    return loads_again()


def _both_die(here: Scene) -> None:
    """The engine that goes on dies at its first step."""
    here.on_step("small", 3, lost)
    here.service.on_step["large"] = lambda *_: lost()


def case(what: str, fault: Fault, model: str = "small", **more: Any) -> Case:
    given = {"asked": ASKED.get(model, ""), "body": {"model": model}, "scripts": SAYS, **more}
    return Case(GROUP, what, fault, **given)


ENGINES = [
    case("dies before the first token", at_step(0)),
    case("dies before the first token", at_step(0), "alone"),
    case("dies before the first token", at_step(0), "stops"),
    case("dies at the first token", at_step(1)),
    case("dies after 3 tokens", at_step(3)),
    case("dies after 3 tokens", at_step(3), transport="WebSocket"),
    case("dies after 3 tokens", at_step(3), transport="whole"),
    case("dies after 3 tokens", at_step(3), "alone"),
    case("dies after 3 tokens", at_step(3), "stops"),
    case("dies after 3 tokens", at_step(3), "stops", transport="WebSocket"),
    case("dies after 3 tokens", at_step(3), "stops", transport="whole"),
    case("dies at the last token", at_step(TEXT_TOKENS - 1)),
    case("dies after the answer", at_step(TEXT_TOKENS)),
    case("dies of a defect after 3 tokens", at_step(3, defect)),
    case("out of memory at the first step", at_step(0, no_memory)),
    case("out of memory at step 4", at_step(3, no_memory)),
    case("out of memory at step 4", at_step(3, no_memory), "alone", transport="whole"),
    case("a step hangs before the first token, `stall` is as long as `ttft`", hangs(0), settles_s=90.0),
    case("a step hangs before the first token, `stall` is 5 s", hangs(0), settings=SHORT_STALL, settles_s=90.0),
    case(
        "a step hangs before the first token, `stall` is 5 s", hangs(0), "alone", settings=SHORT_STALL, settles_s=90.0
    ),
    case("a step hangs before the first token, `stall` is as long as `ttft`", hangs(0), "alone", settles_s=90.0),
    case("a step hangs after 3 tokens", hangs(3), settles_s=90.0),
    case("a step hangs after 3 tokens, `stall` is 5 s", hangs(3), "alone", settings=SHORT_STALL, settles_s=90.0),
    case("a step hangs after 3 tokens", hangs(3), "alone", settles_s=90.0),
    case("a step hangs after 3 tokens", hangs(3), "stops", settles_s=90.0),
    case("dies after 3 tokens, and its restart hangs in loading", _hung_load, settings=SHORT_LOAD, settles_s=120.0),
    case(
        "dies after 3 tokens, and its restart hangs in loading",
        _hung_load,
        "alone",
        settings=SHORT_LOAD,
        settles_s=120.0,
    ),
    case("both engines die, one after the other", _both_die),
    case("both engines die, one after the other", _both_die, transport="whole"),
    case("every engine dies of this request, from its fourth step on", _every_step_dies, settles_s=90.0),
    case("every engine dies of this request, from its fourth step on", _every_step_dies, "alone", settles_s=90.0),
    case(
        "is marked down after several crashes",
        lambda _: None,
        "alone",
        client=_asks_when_marked_down,
        settles_s=700.0,
        asked="nothing is next",
    ),
    case("is marked down after several crashes", lambda _: None, client=_asks_when_marked_down, settles_s=700.0),
    case(
        "dies after 3 tokens",
        at_step(3),
        asked="another engine is next, seeded",
        scripts={},
        body={"model": "small", **SEEDED},
    ),
]
