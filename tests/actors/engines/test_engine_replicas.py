"""Several replicas under one engine's name, through every actor."""

from itertools import count
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from actors.api.engine_status import EngineStatus, ReplicatedEngineStatus
from actors.api.request import TokenPrompt
from actors.api.response import Done
from engine.core.limits import EngineLimits
from engine.errors import EngineError
from engine.messages import EngineStats
from tests.actors.fakes import CONFIG, Answer, says, stage
from tests.actors.request.test_draft_verification import config as verified_config
from tests.actors.request.test_response_stream import TEXT, fails_at, outcomes

TWO = CONFIG.replace('model = "small"\n', 'model = "small"\nreplicas = 2\n')
ONLY_SMALL = TWO.replace('[[ladders.small-first]]\nto = "large"\nmark = "fallback"\n', "")
PROMPTS = [TokenPrompt(tuple(range(first, first + 40))) for first in (5, 105, 205)]


async def ask_all(service, count: int, *, own_seed: bool = False, **options) -> list[Answer]:
    answers: list[Answer] = []

    async def ask(seed: int | None) -> None:
        answers.append(await service.ask("small", seed=seed, **options))

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(ask, number if own_seed else None)
    return answers


def steps(service) -> list[int]:
    return [sum(runner.steps for runner in service.runners[title]) for title in ("small/0", "small/1")]


async def test_work_is_shared(autojump_clock):
    async with stage(settings=ONLY_SMALL) as service:
        answers = await ask_all(service, 6, max_tokens=9, ignore_eos=True)
        assert [len(answer.tokens()) for answer in answers] == [9] * 6
        assert steps(service) == [9, 9]
        statistics = service.service.statistics()
        assert statistics.engines["small"].generation_tokens_total == 54
        assert [view.stats.generation_tokens_total for view in statistics.replicas["small"]] == [27, 27]


async def test_places_are_those_of_all_replicas(autojump_clock):
    async with stage(settings=ONLY_SMALL) as service, trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(lambda: service.ask("small", max_tokens=20, ignore_eos=True))
        await trio.sleep(1)
        published = service.service.statistics().replicas["small"]
        # Four run in each, and one more is handed over ahead of its time.
        assert [(view.stats.running, view.stats.waiting) for view in published] == [(4, 1), (4, 1)]
        assert service.service.statistics().queues["small"].requests == 2
        assert service.service.statistics().queues["small"].inside == 10


async def test_a_prompt_goes_where_its_beginning_is(autojump_clock):
    async with stage(settings=ONLY_SMALL) as service:
        for prompt in (*PROMPTS, *PROMPTS):
            answer = await service.ask("small", prompts=(prompt,), max_tokens=2, ignore_eos=True)
            assert isinstance(answer.end, Done)
        # Two of three prompts were new to both: they took turns.
        hits = [view.stats.prefix_hits_total for view in service.service.statistics().replicas["small"]]
        assert sorted(hits) == [32, 64]


async def test_no_prefix_cache_no_affinity(autojump_clock):
    settings = ONLY_SMALL.replace("replicas = 2", "replicas = 2\nprefix_cache = false")
    async with stage(settings=settings) as service:
        for _ in range(4):
            await service.ask("small", prompts=(PROMPTS[0],), max_tokens=2, ignore_eos=True)
        assert steps(service) == [4, 4]


async def test_a_replica_that_fails_takes_nobody_with_it(autojump_clock):
    async with stage({"small": says(TEXT)}, settings=ONLY_SMALL) as service:
        service.on_step["small/0"] = fails_at(4)
        answers = await ask_all(service, 2, streamed=False)
        assert [answer.text() for answer in answers] == [TEXT] * 2
        # One of them began again, on the other replica.
        untouched, retried = sorted(outcomes(answer) for answer in answers)
        assert untouched == [("small", "answered", "asked_for")]
        assert [step[:2] for step in retried] == [("small", "failed"), ("small", "answered")]
        assert retried[0][2] == "device_lost"
        readiness = service.service.readiness()
        assert (readiness.ready, readiness.engines["small"].state) == (True, "ready")
        assert len(service.runners["small/1"]) == 1
        await wait_all_tasks_blocked()
        statistics = service.service.statistics()
        assert statistics.breakers["small"] == "closed"
        assert statistics.engine_restarts_total["small"] == 1
        assert [view.restarts_total for view in statistics.replicas["small"]] == [1, 0]


async def test_continue_goes_on_from_the_exact_tokens_on_another_replica(autojump_clock):
    settings = ONLY_SMALL.replace(
        'use = { ladder = "small-first" }', 'use = { ladder = "small-first" }\nmidstream = "continue"'
    )
    async with stage({"small": says(TEXT)}, settings=settings) as service:
        service.on_step["small/0"] = fails_at(4)
        answer = await service.ask("small")
        assert answer.text() == TEXT
        assert len(answer.tokens()) == len(set(enumerate(answer.tokens()))) == answer.end.usage.completion_tokens
        assert [each.outcome for each in answer.end.served.attempts] == ["failed", "answered"]
        assert steps(service)[0] == 4
        await trio.sleep(5)


async def test_a_replica_that_stalls_is_left_behind_alone(autojump_clock):
    settings = ONLY_SMALL.replace("30s", "3s")
    async with stage({"small": says(TEXT)}, settings=settings) as service:
        before, other = service.worker("small/0"), service.worker("small/1")
        before.hang = True
        answers = await ask_all(service, 2)
        assert [answer.text() for answer in answers] == [TEXT] * 2
        await trio.sleep(5)
        assert service.worker("small/0") is not before
        assert service.worker("small/1") is other


async def test_a_replica_that_never_comes_back_does_not_end_the_service(autojump_clock):
    async with stage({"small": says(TEXT)}, settings=ONLY_SMALL, clean=False) as service:

        def broken(number, batch) -> None:
            raise EngineError("device_lost", "the device fell off the bus")

        service.on_step["small/0"] = broken
        for _ in range(30):
            assert {answer.text() for answer in await ask_all(service, 2)} == {TEXT}
            await trio.sleep(5)
        assert service.service.statistics().replicas["small"][0].restarts_total > 10
        assert service.service.readiness().ready


async def test_with_all_of_them_down_answers_wait_for_the_first_that_is_up_again(autojump_clock):
    async with stage({"small": says(TEXT)}, settings=ONLY_SMALL) as service:
        service.on_step["small/0"] = fails_at(0)
        service.on_step["small/1"] = fails_at(0)
        # Else it would be one request that crashes two engines.
        answers = await ask_all(service, 4, own_seed=True)
        assert [answer.text() for answer in answers] == [TEXT] * 4
        assert {answer.end.served.attempts[0].outcome for answer in answers} == {"failed"}


async def test_all_of_them_down_for_good_is_an_engine_down(autojump_clock):
    async with stage({"small": says(TEXT)}, settings=ONLY_SMALL) as service:
        for title in ("small/0", "small/1"):
            service.load_error[title] = "the file is gone"
            service.on_step[title] = fails_at(0)
        refusals = [answer.refusal for answer in await ask_all(service, 4, own_seed=True)]
        assert {refusal.body.status for refusal in refusals} <= {503, 504}
        assert service.service.readiness().engines["small"].state != "ready"
        service.load_error.clear()
        await trio.sleep(700)
        assert (await service.ask("small")).text() == TEXT


async def test_what_waits_is_not_lost_with_one_replica(autojump_clock):
    async with stage({"small": says(TEXT)}, settings=ONLY_SMALL) as service:
        service.on_step["small/0"] = fails_at(3)
        answers = await ask_all(service, 14)
        assert sum(answer.refusal is None and answer.text() == TEXT for answer in answers) >= 9
        await trio.sleep(5)


async def test_readers_that_leave_free_their_own_replica(autojump_clock):
    async with stage(settings=ONLY_SMALL) as service:
        responses = [await service.open("small", ignore_eos=True) for _ in range(4)]
        for response in responses:
            await response.next_events()
        assert service.service.statistics().queues["small"].inside == 4
        for response in responses:
            response.close()
        await service.assert_clean()


@pytest.mark.parametrize("draft_tokens", [7, 64])
async def test_drafts_find_their_answer_among_replicas(autojump_clock, draft_tokens):
    settings = verified_config(draft_tokens=draft_tokens)
    for name in ("small", "large"):
        settings = settings.replace(
            f'[engines.{name}]\nmodel = "{name}"', f'[engines.{name}]\nmodel = "{name}"\nreplicas = 2'
        )
    async with stage({"small": says(TEXT), "large": says(TEXT)}, settings=settings) as service:
        for number in (0, 1):
            service.worker(f"small/{number}").step_s = 0.005
        answers: list[Answer] = []

        async def ask() -> None:
            answers.append(await service.ask("checked"))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
        for answer in answers:
            assert answer.text() == TEXT
            assert answer.end.served.why == "verified"
            assert answer.end.served.accepted_tokens > 5


def test_statuses_of_replicas_read_as_one() -> None:
    first, second = all_published = [EngineStatus("small", number, f"small/{number}") for number in range(2)]
    both = ReplicatedEngineStatus("small", all_published)
    assert (both.state, both.limits, both.stats, both.batch) == ("loading", None, None, 0)
    first.state, first.why = "failed", "gone"
    assert (both.state, both.why) == ("loading", "small/0 failed: gone; small/1 loading: None")
    second.state, second.limits, second.inside, second.restarts = "ready", EngineLimits(10, 64, 64), 3, 2
    second.stats = EngineStats(9, 8, 0, 1, 0, 5, steps_total=4)
    assert (both.state, both.why) == ("ready", "small/0 failed: gone")
    assert (both.limits, both.stats, both.inside, both.batch, both.restarts) == (second.limits, second.stats, 3, 3, 2)
    first.state, first.limits, first.stats, first.inside = "ready", EngineLimits(10, 32, 64), second.stats, 1
    assert both.stats == EngineStats(18, 16, 0, 2, 0, 10, steps_total=8)
    assert both.limits is not None
    assert (both.limits.max_model_len, both.inside, both.batch, both.why) == (32, 4, 1, None)


async def test_a_replica_that_is_alive_and_slow_is_avoided_and_comes_back(autojump_clock):
    async with stage(settings=ONLY_SMALL) as service:
        ticks = count()
        service.clocks |= {"small/0": lambda: next(ticks) * 0.001, "small/1": lambda: next(ticks) * 1.0}

        async def work(times: int) -> list[int]:
            before = steps(service)
            for _ in range(times):
                await service.ask("small", max_tokens=6, ignore_eos=True)
            return [after - each for after, each in zip(steps(service), before, strict=True)]

        ejected: list[dict[str, Any]] = []
        with capture_logs() as logs:
            while not ejected:
                await work(1)
                ejected = [line for line in logs if line["event"] == "engine_replica_ejected"]
        [ejection] = ejected
        assert (ejection["engine"], ejection["replica"], ejection["for_s"]) == ("small", 1, 5.0)
        assert (await work(4))[1] == 0
        assert [view.ejected_total for view in service.service.statistics().replicas["small"]] == [0, 1]
        del service.clocks["small/1"]
        await trio.sleep(5)
        assert (await work(4))[1] > 0
