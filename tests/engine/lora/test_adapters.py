"""Adapters in the engine: versions, prefix cache, mixed batches. Numerics: tests/parity/test_lora.py."""

import gc
import weakref

import pytest

from engine.errors import EngineError, RequestRefused
from engine.lora.adapters import Adapter, AdapterTable
from engine.messages import AddAdapter, DropAdapter
from engine.scheduling.batch import Batch
from engine.testing.fake_runner import FakeRunner
from tests.engine.driving import Answers, adapter, make_engine, run, submit

PROMPT = list(range(40))


def alone(used: Adapter | None, prompt=PROMPT) -> list[int]:
    engine = make_engine(FakeRunner())
    if used is not None:
        engine.accept(AddAdapter(used))
    return run(engine, submit(1, prompt, adapter="" if used is None else used.name))[1].tokens


def test_an_adapter_answers_otherwise_and_the_cache_keeps_it_apart():
    engine = make_engine(FakeRunner())
    legal, poems = adapter("legal"), adapter("poems")
    for each in (legal, poems):
        engine.accept(AddAdapter(each))
    found = []
    for sequence_id, name in enumerate(["", "legal", "poems", "", "legal"]):
        found.append(run(engine, submit(sequence_id, PROMPT, adapter=name))[sequence_id])
    assert [answer.tokens for answer in found[:3]] == [alone(None), alone(legal), alone(poems)]
    assert [answer.finish.cached_tokens for answer in found] == [0, 0, 0, 32, 32]
    assert found[3].tokens == found[0].tokens
    assert found[4].tokens == found[1].tokens


def test_the_same_content_under_another_name_or_version_shares_the_cache():
    engine = make_engine(FakeRunner())
    engine.accept(AddAdapter(adapter("legal", 1, "same")))
    run(engine, submit(1, PROMPT, adapter="legal"))
    engine.accept(AddAdapter(adapter("legal", 2, "same")))
    assert run(engine, submit(2, PROMPT, adapter="legal"))[2].finish.cached_tokens == 32
    engine.accept(AddAdapter(adapter("legal", 3, "other")))
    assert run(engine, submit(3, PROMPT, adapter="legal"))[3].finish.cached_tokens == 0


def test_who_has_begun_keeps_its_version_and_nobody_keeps_it_longer():
    engine = make_engine(FakeRunner())
    first, second = adapter("legal", 1), adapter("legal", 2)
    gone = weakref.ref(first.prepared)
    wanted = [alone(first), alone(second)]
    engine.accept(AddAdapter(first))
    engine.submit(submit(1, PROMPT, adapter="legal"))
    answers = Answers()
    answers.add(engine.step())
    engine.accept(AddAdapter(second))
    engine.submit(submit(2, PROMPT, adapter="legal"))
    report = engine.step()
    answers.add(report)
    assert [(use.version, use.current, use.running) for use in report.adapters] == [(2, True, 1), (1, False, 1)]
    engine.accept(DropAdapter("legal"))
    with pytest.raises(RequestRefused, match="legal") as refused:
        engine.submit(submit(3, PROMPT, adapter="legal"))
    assert refused.value.code == "adapter_not_loaded"
    while engine.has_work:
        report = engine.step()
        answers.add(report)
        engine.check_integrity()
    assert [answers[number].tokens for number in (1, 2)] == wanted
    assert [answers[number].finish.adapter_version for number in (1, 2)] == [1, 2]
    assert report.adapters == ()
    del first, wanted
    gc.collect()
    assert gone() is None


def test_rows_of_one_adapter_lie_side_by_side():
    seen: list[Batch] = []
    engine = make_engine(FakeRunner(on_step=lambda _, batch: seen.append(batch)))
    legal, poems = adapter("legal"), adapter("poems")
    for each in (legal, poems):
        engine.accept(AddAdapter(each))
    asked = ["legal", "", "poems", "legal", "", "poems", "poems"]
    answers = run(engine, *(submit(n, [n, *PROMPT[: 3 + n]], adapter=name) for n, name in enumerate(asked)))
    used = {"": None, "legal": legal, "poems": poems}
    for number, name in enumerate(asked):
        assert answers[number].tokens == alone(used[name], [number, *PROMPT[: 3 + number]])
    assert [[rows.adapter.name for rows in batch.adapters] for batch in seen] == [["legal", "poems"]] * len(seen)
    assert seen[-1].adapters[0].end - seen[-1].adapters[0].start == 2
    assert len(seen[-1].token_ids) == 7


def test_without_adapters_a_batch_has_none():
    seen: list[Batch] = []
    run(make_engine(FakeRunner(on_step=lambda _, batch: seen.append(batch))), submit(1, PROMPT))
    assert {batch.adapters for batch in seen} == {()}


def test_a_preempted_sequence_comes_back_with_its_adapter():
    engine = make_engine(FakeRunner(block_size=4, total_blocks=13, max_model_len=60))
    engine.accept(AddAdapter(adapter("legal", 1)))
    for number in range(4):
        engine.submit(submit(number, [number, 1, 2, 3, 4], adapter="legal", max_tokens=20))
    engine.accept(DropAdapter("legal"))
    answers = run(engine)
    assert engine.stats().preemptions_total > 0
    for number in range(4):
        quiet = make_engine(FakeRunner(block_size=4, total_blocks=13, max_model_len=60))
        quiet.accept(AddAdapter(adapter("legal", 1)))
        wanted = run(quiet, submit(number, [number, 1, 2, 3, 4], adapter="legal", max_tokens=20))[number].tokens
        assert answers[number].tokens == wanted


def test_the_books_are_compared():
    table = AdapterTable()
    held = adapter("legal")
    table.hold(held)
    table.check_integrity([held, None])
    with pytest.raises(EngineError):
        table.check_integrity([])
