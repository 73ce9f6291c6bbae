"""Ten thousand random steps: arrivals, aborts, preemptions, prefix hits, and adapters that are added and dropped.

After every step integrity is checked, and every call of the block manager is repeated on a naive one, which keeps plain
lists and searches all of them.
"""

from collections.abc import Sequence
from random import Random

import pytest

from engine.core.engine import Engine
from engine.lora.adapters import Adapter
from engine.messages import AddAdapter, DropAdapter, Submit
from engine.scheduling.block_manager import BlockManager
from engine.testing.fake_runner import FakeRunner
from tests.engine.driving import Answers, adapter, make_engine, run, submit

BLOCK = 4
VOCAB = 50
STEPS = 1000
NAMES = ("legal", "sql", "poems")


class NaiveBlocks:
    def __init__(self, total: int) -> None:
        self.total = total
        self.held: list[int] = []
        """One entry per reference to a block."""
        self.idle: list[int] = []
        """In the order of eviction."""
        self.named: list[tuple[bytes, int]] = []

    def match(self, names: Sequence[bytes]) -> list[int]:
        found = []
        for name in names:
            hits = [block for known, block in self.named if known == name]
            if not hits:
                break
            found += hits
        return found

    def hold(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            if block not in self.held:
                self.idle.remove(block)
            self.held.append(block)

    def allocate(self, given: Sequence[int]) -> None:
        blank = self.total - 1 - len(set(self.held)) - len(self.idle)
        for _ in range(len(given) - blank):
            evicted = self.idle.pop(0)
            self.named = [(name, block) for name, block in self.named if block != evicted]
        assert len({*given} | {*self.held} | {*self.idle}) == len(given) + len({*self.held}) + len(self.idle)
        assert 0 not in given
        self.held += given

    def publish(self, block: int, name: bytes) -> int:
        hits = [known for other, known in self.named if other == name]
        if not hits:
            self.named.append((name, block))
        elif hits != [block]:
            self.hold(hits)
            self.release([block])
            return hits[0]
        return block

    def release(self, blocks: Sequence[int]) -> None:
        for block in reversed(blocks):
            self.held.remove(block)
            if block not in self.held and any(block == named for _, named in self.named):
                self.idle.append(block)


class WitnessedBlocks(BlockManager):
    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.naive = NaiveBlocks(total)

    def match(self, names: Sequence[bytes]) -> list[int]:
        found = super().match(names)
        assert found == self.naive.match(names)
        return found

    def hold(self, blocks: Sequence[int]) -> None:
        super().hold(blocks)
        self.naive.hold(blocks)

    def allocate(self, count: int) -> list[int]:
        given = super().allocate(count)
        assert len(given) == count
        self.naive.allocate(given)
        return given

    def publish(self, block: int, name: bytes) -> int:
        # Internal calls of the real one, which the naive one must repeat.
        naive, self.naive = self.naive, NaiveBlocks(0)
        self.naive.hold = self.naive.release = lambda _: None  # type: ignore[method-assign]
        try:
            kept = super().publish(block, name)
        finally:
            self.naive = naive
        assert kept == naive.publish(block, name)
        return kept

    def release(self, blocks: Sequence[int]) -> None:
        super().release(blocks)
        self.naive.release(blocks)

    def compare(self) -> None:
        naive = self.naive
        assert list(self._idle) == naive.idle
        assert self._by_name == dict(naive.named)
        assert [naive.held.count(block) for block in range(naive.total)] == self._references


def engine(total_blocks: int = 40, *, overlaps: bool = False, **changes) -> Engine:
    runner = FakeRunner(
        vocab_size=VOCAB, block_size=BLOCK, total_blocks=total_blocks, max_model_len=60, overlaps=overlaps
    )
    made = make_engine(runner, **changes)
    made._scheduler._blocks = WitnessedBlocks(total_blocks)
    return made


def alone(command: Submit, used: Adapter | None) -> list[int]:
    quiet = engine()
    if used is not None:
        quiet.accept(AddAdapter(used))
    return run(quiet, command)[command.sequence_id].tokens


class Run:
    """One engine over a thousand steps."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = Random(seed)
        self.engine = engine(
            rng.randrange(17, 40),
            overlaps=seed % 5 == 4,
            max_running=rng.randrange(2, 9),
            prefill_chunk=rng.randrange(1, 20),
            max_step_tokens=rng.randrange(9, 40),
        )
        self.stems = [[rng.randrange(VOCAB) for _ in range(24)] for _ in range(2)]
        self.loaded: dict[str, Adapter] = {}
        self.commands: dict[int, tuple[Submit, Adapter | None]] = {}
        self.aborted: set[int] = set()
        self.answers = Answers()
        self.versions = 0

    def arrive(self) -> None:
        rng = self.rng
        stem = rng.choice(self.stems)
        prompt = stem[: rng.randrange(len(stem))] + [rng.randrange(VOCAB) for _ in range(rng.randrange(1, 12))]
        command = submit(
            len(self.commands),
            prompt,
            max_tokens=rng.randrange(1, 25),
            temperature=rng.choice([0.0, 1.0]),
            priority=rng.randrange(3),
            salt=rng.choice([b"", b"", b"other"]),
            adapter=rng.choice(["", *self.loaded]),
        )
        self.commands[command.sequence_id] = command, self.loaded.get(command.adapter)
        self.engine.submit(command)

    def change_adapters(self) -> None:
        name = self.rng.choice(NAMES)
        if name in self.loaded and self.rng.random() < 0.5:
            del self.loaded[name]
            self.engine.accept(DropAdapter(name))
        else:
            self.versions += 1
            # Some contents recur, under the same name or another.
            self.loaded[name] = adapter(name, self.versions, content=str(self.rng.randrange(6)))
            self.engine.accept(AddAdapter(self.loaded[name]))

    def step(self) -> None:
        rng = self.rng
        if rng.random() < 0.3:
            self.arrive()
        if rng.random() < 0.05:
            self.change_adapters()
        if self.commands and rng.random() < 0.03:
            victim = rng.randrange(max(len(self.commands) - 20, 0), len(self.commands))
            if victim not in self.answers or self.answers[victim].finish is None:
                self.aborted.add(victim)
            self.engine.abort(victim)
        self.answers.add(self.engine.step())
        self.check()

    def check(self) -> None:
        self.engine.check_integrity()
        self.engine._scheduler._blocks.compare()  # type: ignore[attr-defined]
        uses = self.engine._adapters.uses()
        assert {use.name: use.version for use in uses if use.current} == {
            name: each.version for name, each in self.loaded.items()
        }
        assert all(use.current or use.running for use in uses), "a version that nobody needs is kept"

    def finish(self) -> None:
        for sequence_id, answer in run(self.engine).items():
            mine = self.answers.setdefault(sequence_id, type(answer)())
            mine.tokens += answer.tokens
            mine.finish = answer.finish
        self.check()
        assert self.answers.keys() == self.commands.keys()
        for sequence_id, (command, used) in self.commands.items():
            answer, expected = self.answers[sequence_id], alone(command, used)
            assert answer.finish.adapter_version == (0 if used is None else used.version)
            if sequence_id in self.aborted:
                assert answer.finish.reason == "abort"
                expected = expected[: len(answer.tokens)]
            assert answer.tokens == expected


@pytest.fixture(scope="module")
def totals():
    return {"preemptions": 0, "hits": 0, "adapted": 0, "aborted": 0}


@pytest.mark.sample(6)
@pytest.mark.parametrize("seed", range(10))
def test_a_thousand_steps_change_nobodys_answer(seed, totals):
    made = Run(seed)
    for _ in range(STEPS):
        made.step()
    made.finish()
    stats = made.engine.stats()
    totals["preemptions"] += stats.preemptions_total
    totals["hits"] += stats.prefix_hits_total
    totals["adapted"] += sum(used is not None for _, used in made.commands.values())
    totals["aborted"] += len(made.aborted)


def test_they_met_what_they_are_about(totals):
    if not totals["hits"]:
        pytest.skip("the runs above were not chosen")
    assert totals["preemptions"] > 100
    assert totals["hits"] > 1000
    assert totals["adapted"] > 300
    assert totals["aborted"] > 50
