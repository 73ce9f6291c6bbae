"""An answer whose process is killed goes on in the next one: with the same events, and as if nothing had happened."""

import sqlite3
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from actors.api.errors import NotFound
from actors.api.response import Done, Failed
from actors.kept.kept_answer import KeptReader
from actors.kept.kept_store import delivered_before
from actors.ledger.store import Store
from tests.actors.fakes import Answer, Stage, says, stage
from tests.actors.kept.test_kept_answers import TENANT, read
from tests.actors.request.test_response_stream import TEXT as WORDS
from tests.actors.service.test_rescue import JSON, LADDER, SEEDED, STATES, State, seen
from tests.actors.upstream.network import Asked, Network
from tests.actors.upstream.test_going_on import OUTSIDE, ends
from tests.actors.upstream.test_going_on import TEXT as UPSTREAM_TEXT
from tests.actors.upstream.test_upstream_actor import CHAT, HI, SHARED
from tests.actors.upstream.test_upstream_actor import config as upstream_config
from tests.sampling import named

TEXT = "abcdefgh" * 4
_numbers = count(1000)


def kept_in_a_file(settings: str) -> str:
    return settings.replace("[ledger]\n", '[server]\nkept_file = "kept.sqlite3"\n[ledger]\n', 1)


class Lives:
    """One process after another, with the same files."""

    def __init__(self, folder: Path, settings: str = LADDER, said: Any = None) -> None:
        self.kept_file = folder / "kept.sqlite3"
        self.ledger = folder / "ledger.sqlite3"
        self.settings = kept_in_a_file(settings)
        self.said = said
        self.number = 0

    @asynccontextmanager
    async def life(self, *, settings: str | None = None, clean: bool = False, **options: Any):
        """Without a stop: what is not written by then is lost."""
        self.number += 1
        store = Store(self.ledger, f"life {self.number}", delivered=partial(delivered_before, self.kept_file))
        scripts = {} if self.said is None else {"small": self.said, "large": self.said}
        async with stage(
            scripts,
            settings=self.settings if settings is None else kept_in_a_file(settings),
            store=store,
            kept_file=self.kept_file,
            clean=clean,
            **options,
        ) as service:
            await service.service.kept.ready()
            yield service
            if not clean:
                service.workers.kill()
        store.close()


def begin(service: Stage, *, key: str = "", background: bool = False, **options: Any) -> KeptReader:
    request = service.request(options.pop("model", "small"), **options)
    request = msgspec.structs.replace(request, request_id=f"r{next(_numbers)}")
    kept = service.service.kept
    created = int(service.service.wall())
    reader = kept.begin(request, TENANT, endpoint="chat.completions", created=created, key=key, background=background)
    assert reader is not None
    return reader


async def read_some(reader: KeptReader, events: int) -> Answer:
    """At least so many."""
    answer = Answer()
    await reader.answer.begun()
    while len(answer.events) < events and (more := await reader.next_events()):
        answer.events += more
    return answer


CASES = [(name, state) for name, state in STATES.items()]


@pytest.mark.sample(5, always=["reasoning"])
@pytest.mark.parametrize("case", named(CASES))
async def test_the_answer_is_the_one_that_it_would_have_been(autojump_clock, tmp_path, case):
    """Killed after one event after another."""
    state: State = case
    lives = Lives(tmp_path, state.settings, state.said)
    async with lives.life(**state.stage) as service:
        whole = await read(begin(service, model=state.model, **state.options))
        # As text: the log-probability of a prompt's first token is NaN, which equals nothing.
        uncut, length = repr(seen(whole)), len(whole.events)
    cut = 0
    for after in range(0, length, 1 + length // 6):
        async with lives.life(**state.stage) as service:
            reader = begin(service, model=state.model, **state.options)
            await trio.sleep(0.5)
            before = await read_some(reader, after)
            answer_id = reader.answer.request.request_id
            cut += not reader.answer.ended
        async with lives.life(**state.stage) as service:
            answer = await read(service.service.kept.find(answer_id, TENANT))
            assert repr(answer.events[: len(before.events)]) == repr(before.events)
            assert repr(seen(answer)) == uncut, f"killed after event {len(before.events)}"
    assert cut >= 1


@pytest.mark.parametrize("options", [SEEDED | {"seed": None}, JSON | {"seed": None, "n": 2}])
async def test_what_was_sampled_without_a_seed_goes_on_with_the_one_that_was_drawn(autojump_clock, tmp_path, options):
    lives = Lives(tmp_path)
    texts = []
    for after in (2, 5, 9):
        async with lives.life() as service:
            reader = begin(service, **options)
            await read_some(reader, after)
            request = reader.answer.request
        async with lives.life() as service:
            answer = await read(service.service.kept.find(request.request_id, TENANT))
            again = await service.ask(**{**options, "seed": request.seed})
            assert seen(answer)["choices"] == seen(again)["choices"]
            texts.append(answer.text())
    assert len(set(texts)) == len(texts)


async def test_it_is_killed_again_and_again(autojump_clock, tmp_path):
    lives = Lives(tmp_path, said=says(TEXT))
    async with lives.life() as service:
        reader = begin(service, key="k")
        answer = await read_some(reader, 3)
    for _ in range(4):
        async with lives.life() as service:
            again = await read_some(begin(service, key="k"), len(answer.events) + 3)
            assert again.events[: len(answer.events)] == answer.events
            answer = again
    async with lives.life(clean=True) as service:
        last = await read(service.service.kept.find(reader.answer.request.request_id, TENANT))
        assert last.text() == TEXT
        assert isinstance(last.end, Done)
        assert service.service.kept.statistics().continued_total == 1


async def test_a_whole_answer_is_made_again(autojump_clock, tmp_path):
    lives = Lives(tmp_path, said=says(TEXT))
    async with lives.life() as service:
        begin(service, key="k", streamed=False)
        await trio.sleep(1)
    async with lives.life(clean=True) as service:
        answer = await read(begin(service, key="k", streamed=False))
        assert answer.text() == TEXT
        await trio.sleep(1)
        rows = rows_of(lives)
        assert [(row["outcome"], row["prompt_tokens"] + row["completion_tokens"]) for row in rows] == [
            ("crashed", 0),
            ("ok", answer.end.usage.prompt_tokens + answer.end.usage.completion_tokens),
        ]


def rows_of(lives: Lives) -> list[Any]:
    connection = sqlite3.connect(lives.ledger)
    connection.row_factory = sqlite3.Row
    try:
        return connection.execute("SELECT * FROM requests ORDER BY opened_at, number").fetchall()
    finally:
        connection.close()


PRICED = """
[prices.small]
input = 1_000_000
output = 10_000_000
[prices.large]
input = 1_000_000
output = 10_000_000
"""


def charges(lives: Lives) -> list[tuple[str, int, int, float]]:
    return [
        (row["outcome"], row["prompt_tokens"], row["completion_tokens"], round(row["cost"], 6))
        for row in rows_of(lives)
    ]


@pytest.mark.parametrize("after", [1, 4, 9])
async def test_what_was_delivered_is_charged_once(autojump_clock, tmp_path, after):
    """Before by the first process, the rest by the second, the prompt once; and quotas know it."""
    lives = Lives(tmp_path, LADDER + PRICED, says(TEXT))
    async with lives.life() as service:
        reader = begin(service)
        before = await read_some(reader, after)
        had = len(before.tokens())
        answer_id = reader.answer.request.request_id
    async with lives.life(clean=True) as service:
        assert charges(lives) == [("crashed", 4, had, 4 + 10.0 * had)]
        answer = await read(service.service.kept.find(answer_id, TENANT))
        rest = answer.end.usage.completion_tokens - had
        assert (answer.end.usage.prompt_tokens, len(answer.tokens())) == (4, had + rest)
        await trio.sleep(1)
        assert charges(lives) == [("crashed", 4, had, 4 + 10.0 * had), ("ok", 0, rest, 10.0 * rest)]
        assert [row["request_id"] for row in rows_of(lives)] == [answer_id] * 2


async def test_a_second_kill_charges_what_the_second_process_has_delivered(autojump_clock, tmp_path):
    lives = Lives(tmp_path, LADDER + PRICED, says(TEXT))
    async with lives.life() as service:
        reader = begin(service)
        first = len((await read_some(reader, 4)).tokens())
        answer_id = reader.answer.request.request_id
    async with lives.life() as service:
        second = len((await read_some(service.service.kept.find(answer_id, TENANT), 9)).tokens()) - first
    async with lives.life() as service:
        # It goes on, and is killed before anything came of it.
        await service.service.kept.find(answer_id, TENANT).answer.begun()
        await trio.sleep(0.08)
    async with lives.life(clean=True) as service:
        answer = await read(service.service.kept.find(answer_id, TENANT))
        await trio.sleep(1)
        rest = len(answer.tokens()) - first - second
        assert charges(lives) == [
            ("crashed", 4, first, 4 + 10.0 * first),
            ("crashed", 0, second, 10.0 * second),
            ("crashed", 0, 0, 0.0),
            ("ok", 0, rest, 10.0 * rest),
        ]


async def test_an_answer_that_had_ended_is_read_from_the_file(autojump_clock, tmp_path):
    """Its entry was not closed yet: what it owes is known all the same."""
    lives = Lives(tmp_path, LADDER + PRICED, says(TEXT))
    async with lives.life() as service:
        reader = begin(service, key="k")
        await read_some(reader, 3)
        service.workers.lock()
        whole = await read(service.service.kept.find(reader.answer.request.request_id, TENANT))
    async with lives.life(clean=True) as service:
        found = begin(service, key="k")
        assert not found.answer.hand_on()  # whoever stores responses has been told of it again
        again = await read(found)
        assert again.events == whole.events
        assert service.service.statistics().requests_total == {}
        tokens = whole.end.usage.completion_tokens
        assert charges(lives) == [("crashed", 4, tokens, 4 + 10.0 * tokens)]


async def test_a_stopped_server_leaves_what_runs_to_the_next(autojump_clock, tmp_path):
    """Readers hear that it stops, and by what id it goes on; their event numbers stay those of the answer."""
    lives = Lives(tmp_path, LADDER + PRICED, says(TEXT))
    answers = [Answer(), Answer()]
    async with lives.life(clean=True) as service, trio.open_nursery() as nursery:
        readers = [begin(service), begin(service, streamed=False, key="k")]
        for reader, answer in zip(readers, answers, strict=True):
            nursery.start_soon(read, reader, answer)
        await trio.sleep(0.7)
        await service.service.drain(trio.current_time())
    stream, whole = answers
    assert stream.refusal.body.code == whole.refusal.body.code == "shutting_down"
    had = len(stream.tokens())
    assert (stream.refusal.body.stream, stream.refusal.body.delivered_tokens) == (
        readers[0].answer.request.request_id,
        had,
    )
    async with lives.life(clean=True) as service:
        rest = await read(service.service.kept.find(readers[0].answer.request.request_id, TENANT))
        assert rest.events[: len(stream.events)] == stream.events
        assert rest.text() == (await read(begin(service, streamed=False, key="k"))).text() == TEXT
        await trio.sleep(1)
        assert sum(row[2] for row in charges(lives)) == 2 * rest.end.usage.completion_tokens
        assert sum(row[1] for row in charges(lives)) == 8


async def test_it_is_dropped_when_nobody_comes_for_it(autojump_clock, tmp_path):
    lives = Lives(tmp_path, said=says(TEXT))
    async with lives.life() as service:
        reader = begin(service)
        await read_some(reader, 3)
    async with lives.life(clean=True) as service:
        kept = service.service.kept
        assert (len(kept), kept.statistics().continued_total) == (1, 0)
        await trio.sleep(59)
        assert len(kept) == 1
        await trio.sleep(2)
        assert (len(kept), kept.used_bytes) == (0, 0)
    async with lives.life(clean=True) as service:
        with pytest.raises(NotFound):
            service.service.kept.find(reader.answer.request.request_id, TENANT)


async def test_its_time_begins_when_models_are_loaded(autojump_clock, tmp_path):
    lives = Lives(tmp_path, said=says(TEXT))
    async with lives.life() as service:
        reader = begin(service)
        await read_some(reader, 3)
    async with lives.life(clean=True, ready=False, load_s=300.0) as service:
        await trio.sleep(299)
        early = await read_some(service.service.kept.find(reader.answer.request.request_id, TENANT), 3)
        assert early.text() == TEXT[: len(early.text())]
        await trio.sleep(50)
        answer = await read(service.service.kept.find(reader.answer.request.request_id, TENANT))
        assert answer.text() == TEXT


async def test_an_old_answer_is_not_taken_over(autojump_clock, tmp_path):
    lives = Lives(tmp_path, said=says(TEXT))
    at = 1_800_000_000.0
    async with lives.life(wall=lambda: at) as service:
        await read_some(begin(service), 3)
    async with lives.life(clean=True, wall=lambda: at + 90_000) as service:
        assert len(service.service.kept) == 0


async def test_only_its_tenant_finds_it(autojump_clock, tmp_path):
    lives = Lives(tmp_path, said=says(TEXT))
    async with lives.life() as service:
        reader = begin(service, key="k")
        await read_some(reader, 3)
    async with lives.life(clean=True) as service:
        with pytest.raises(NotFound):
            service.service.kept.find(reader.answer.request.request_id, "bob")


FORBIDS = LADDER.replace('midstream = "continue"', 'midstream = "error"')
REMOVED = LADDER.replace("[models.small]\n", "[models.other]\n").replace('model = ["small"]', 'model = ["other"]')
IMPOSSIBLE = {
    "the policy forbids it": (FORBIDS, Failed, "no_rung_available"),
    "the model is gone": (REMOVED, None, "model_not_found"),
}


@pytest.mark.parametrize("why", IMPOSSIBLE)
async def test_where_it_cannot_go_on_its_reader_is_told(autojump_clock, tmp_path, why):
    settings, kind, code = IMPOSSIBLE[why]
    lives = Lives(tmp_path, said=says(TEXT))
    async with lives.life() as service:
        reader = begin(service, key="k")
        before = await read_some(reader, 5)
    answer_id = reader.answer.request.request_id
    async with lives.life(clean=True, settings=settings) as service:
        answer = await read(service.service.kept.find(answer_id, TENANT))
        assert answer.events[: len(before.events)] == before.events
        assert not any(isinstance(event, Done) for event in answer.events)
        error = answer.refusal.body if kind is None else answer.end.error
        assert (error.code, error.stream, error.delivered_tokens) == (code, answer_id, len(before.tokens()))


async def test_another_tokenizer_does_not_go_on_with_the_tokens(autojump_clock, tmp_path):
    lives = Lives(tmp_path, said=says(TEXT))
    async with lives.life() as service:
        reader = begin(service)
        await read_some(reader, 5)
    async with lives.life(clean=True, digest="another") as service:
        answer = await read(service.service.kept.find(reader.answer.request.request_id, TENANT))
        assert isinstance(answer.end, Failed)
        assert answer.end.error.code == "no_rung_available"


async def test_a_cascade_goes_on_with_its_large_model(autojump_clock, tmp_path):
    """What the small one was sure of is not known any more."""
    lives = Lives(tmp_path, STATES["a cascade in a window"].settings, says(WORDS))
    async with lives.life() as service:
        reader = begin(service, model="both")
        before = await read_some(reader, 3)
        assert 0 < len(before.text()) < len(WORDS)
    async with lives.life(clean=True) as service:
        answer = await read(service.service.kept.find(reader.answer.request.request_id, TENANT))
        assert answer.text() == WORDS
        assert [(each.rung, each.why) for each in answer.end.served.attempts] == [
            ("small", "process_ended"),
            ("large", "process_ended"),
        ]


@pytest.mark.parametrize("fault", ["fails", "hangs"])
async def test_a_file_that_fails_costs_no_answer(autojump_clock, tmp_path, fault):
    """It goes on in memory; what the file has of it is given up; later answers are stored again."""
    lives = Lives(tmp_path, said=says(TEXT))
    async with lives.life() as service:
        kept, workers = service.service.kept, service.workers
        reader = begin(service)
        await read_some(reader, 3)
        assert kept.statistics().stored == 1
        if fault == "fails":
            workers.kept_errors = ["database or disk is full"] * 2
        else:
            workers.kept_hangs = True
        answer = await read(kept.find(reader.answer.request.request_id, TENANT))
        assert answer.text() == TEXT
        assert kept.statistics().stored == 0
        assert kept.statistics().store_failures_total >= 1
        assert (await read(begin(service))).text() == TEXT
        workers.kept_hangs = False
        await trio.sleep(30)
        later = begin(service)
        assert kept.statistics().stored == 1
        await read_some(later, 3)
    async with lives.life(clean=True) as service:
        assert len(service.service.kept) == 1
        assert (await read(service.service.kept.find(later.answer.request.request_id, TENANT))).text() == TEXT


async def test_one_commit_for_all_answers_of_some_milliseconds(autojump_clock, tmp_path):
    lives = Lives(tmp_path, said=says(TEXT))
    async with lives.life(clean=True, step_s=0.1) as service, trio.open_nursery() as nursery:
        commits, answers = [], [Answer() for _ in range(4)]
        for number in (1, 4):
            before = service.workers.kept_commits
            for answer in answers[:number]:
                nursery.start_soon(read, begin(service), answer)
            await trio.sleep(10)
            commits.append(service.workers.kept_commits - before)
        assert answers[3].text() == TEXT
        assert commits[1] < 2 * commits[0]


@pytest.mark.parametrize("streamed", [True, False])
async def test_what_runs_in_the_background_goes_on_without_a_reader(autojump_clock, tmp_path, streamed):
    lives = Lives(tmp_path, said=says(TEXT))
    async with lives.life() as service:
        reader = begin(service, background=True, streamed=streamed)
        reader.close()
        await service.service.kept.written()
        await trio.sleep(1)
        answer_id = reader.answer.request.request_id
    for _ in range(2):
        async with lives.life(load_s=5.0) as service:
            await trio.sleep(100)
            kept = service.service.kept
            assert kept.look(answer_id, TENANT).ended
            assert (await read(kept.find(answer_id, TENANT))).text() == TEXT
    assert len(rows_of(lives)) == 2


async def test_the_background_ends_with_its_time(autojump_clock, tmp_path):
    lives = Lives(tmp_path, said=says(TEXT))
    zero = trio.current_time()

    def wall() -> float:
        return 1_800_000_000.0 + trio.current_time() - zero

    async with lives.life(clean=True, wall=wall, step_s=1.0) as service:
        kept = service.service.kept
        answer_id = begin(service, background=True).answer.request.request_id
        kept.find(answer_id, TENANT).close()
        await trio.sleep(3590)
        assert kept.look(answer_id, TENANT).ended is True
        await trio.sleep(20)
        # The first reader is still there.
        reader = next(iter(kept.look(answer_id, TENANT).readers))
        reader.close()
        await trio.sleep(1)
        with pytest.raises(NotFound):
            kept.look(answer_id, TENANT)


def stalls_after(text: str):
    """A server that sends part of an answer, and then nothing."""

    async def serve(asked: Asked) -> None:
        await asked.say(*[text[start : start + 3] for start in range(0, len(text), 3)], pause_s=0.1)
        await trio.sleep_forever()

    return serve


UPSTREAMS = {
    "by another upstream": (OUTSIDE.format(midstream="continue"), "any", UPSTREAM_TEXT, 6),
    "by another upstream, later": (OUTSIDE.format(midstream="continue"), "any", UPSTREAM_TEXT, 12),
    "by an engine that shares its tokenizer": (upstream_config(SHARED), "begins-there", "the quick brown fox", 9),
}


@pytest.mark.parametrize("name", UPSTREAMS)
async def test_an_upstream_s_answer_goes_on(autojump_clock, tmp_path, nursery, name):
    settings, model, text, said = UPSTREAMS[name]
    lives = Lives(tmp_path, settings, says(text, prompt=HI))
    network = Network(nursery, {"a": stalls_after(text[:said])})
    async with lives.life(network=network.connect) as service:
        reader = begin(service, model=model, prompts=CHAT)
        before = await read_some(reader, said // 3 + 1)
        assert before.text() == text[:said]
        await trio.sleep(1)

    async def refuses(asked: Asked) -> None:
        await asked.stream.aclose()

    network = Network(nursery, {"a": refuses, "b": ends})
    async with lives.life(network=network.connect, clean=True) as service:
        answer = await read(service.service.kept.find(reader.answer.request.request_id, TENANT))
        assert answer.text() == text
        assert answer.events[: len(before.events)] == before.events
        await trio.sleep(1)
        assert sum(row["completion_tokens"] for row in rows_of(lives)) == answer.end.usage.completion_tokens
        assert sum(row["prompt_tokens"] for row in rows_of(lives)) == answer.end.usage.prompt_tokens
