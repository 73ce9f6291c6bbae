"""Every way in which a request can end, each as a function of a `World`; what the client was told comes back."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import trio

from actors.api.request import EmbeddingParams, TokenPrompt
from actors.kernel.actor import Reply
from actors.kernel.errors import MailboxFull
from actors.protocol.admission import Settle
from actors.protocol.ledger import Flush
from engine.errors import EngineError
from engine.scheduling.batch import SampleRow
from tests.actors.books.world import BOB, LONG, Told, World, told
from tests.actors.fakes import PROMPT, Answer, says
from tests.actors.upstream.network import Asked, Server

WayOut = Callable[[World], Awaitable[Told]]


def asks(model: str = "small", **options: Any) -> WayOut:
    """One request, read to its end."""
    return partial(World.told, model=model, **options)


async def twice(world: World, **options: Any) -> Told:
    """The second one finds the first one's prompt in the cache."""
    given = {"prompt": LONG, **options}
    await world.ask("small", **given)
    return await world.told("small", **given)


INPUTS = {"prompts": (TokenPrompt((5, 6)), TokenPrompt((7, 8, 9))), "streamed": False, "max_tokens": 0}


async def embedded(world: World, *inputs: tuple[int, ...]) -> Told:
    given = {"prompts": tuple(TokenPrompt(each) for each in inputs)} if inputs else {}
    return await world.told("encoder", embedding=EmbeddingParams(), **{**INPUTS, **given})


# --- refused ------------------------------------------------------------------------------------------------------


async def embedding_too_long(world: World) -> Told:
    return await embedded(world, tuple(range(5, 100)))


async def beside_another(world: World, model: str) -> Told:
    """The other one, which leaves before it begins, has its reservation."""
    response = await world.open(model)
    refused = await world.told(model)
    response.close()
    return refused


async def after_another(world: World) -> Told:
    await world.ask()
    return await world.told()


async def queue_full(world: World) -> Told:
    async with world.bob_fills("large", waiting=8):
        return await world.told("large")


async def displaced(world: World) -> Told:
    """Bob, whose share is larger by his weight, takes the place where alice waits."""

    async def comes_later() -> None:
        await trio.sleep(0.1)
        response = await world.open("large", api_key=BOB.raw, ignore_eos=True, max_tokens=300)
        await world.service.read(response)

    async with world.bob_fills("large", waiting=7), trio.open_nursery() as nursery:
        nursery.start_soon(comes_later)
        heard = await world.told("large")
        nursery.cancel_scope.cancel()
    return heard


async def queue_timeout(world: World) -> Told:
    async with world.bob_fills("large"):
        return await world.told("large")


async def breaker_open(world: World) -> Told:
    """With BREAKER in the settings."""
    world.service.worker("large").step_s = 5
    for _ in range(2):
        await world.ask("large", api_key=BOB.raw)
    world.service.worker("large").step_s = 0.1
    await trio.sleep(10)
    assert world.service.service.statistics().breakers["large"] == "open"
    return await world.told("large")


async def ledger_busy(world: World) -> Told:
    """Its writer has failed and is not back yet, and its mailbox is full."""
    service = world.service.service
    world.service.workers.ledger_errors.append("disk I/O error")
    service._ledger.put_nowait(Flush(Reply()))
    while not service._supervisor.restarts["ledger"]:  # noqa: ASYNC110
        await trio.sleep(0.001)
    with suppress(MailboxFull):
        while True:
            service._ledger.put_nowait(Flush(Reply()))
    return await world.told()


async def ledger_locked(world: World, **options: Any) -> Told:
    world.service.workers.lock()
    refused = await world.told(**options)
    world.service.workers.unlock()
    return refused


async def admission_is_down(world: World) -> Told:
    """It has died of another message, twice, and is not back yet: what is asked meanwhile waits for it."""
    world.service.service._admission.put_unbounded(Settle(None, None))  # type: ignore[arg-type]
    said = await world.told()
    assert world.service.restarts["admission"] == 2
    return said


async def cancelled_while_admission_decides(world: World) -> Told:
    with trio.CancelScope() as scope:
        scope.cancel()
        world.service.wake_admission()
        await world.open()
    assert scope.cancelled_caught
    return "cancelled"


def wrong_each(places: int, text: str) -> Callable[[SampleRow], tuple[int, float]]:
    """A script that says the text, but each so many tokens something else."""
    right = says(text)

    def script(sample: SampleRow) -> tuple[int, float]:
        token_id, margin = right(sample)
        return (300 if (sample.position - len(PROMPT)) % places == places - 1 else token_id), margin

    return script


async def verified_beside_another(world: World) -> Told:
    """With an engine that is too busy for drafts."""
    response = await world.open("large", api_key=BOB.raw)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.service.read, response)
        await trio.sleep(0.25)
        return await world.told("checked")


# --- left ---------------------------------------------------------------------------------------------------------


async def left_unread(world: World) -> Told:
    (await world.open()).close()
    return "left"


async def left_in_queue(world: World) -> Told:
    async with world.bob_fills("large"):
        return await left_after(world, 0.5, "large")


async def left_after(world: World, seconds: float, model: str = "small", **options: Any) -> Told:
    with trio.move_on_after(seconds) as scope:
        await world.ask(model, **options)
    assert scope.cancelled_caught
    return "left"


async def left_in_prefill(world: World, model: str = "small", **options: Any) -> Told:
    """Its engine has begun and said nothing yet."""
    world.service.worker(model).step_s = 5.0
    left = await left_after(world, 1.0, model, **options)
    world.service.worker(model).step_s = 0.1
    await trio.sleep(6)
    return left


async def left_while_drafting(world: World) -> Told:
    """Of a verified answer: the large engine has not begun."""
    left = await left_after(world, 0.25, "checked")
    assert world.service.runners["large"][0].steps == 0
    return left


async def left_while_verifying(world: World) -> Told:
    """Of a verified answer: the large engine is at its first step, and the small one has drafted all."""
    world.service.worker("large").step_s = 5.0
    left = await left_after(world, 2.0, "checked")
    world.service.worker("large").step_s = 0.1
    await trio.sleep(6)
    return left


async def left_before_it_was_written(world: World, **options: Any) -> Told:
    """The answer is made, and its line is not in the ledger's file yet."""
    world.service.workers.lock()
    left = await left_after(world, 1.5, **options)
    world.service.workers.unlock()
    return left


async def left_embedding(world: World) -> Told:
    return await left_in_prefill(world, "encoder", embedding=EmbeddingParams(), **INPUTS)


async def left_behind(world: World) -> Told:
    """The reader takes one piece, and leaves when four more wait for it."""
    response = await world.open()
    await response.next_events()
    await trio.sleep(0.45)
    response.close()
    return "left"


async def left_after_events(world: World, events: int, model: str = "small", **options: Any) -> Told:
    """The reader takes so many pieces and leaves in the same breath."""
    response = await world.open(model, **options)
    for _ in range(events):
        await response.next_events()
    response.close()
    return "left"


# --- failed, retried, failed over -----------------------------------------------------------------------------------


def fails(step: int = 0, times: int = 1) -> Callable[[int, Any], None]:
    """An engine that fails at this step and later, so many times."""
    left = [times]

    def on_step(number: int, batch: Any) -> None:
        if number >= step and left[0]:
            left[0] -= 1
            raise EngineError("device_lost", "the device fell off the bus")

    return on_step


async def failing(
    world: World, engine: str, step: int, model: str = "small", *, for_good: bool = False, **options: Any
) -> Told:
    """`for_good`: it cannot be loaded again."""
    world.service.on_step[engine] = fails(step)
    if for_good:
        world.service.load_error[engine] = "the file is gone"
    return await world.told(model, **options)


async def stalled(world: World) -> Told:
    """Its engine says nothing for a while in the midst of the answer."""
    response = await world.open()
    answer = Answer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.service.read, response, answer)
        await trio.sleep(0.35)
        world.service.worker("small").hang = True
        await trio.sleep(5)
        world.service.worker("small").hang = False
        world.service.worker("small").send(None)  # anything wakes it
    return told(answer)


def server_fails_first(*texts: str) -> Server:
    """503 to the first request; the second one is answered."""
    asked_before: list[Asked] = []

    async def serve(asked: Asked) -> None:
        asked_before.append(asked)
        if len(asked_before) == 1:
            await asked.status(503)
            return
        await asked.say(*texts)
        await asked.end(completion=len(texts))

    return serve


async def breaks_off(asked: Asked) -> None:
    """Some words, and the connection is gone."""
    await asked.say("Hel", "lo")
    await asked.stream.aclose()


# --- cut, drained, crashed ------------------------------------------------------------------------------------------


async def cut(world: World, *, after_s: float, **options: Any) -> Told:
    response = await world.open(**options)
    answer = Answer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.service.read, response, answer)
        await trio.sleep(after_s)
        response.cut("shutting_down", "The server is shutting down.")
    return told(answer)


async def drained(world: World, *, within_s: float, **options: Any) -> Told:
    """It runs when the service begins to drain; it ends, or is cut at the deadline."""
    response = await world.open(**options)
    answer = Answer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.service.read, response, answer)
        await trio.sleep(0.25)
        await world.service.service.drain(trio.current_time() + within_s)
    return told(answer)


async def drained_in_time(world: World) -> Told:
    return await drained(world, within_s=5)


async def too_late(world: World) -> Told:
    nothing_runs = trio.current_time() + 1
    await world.service.service.drain(nothing_runs)
    return await world.told()


async def slow_reader(world: World) -> Told:
    """It takes one piece, and comes back when more than its slot may hold was made."""
    response = await world.open("small", ignore_eos=True, max_tokens=100)
    answer = Answer(list(await response.next_events()))
    await trio.sleep(12)
    return told(await world.service.read(response, answer))


async def writer_restarted(world: World) -> Told:
    """The ledger's writer fails and is replaced while a request runs."""
    world.service.workers.ledger_errors.append("disk I/O error")
    said = await world.told()
    await trio.sleep(1)
    assert world.service.restarts["ledger"] == 1
    return said


async def writer_restarted_later(world: World) -> Told:
    """The writer fails after the money of an earlier request stands in its file."""
    said = await world.told()
    await world.service.assert_clean()
    world.service.workers.ledger_errors.append("disk I/O error")
    world.service.service._ledger.put_nowait(Flush(Reply()))
    await trio.sleep(1)
    assert world.service.restarts["ledger"] == 1
    return said
