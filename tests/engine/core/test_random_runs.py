"""Thousands of random steps: arrivals, aborts, caching and preemption change no request's tokens."""

from random import Random

import pytest
from msgspec import structs

from config.model.settings import Speculate
from engine.core.engine import Engine
from engine.messages import ExpectTokens, Submit
from engine.testing.fake_runner import FakeRunner
from engine.text.reasoning import ReasoningMarkers
from engine.text.reasoning_cap import ReasoningCap
from tests.engine.driving import Answers, make_engine, run, submit
from tests.engine.tiny_tokenizers import byte_level_tokenizer

BLOCK = 4
VOCAB = 50
CAP = ReasoningCap(5, ReasoningMarkers("!", "#$"), tuple(byte_level_tokenizer().encode("#$")), opened=True)


def random_submit(rng: Random, sequence_id: int, stems: list[list[int]]) -> Submit:
    stem = rng.choice(stems)
    prompt = stem[: rng.randrange(len(stem))] + [rng.randrange(VOCAB) for _ in range(rng.randrange(1, 12))]
    command = submit(
        sequence_id,
        prompt,
        max_tokens=rng.randrange(1, 30),
        temperature=rng.choice([0.0, 1.0]),
        priority=rng.randrange(3),
        salt=rng.choice([b"", b"other"]),
        stop_token_ids=tuple(rng.sample(range(VOCAB), rng.randrange(2))),
        min_tokens=rng.choice([0, 0, 5]),
    )
    caps = [None, CAP, structs.replace(CAP, tokens=9), structs.replace(CAP, opened=False)]
    return structs.replace(command, reasoning_cap=rng.choice(caps))


def random_draft(rng: Random, command: Submit) -> tuple[int, ...]:
    """None, a wrong one, or a correct one, complete or up to a wrong token."""
    if rng.random() < 0.4:
        return tuple(rng.randrange(VOCAB) for _ in range(rng.choice([0, 0, 1, 9, 40])))
    tokens = run(engine(None, total_blocks=20), command)[command.sequence_id].tokens
    if rng.random() < 0.7:
        tokens[rng.randrange(len(tokens))] = rng.randrange(VOCAB)
    return (*tokens, *(rng.randrange(VOCAB) for _ in range(rng.randrange(3))))


def engine(rng: Random | None, total_blocks: int, *, overlaps: bool = False) -> Engine:
    runner = FakeRunner(
        vocab_size=VOCAB,
        block_size=BLOCK,
        total_blocks=total_blocks,
        max_model_len=60,
        overlaps=overlaps,
        host_blocks=0 if rng is None else rng.choice([0, 3, 60]),
    )
    if rng is None:
        return make_engine(runner)
    return make_engine(
        runner,
        max_running=rng.randrange(1, 9),
        prefill_chunk=rng.randrange(1, 20),
        max_step_tokens=rng.randrange(8, 40),
        prefix_cache=rng.random() < 0.8,
        speculate=rng.choice([None, Speculate(ngram=1, tokens=5)]),
    )


@pytest.mark.sample(10)
@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_every_request_gets_what_it_would_get_alone(seed, overlaps):
    rng = Random(seed)
    stems = [[rng.randrange(VOCAB) for _ in range(24)] for _ in range(2)]
    busy = engine(rng, total_blocks=rng.randrange(17, 40), overlaps=overlaps)
    commands: dict[int, Submit] = {}
    aborted: set[int] = set()
    answers = Answers()
    for _ in range(200):
        for _ in range(rng.choice([0, 0, 0, 1, 3])):
            command = random_submit(rng, len(commands), stems)
            commands[command.sequence_id] = command
            busy.submit(structs.replace(command, draft=random_draft(rng, command)))
        if commands and rng.random() < 0.1:
            victim = rng.randrange(len(commands))
            if victim not in answers or answers[victim].finish is None:
                aborted.add(victim)
            busy.abort(victim)
            busy.check_integrity()
        if answers and rng.random() < 0.3:
            sequence_id = rng.choice(list(answers))
            tokens = list(random_draft(rng, commands[sequence_id]))
            after = rng.randrange(len(answers[sequence_id].tokens) + 2)
            busy.accept(ExpectTokens(sequence_id, after, tuple(tokens[after:])))
        answers.add(busy.step())
        busy.check_integrity()
    for sequence_id, answer in run(busy).items():
        answers.setdefault(sequence_id, type(answer)())
        answers[sequence_id].tokens += answer.tokens
        answers[sequence_id].finish = answer.finish
    assert answers.keys() == commands.keys()
    for sequence_id, command in commands.items():
        answer = answers[sequence_id]
        alone = run(engine(None, total_blocks=20), command)[sequence_id]
        if sequence_id in aborted:
            assert answer.finish.reason == "abort"
            assert answer.tokens == alone.tokens[: len(answer.tokens)]
        else:
            assert (answer.tokens, answer.finish.reason) == (alone.tokens, alone.finish.reason)
        assert answer.finish.completion_tokens == len(answer.tokens)


def test_cold_prefixes_come_back_from_the_host():
    """Three prompts in turn, in a pool for one: every prefix is evicted before it is used again."""
    prompts = [[stem] * 40 for stem in range(3)]
    hits = []
    swapped = []
    for host_blocks in (0, 40):
        runner = FakeRunner(
            vocab_size=VOCAB, block_size=BLOCK, total_blocks=15, max_model_len=60, host_blocks=host_blocks
        )
        busy = make_engine(runner)
        found = [run(busy, submit(index, prompts[index % 3], max_tokens=9))[index].tokens for index in range(9)]
        assert found == found[:3] * 3
        stats = busy.stats()
        hits.append(stats.prefix_hits_total)
        swapped.append((stats.swapped_in_total, stats.swapped_out_total - stats.host_blocks))
    assert hits == [0, 6 * 36]
    # Blocks copied out have come back or are still there, except those recomputed: in every round the prompt's last
    # block and two of the answer.
    assert swapped == [(0, 0), (6 * 9, 6 * (9 + 3))]
    assert stats.host_blocks > 0


def test_the_runs_meet_what_they_are_about():
    """Preemption, prefix hits and the protection after three preemptions do occur in runs like the above."""
    totals = {"preemptions": 0, "hits": 0, "most": 0}
    for seed in range(6):
        rng = Random(seed)
        stems = [[rng.randrange(VOCAB) for _ in range(24)] for _ in range(2)]
        busy = make_engine(FakeRunner(vocab_size=VOCAB, block_size=BLOCK, total_blocks=17, max_model_len=60))
        answers = run(busy, *(random_submit(rng, index, stems) for index in range(40)))
        totals["preemptions"] += busy.stats().preemptions_total
        totals["hits"] += busy.stats().prefix_hits_total
        totals["most"] = max(totals["most"], *(answer.finish.preemptions for answer in answers.values()))
    assert totals["preemptions"] > 20
    assert totals["hits"] > 100
    assert totals["most"] >= 3
