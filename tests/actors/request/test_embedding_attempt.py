"""Embeddings behind the edge: the same service, queue, quotas, breakers, ledger and drain as for answers in text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from actors.api.engine_status import replica_titles
from actors.api.errors import EngineLoadFailed, Refusal
from actors.api.request import EmbeddingParams, TextPrompt, TokenPrompt
from actors.api.response import Delta, Done
from actors.service import Service
from engine.model.vectors import EmbeddingSizes
from engine.testing.fake_encoder import FakeEncoder
from tests.actors.fakes import Answer, Stage, model_text, settings_of, stage

CONFIG = """
schema = 1
[ledger]
path = ":memory:"
[engines.mini]
model = "mini"
max_running = 4
max_step_tokens = 32
stall = "5s"
[engines.spare]
model = "mini"
stall = "5s"
[engines.twin]
model = "mini"
replicas = 2
max_running = 2
[engines.other]
model = "another"
[engines.small]
model = "small"
[engines.large]
model = "large"
[models.mini]
[models.sure]
[models.small]
[models.both]
[models.odd]
[models.twin]
[models.mixed]
[tiers.default]
priority = 3
queue = { wait = "20s", requests = 4, tokens = 400 }
[tenants.anonymous]
tokens = { per_minute = 1000 }
[prices.mini]
input = 2.0
output = 7.0
[[routes]]
name = "mini"
when = { model = ["mini"] }
use = { ladder = "mini" }
[[routes]]
name = "sure"
when = { model = ["sure"] }
use = { ladder = "sure" }
[[routes]]
name = "mixed"
when = { model = ["mixed"] }
use = { ladder = "mixed" }
[[routes]]
name = "small"
when = { model = ["small"] }
use = { ladder = "small" }
[[routes]]
name = "twin"
when = { model = ["twin"] }
use = { ladder = "twin" }
[[routes]]
name = "odd"
when = { model = ["odd"] }
use = { cascade = "odd" }
[[routes]]
name = "both"
use = { cascade = "both" }
[cascades.both]
stages = ["small", "large"]
defer = { statistic = "min_margin", threshold = 1.0 }
on_failure = "small"
[cascades.odd]
stages = ["small", "large"]
defer = { statistic = "min_margin", threshold = 1.0 }
on_failure = "mixed"
[[ladders.mini]]
to = "mini"
[[ladders.mini]]
answer = "Nobody is here."
[[ladders.sure]]
to = "mini"
retries = 1
[[ladders.sure]]
to = "other"
[[ladders.sure]]
to = "spare"
mark = "fallback"
[[ladders.mixed]]
to = "mini"
[[ladders.mixed]]
to = "small"
[[ladders.twin]]
to = "twin"
[[ladders.small]]
to = "small"
"""
ENCODERS = {
    "mini": EmbeddingSizes(8, (4,)),
    "twin": EmbeddingSizes(8),
    "spare": EmbeddingSizes(8, (4,)),
    "other": EmbeddingSizes(16),
}


def service(**options: Any):
    return stage(settings=CONFIG, encoders=ENCODERS, **options)


async def embed(running: Stage, *inputs: Sequence[int] | str, model: str = "mini", size: int | None = None) -> Answer:
    prompts = tuple(TextPrompt(each) if isinstance(each, str) else TokenPrompt(tuple(each)) for each in inputs)
    return await running.ask(model, prompts=prompts, embedding=EmbeddingParams(size), streamed=False)


def vectors(answer: Answer) -> list[bytes | None]:
    assert isinstance(answer.end, Done), answer.end
    found = {event.index: event.embedding for event in answer.events if isinstance(event, Delta)}
    return [found[index] for index in sorted(found)]


def true_vectors(*inputs: Sequence[int], size: int = 8) -> list[bytes]:
    return [row.tobytes() for row in FakeEncoder(sizes=EmbeddingSizes(size)).embed(inputs)]


async def test_every_input_has_its_vector_and_the_ledger_its_tokens(autojump_clock: trio.testing.MockClock) -> None:
    inputs = [(5, 6, 7), (8,), (5, 6, 7), tuple(range(30)), (9, 9)]
    async with service() as running:
        answer = await embed(running, *inputs)
        assert vectors(answer) == true_vectors(*inputs)
        usage = answer.end.usage
        assert (usage.prompt_tokens, usage.completion_tokens) == (39, 0)
        assert (answer.end.served.rung, answer.end.served.route) == ("mini", "mini")
        await running.assert_clean()
        row = running.row("r1")
        assert (row["outcome"], row["rung"], row["prompt_tokens"], row["completion_tokens"]) == ("ok", "mini", 39, 0)
        assert row["cost"] == pytest.approx(39 * 2.0 / 1e6)


async def test_text_is_read_with_the_model_s_own_tokenizer(autojump_clock: trio.testing.MockClock) -> None:
    async with service() as running:
        ids = model_text().tokenizer.encode("hello")
        assert vectors(await embed(running, "hello")) == true_vectors(ids)


async def test_requests_share_steps_and_do_not_change_each_other(autojump_clock: trio.testing.MockClock) -> None:
    async with service() as running:
        found: dict[int, list[bytes | None]] = {}

        async def ask(number: int) -> None:
            found[number] = vectors(await embed(running, (number,), (number, 1)))

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(ask, number)
        assert found == {number: true_vectors((number,), (number, 1)) for number in range(6)}
        (runner,) = running.runners["mini"]
        assert runner.steps < 6


async def test_replicas_share_the_work(autojump_clock: trio.testing.MockClock) -> None:
    async with service() as running:
        found: dict[int, list[bytes | None]] = {}

        async def ask(number: int) -> None:
            found[number] = vectors(await embed(running, (number,), (number, 1), model="twin"))

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(ask, number)
        assert found == {number: true_vectors((number,), (number, 1)) for number in range(6)}
        assert all(running.runners[title][0].steps for title in replica_titles("twin", 2))


async def test_a_tier_s_priority_goes_with_its_inputs(autojump_clock: trio.testing.MockClock) -> None:
    async with service() as running:
        worker, sent = running.worker("mini"), []
        send, worker.send = worker.send, lambda command: (sent.append(command), send(command))
        await embed(running, (5,), (6,))
        assert [(command.token_ids, command.priority) for command in sent] == [((5,), 3), ((6,), 3)]


async def test_a_size_that_the_model_was_trained_for(autojump_clock: trio.testing.MockClock) -> None:
    async with service() as running:
        (cut,) = vectors(await embed(running, (5,), size=4))
        assert cut is not None
        assert len(cut) == 16
        assert np.linalg.norm(np.frombuffer(cut, "<f4")) == pytest.approx(1)
        assert vectors(await embed(running, (5,), size=8)) == true_vectors((5,))
        refused = (await embed(running, (5,), size=5)).refusal
        assert refused is not None
        assert (refused.body.status, refused.body.code) == (400, "dimensions_unsupported")
        assert refused.body.param == "dimensions"
        assert "8 numbers, not of 5" in refused.body.message
        assert " 4:" in refused.body.message


@pytest.mark.parametrize("model", ["small", "both", "odd"])
async def test_a_model_that_makes_text_embeds_nothing(model: str, autojump_clock: trio.testing.MockClock) -> None:
    async with service() as running:
        refused = (await embed(running, (5,), model=model)).refusal
        assert refused is not None
        assert (refused.body.status, refused.body.code, refused.body.param) == (400, "model_makes_text", "model")


async def test_an_encoder_says_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with service() as running:
        for options in ({}, {"text": "Hello?"}):
            refused = (await running.ask("mini", **options)).refusal
            assert refused is not None
            assert (refused.body.status, refused.body.code) == (400, "model_makes_embeddings")


async def test_in_a_mixed_ladder_each_rung_answers_what_it_can(autojump_clock: trio.testing.MockClock) -> None:
    async with service() as running:
        assert vectors(await embed(running, (5,), model="mixed")) == true_vectors((5,))
        answer = await running.ask("mixed", max_tokens=3)
        assert answer.end.served.rung == "small"
        assert len(answer.tokens()) == 3


async def test_chat_reads_with_a_model_that_chats(autojump_clock: trio.testing.MockClock) -> None:
    """The first engine of the file is an encoder; prompts of a model name are not measured with it."""
    async with service() as running:
        answer = await running.ask("both", text="Hello?", max_tokens=2)
        assert answer.end.usage.prompt_tokens == len(model_text().tokenizer.encode("Hello?"))


async def test_too_long_an_input_is_named_with_the_limit(autojump_clock: trio.testing.MockClock) -> None:
    async with service() as running:
        refused = (await embed(running, (5,), range(65))).refusal
        assert refused is not None
        assert (refused.body.status, refused.body.code) == (400, "context_length_exceeded")
        assert refused.body.param == "input"
        assert "64 tokens" in refused.body.message
        assert "input 1 has 65" in refused.body.message
        assert vectors(await embed(running, range(64))) == true_vectors(range(64))


async def test_tokens_beyond_the_vocabulary_are_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with service() as running:
        refused = (await embed(running, (5,), (512,))).refusal
        assert refused is not None
        assert (refused.body.status, refused.body.code) == (400, "token_out_of_vocabulary")


async def test_quotas_count_the_tokens_of_inputs(autojump_clock: trio.testing.MockClock) -> None:
    async with service(lengths={"mini": 500}) as running:
        for _ in range(2):
            assert vectors(await embed(running, range(400)))
        refused = (await embed(running, range(400))).refusal
        assert refused is not None
        assert (refused.body.status, refused.body.code) == (429, "tokens_per_minute_exceeded")
        assert vectors(await embed(running, range(200)))


async def test_a_crash_while_embedding_is_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    failures = []

    def fail_once(step: int, inputs: Any) -> None:
        if not failures:
            failures.append(step)
            raise RuntimeError("out of memory")

    async with service() as running:
        running.on_step["mini"] = fail_once
        answer = await embed(running, (5,), (6,), model="sure")
        assert vectors(answer) == true_vectors((5,), (6,))
        tries = [(note.rung, note.outcome) for note in answer.end.served.attempts]
        assert tries[0] == ("mini", "failed")
        assert tries[-1] == ("spare", "answered") or tries[-1] == ("mini", "answered")
        await trio.sleep(30)
        assert vectors(await embed(running, (7,))) == true_vectors((7,))
        assert running.service.statistics().engine_restarts_total["mini"] == 1


async def test_no_other_model_s_vectors_and_no_text_stand_in(autojump_clock: trio.testing.MockClock) -> None:
    def fail(step: int, inputs: Any) -> None:
        raise RuntimeError("out of memory")

    async with service(clean=False) as running:
        running.on_step["mini"] = running.on_step["spare"] = fail
        for model in ("sure", "mini"):
            refused = (await embed(running, (5,), model=model)).refusal
            assert refused is not None
            # It crashes two engines, or one twice.
            assert refused.body.status == 422
            assert "other" not in refused.body.message
        assert running.runners["other"][0].steps == 0


async def test_an_engine_that_hangs_is_restarted(autojump_clock: trio.testing.MockClock) -> None:
    async with service() as running:
        running.worker("mini").hang = True
        answer = await embed(running, (5,), model="sure")
        assert vectors(answer) == true_vectors((5,))
        assert next(note.why for note in answer.end.served.attempts) in {"engine_stalled", "stall"}
        await trio.sleep(30)


async def test_a_client_that_leaves_frees_what_waits(autojump_clock: trio.testing.MockClock) -> None:
    async with service() as running:
        prompts = tuple(TokenPrompt((number,)) for number in range(40))
        response = await running.open("mini", prompts=prompts, embedding=EmbeddingParams(), streamed=False)
        with trio.move_on_after(0.25):
            await response.next_events()
        response.close()
        await running.assert_clean()
        row = running.row("r1")
        assert (row["outcome"], row["completion_tokens"]) == ("gone", 0)
        (runner,) = running.runners["mini"]
        assert runner.steps < 10
        assert row["prompt_tokens"] == 40


async def test_a_full_queue_says_so(autojump_clock: trio.testing.MockClock) -> None:
    async with service() as running:
        running.worker("mini").hang = True
        codes: list[str] = []

        async def ask(number: int) -> None:
            answer = await embed(running, *[(number, each) for each in range(4)])
            codes.append("ok" if answer.refusal is None else answer.refusal.body.code)

        async with trio.open_nursery() as nursery:
            for number in range(9):
                nursery.start_soon(ask, number)
            await trio.sleep(1)
            assert set(codes) == {"queue_full"}
            running.worker("mini").hang = False
            running.worker("mini").send(None)  # anything wakes it
        assert codes.count("ok") + codes.count("queue_full") == 9
        assert codes.count("ok") >= 5


async def test_a_drain_lets_embeddings_end(autojump_clock: trio.testing.MockClock) -> None:
    async with service() as running:
        async with trio.open_nursery() as nursery:
            answers: list[Answer] = []

            async def ask() -> None:
                answers.append(await embed(running, *[(each,) for each in range(20)]))

            nursery.start_soon(ask)
            await trio.sleep(0.15)
            await running.service.drain(trio.current_time() + 10)
        assert vectors(answers[0]) == true_vectors(*[(each,) for each in range(20)])
        with pytest.raises(Refusal) as refused:
            await running.open("mini", prompts=(TokenPrompt((1,)),), embedding=EmbeddingParams(), streamed=False)
        assert refused.value.body.code == "shutting_down"


async def test_the_list_of_models_has_its_length(autojump_clock: trio.testing.MockClock) -> None:
    async with service() as running:
        assert {card.id: card.max_model_len for card in running.service.models()}["mini"] == 64


async def test_a_recording_leaves_embeddings_out(autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    path = tmp_path / "recording.jsonl"
    async with service(record=path) as running:
        await embed(running, (5,))
        await embed(running, (5,), model="small")
        await running.ask("small", max_tokens=2)
    lines = path.read_text().splitlines()
    assert len(lines) == 2
    assert '"model":"small"' in lines[1]


async def test_an_upstream_does_not_read_as_an_encoder_does() -> None:
    text = CONFIG + '[upstreams.far]\nurls = ["http://far/v1"]\ntokenizer = "mini"\n'
    settings = settings_of(text)
    texts = {name: model_text(sizes=ENCODERS.get(name)) for name in settings.engines}
    with pytest.raises(EngineLoadFailed, match="'mini' is an encoder"):
        Service(settings, {}, texts=texts)
