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
from actors.api.response import Delta, Done, Failed
from actors.kept.kept_answer import KeptReader
from actors.kept.kept_store import delivered_before
from actors.ledger.store import Store
from tests.actors.fakes import Answer, Stage, says, stage
from tests.actors.kept.test_kept_answers import TENANT, read
from tests.actors.service.test_rescue import JSON, LADDER, SEEDED, STATES, State, seen
from tests.sampling import sampled

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


def begin(service: Stage, *, key: str = "", **options: Any) -> KeptReader:
    request = service.request(options.pop("model", "small"), **options)
    request = msgspec.structs.replace(request, request_id=f"r{next(_numbers)}")
    kept = service.service.kept
    reader = kept.begin(request, TENANT, endpoint="chat.completions", created=int(service.service.wall()), key=key)
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


@pytest.mark.parametrize("case", sampled(CASES, 10))
async def test_the_answer_is_the_one_that_it_would_have_been(autojump_clock, tmp_path, case):
    """Killed after one event after another."""
    state: State = case
    lives = Lives(tmp_path, state.settings, state.said)
    async with lives.life() as service:
        whole = await read(begin(service, model=state.model, **state.options))
        # As text: the log-probability of a prompt's first token is NaN, which equals nothing.
        uncut, length = repr(seen(whole)), len(whole.events)
    cut = 0
    for after in range(0, length, 1 + length // 6):
        async with lives.life() as service:
            reader = begin(service, model=state.model, **state.options)
            await trio.sleep(0.5)
            before = await read_some(reader, after)
            answer_id = reader.answer.request.request_id
            cut += not reader.answer.ended
        async with lives.life() as service:
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
        rows = _rows(lives)
        assert [(row["outcome"], row["prompt_tokens"] + row["completion_tokens"]) for row in rows] == [
            ("crashed", 0),
            ("ok", answer.end.usage.prompt_tokens + answer.end.usage.completion_tokens),
        ]


def _rows(lives: Lives) -> list[Any]:
    connection = sqlite3.connect(lives.ledger)
    connection.row_factory = sqlite3.Row
    try:
        return connection.execute("SELECT * FROM requests ORDER BY opened_at, number").fetchall()
    finally:
        connection.close()
