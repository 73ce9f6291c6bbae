"""Whatever breaks: every block is free afterwards, every reservation settled, every line closed."""

from random import Random

import pytest
import trio
from msgspec import structs
from structlog.testing import capture_logs

from actors.api.errors import Refusal
from actors.api.request import Principal, TokenPrompt
from actors.api.response import Done, Failed
from actors.kernel.actor import Reply
from actors.kernel.errors import ActorDied
from actors.protocol.admission import Reserve
from engine.errors import EngineError
from tests.actors.fakes import CONFIG, says, stage

BUSY = CONFIG.replace('stall = "30s"', 'stall = "5s"').replace(
    '[[routes]]\nname = "small"', '[retry_budget]\nat_least = 100\n[[routes]]\nname = "small"'
)


async def test_an_actor_that_dies_answers_its_message_in_hand_and_comes_back(autojump_clock):
    async with stage({"small": says("ok")}) as service:
        reply: Reply = Reply()
        # No number of tokens: the quota book raises, and admission dies of it.
        service.service._admission.put_nowait(Reserve("anonymous", "many", 0.0, reply))
        with pytest.raises(ActorDied):
            await reply.wait()
        assert (await service.ask("small")).text() == "ok"
        assert service.restarts["admission"] == 1


async def test_an_offer_lost_with_dispatch_is_reported_to_its_reader(autojump_clock):
    async with stage({"small": says("ok")}) as service:
        running = await service.open("small", ignore_eos=True)
        await running.next_events()
        lost = await service.open("small")
        lost._attempt_factory = structs.replace(
            lost._attempt_factory, principal=Principal("nobody", ["no name"], "default", 0, b"")
        )
        refusal = (await service.read(lost)).refusal
        assert refusal.body.status == 503
        assert "actor_died" in refusal.body.message
        await running.next_events()
        running.close()
        assert service.restarts["dispatch"] == 2


async def test_an_offer_without_a_line_is_refused_and_costs_nobody_else_anything(autojump_clock):
    async with stage({"small": says("ok")}) as service:
        lost = await service.open("small")
        lost._attempt_factory = structs.replace(
            lost._attempt_factory, principal=Principal("gone", "gone in low", "low", 0, b"")
        )
        refusal = (await service.read(lost)).refusal
        assert "line_gone" in refusal.body.message
        assert service.restarts["dispatch"] == 0


async def test_offers_wait_for_a_dispatch_that_is_being_restarted(autojump_clock):
    async with stage({"small": says("ok")}) as service:
        broken = await service.open("small")
        broken._attempt_factory = structs.replace(
            broken._attempt_factory, principal=Principal("nobody", ["no name"], "default", 0, b"")
        )
        answers = []

        async def ask() -> None:
            answers.append(await service.ask("small"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.read, broken)
            nursery.start_soon(ask)
        assert answers[0].text() == "ok"


@pytest.mark.sample(3)
@pytest.mark.parametrize("seed", range(6))
async def test_a_storm(autojump_clock, seed):
    """Many readers, some slow, some leaving, while engines fail and stall: nothing hangs and nothing is left."""
    chance = Random(seed)
    text = "the quick brown fox jumps over the lazy dog"
    scripts = {"small": says(text, {6: 0.2} if seed % 2 else {}), "large": says(text)}
    async with stage(scripts, settings=BUSY, step_s=0.05) as service:
        failures = iter(range(3))

        def sometimes_fails(number, batch) -> None:
            if number and chance.random() < 0.01 and next(failures, None) is not None:
                raise EngineError("device_lost", "the device fell off the bus")

        service.on_step = {"small": sometimes_fails, "large": sometimes_fails}
        ends: list[str] = []

        async def reader() -> None:
            await trio.sleep(chance.random() * 60)
            model = chance.choice(["small", "large", "both", "whole"])
            patience = chance.choice([0.3, 2.0, 1000.0])
            pause = chance.choice([0.0, 0.0, 0.5])
            last: object = None
            with trio.move_on_after(patience):
                try:
                    response = await service.open(model, streamed=chance.random() < 0.7, n=chance.choice([1, 1, 3]))
                except Refusal:
                    ends.append("refused")
                    return
                try:
                    while events := await response.next_events():
                        last = events[-1]
                        await trio.sleep(pause)
                except Refusal as refusal:
                    last = refusal
                finally:
                    response.close()
            ends.append("left" if not isinstance(last, Done | Failed | Refusal) else type(last).__name__)

        async def stalls() -> None:
            for _ in range(2):
                await trio.sleep(20)
                worker = service.worker(chance.choice(["small", "large"]))
                worker.hang = True
                await trio.sleep(8)
                worker.hang = False

        with trio.fail_after(3000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stalls)
                for _ in range(120):
                    nursery.start_soon(reader)
        assert len(ends) == 120
        assert ends.count("Done") > 30
        service.on_step.clear()
        await trio.sleep(60)
        # Another prompt: the readers' own may be quarantined, if two of three failures came while it ran.
        assert (await service.ask("large", prompts=(TokenPrompt((9, 9, 9, 9)),))).text() == text
        assert sum(service.service.statistics().requests_total.values()) + ends.count("refused") >= 121


async def test_a_load_without_progress_is_a_stall(autojump_clock):
    """A restart that hangs in loading is given up, and the next one serves."""
    text = CONFIG.replace('model = "small"\nmax_running', 'model = "small"\nload_stall = "40s"\nmax_running')
    async with stage({"small": says("ok"), "large": says("ok")}, settings=text) as service:

        def fails(number, batch) -> None:
            raise EngineError("device_lost", "the device fell off the bus")

        service.on_step["small"] = fails
        service.workers.load_s = 1e6
        with capture_logs() as logs:
            await service.ask("small")
            await trio.sleep(39)
            service.workers.load_s = 0.0
            del service.on_step["small"]
            await trio.sleep(45)
            (stall,) = [each for each in logs if each["event"] == "no_progress"]
            assert (stall["what"], stall["deadline_s"]) == ("engine small", 40.0)
            assert any("engine_load_stalled" in str(each) or "no progress in loading" in str(each) for each in logs)
        assert (await service.ask("small")).text() == "ok"
