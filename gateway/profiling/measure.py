"""Measures the time of an engine's steps: workloads of many shapes, or while it serves, each step timed.

The time is that of all of `Engine.step`: scheduling, the forward pass, sampling, text. The machine should be idle;
disturbances make steps longer, never shorter. So the costs are fitted to the fastest of several
repeats, and how much longer steps took is kept as their spread.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

import msgspec
import numpy as np

from config.model.settings import EngineSettings
from engine.core.engine import Engine
from engine.lora.adapters import PreparedAdapter
from engine.messages import Command, StepReport, Submit
from engine.model.model_config import ModelConfig, read_model_config
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import Batch, Runner, Sampled
from engine.text.tokenizer import Tokenizer
from gateway.profiling.profile import EngineProfile, ProfilePoint, StepShape
from gateway.profiling.step_cost_fit import error_of, fit, spread_of

_REPEATS = 5
_DECODES = 12
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_LENGTHS = (0.02, 0.3, 0.9)
"""Context lengths, as shares of the longest one."""
_CHUNKS = (1, 4, 16, 64, 200, 500)
_POINTS = 200


class Workload(msgspec.Struct, frozen=True):
    """A number of sequences decode from a context of a given length; a prompt of `late` tokens may arrive meanwhile."""

    rows: int
    context: int
    late: int = 0
    """0: no such prompt."""


class RecordingRunner:
    """A runner that records the batches it is given."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.shape: StepShape | None = None
        self.block_size = runner.block_size
        self.total_blocks = runner.total_blocks
        self.kv_bytes = runner.kv_bytes
        self.vocab_size = runner.vocab_size
        self.max_model_len = runner.max_model_len

    def execute(self, batch: Batch) -> Sampled:
        self.shape = shape_of_batch(batch)
        return self._runner.execute(batch)

    def take(self) -> StepShape | None:
        """The last batch since the previous call."""
        shape, self.shape = self.shape, None
        return shape

    def read_adapter(self, directory: Path) -> PreparedAdapter:
        return self._runner.read_adapter(directory)

    def close(self) -> None:
        self._runner.close()


def shape_of_batch(batch: Batch) -> StepShape:
    """The same as `profile.shape_of`, from the runner's batch."""
    counts = np.diff(batch.query_starts)
    ends = batch.context_lens
    more = counts > 1
    return StepShape(
        tokens=len(batch.token_ids),
        sequences=len(counts),
        samples=len(batch.samples),
        context=int(ends[~more].sum()),
        attention=float((counts[more] * (ends[more] - counts[more] / 2)).sum()),
    )


def measure_engine(
    runner: Runner, tokenizer: Tokenizer, settings: EngineSettings, config: ModelConfig, say: Callable[[str], None]
) -> EngineProfile:
    """Run the workloads, fit the costs, close the runner."""
    recorder = RecordingRunner(runner)
    engine = Engine(recorder, tokenizer, msgspec.structs.replace(settings, prefix_cache=False), name="profile", seed=0)
    workloads = list(_workloads(settings, engine.limits.max_model_len, engine.limits.pool_tokens))
    _play(engine, recorder, Workload(2, 8), Random(0))  # noqa: S311  (any prompts will do)
    shapes: list[StepShape] = []
    fastest: list[float] = []
    all_steps: list[tuple[StepShape, float]] = []
    for number, workload in enumerate(workloads, 1):
        if number % 10 == 1:
            say(f"workload {number} of {len(workloads)}: {workload.rows} sequences of {workload.context} tokens")
        runs = [_play(engine, recorder, workload, Random(number)) for _ in range(_REPEATS)]  # noqa: S311
        for steps in zip(*runs, strict=True):
            shapes.append(steps[0][0])
            fastest.append(min([took for _, took in steps]))
            all_steps += steps
    engine.close()
    cost = fit(shapes, fastest)
    error = error_of(cost, shapes, fastest)
    thinned = range(0, len(shapes), max(len(shapes) // _POINTS, 1))
    say(f"{len(all_steps)} steps; relative error of the fit: {error.median:.1%} (median), {error.p90:.1%} (p90)")
    return EngineProfile(
        cost=cost,
        max_model_len=config.max_positions,
        kv_token_bytes=runner.kv_bytes // (runner.total_blocks * runner.block_size),
        kv_bytes=runner.kv_bytes,
        model=f"{config.layers} layers, {config.kv_heads} KV heads of {config.head_dim}",
        spread=spread_of(cost, [shape for shape, _ in all_steps], [took for _, took in all_steps]),
        error=error,
        points=tuple(
            [ProfilePoint(shapes[i], fastest[i], _REPEATS, float(f"{cost.seconds(shapes[i]):.4g}")) for i in thinned]
        ),
    )


def load_for_measure(settings: EngineSettings, say: Callable[[str], None]) -> tuple[Runner, Tokenizer, ModelConfig]:
    """Load an engine's parts. Raises ModelError. Imports torch."""
    config = read_model_config(settings.model, settings.ignore_config_keys)
    from engine.tensor_parallel.runner import load_runner

    return load_runner(settings, say), Tokenizer.load(settings.model), config


def _workloads(settings: EngineSettings, longest: int, pool: int) -> Iterator[Workload]:
    longest_prompt = longest - _DECODES - 2
    for rows in _ROWS:
        for share in _LENGTHS:
            context = max(int(share * longest_prompt), 1)
            if rows <= settings.max_running and rows * (context + _DECODES + 2 * 16) < pool:
                yield Workload(rows, context)
    for rows in (1, 4, 12):
        for chunk in _CHUNKS:
            late = min(chunk, longest_prompt)
            if rows < settings.max_running and rows * 64 + late + 64 < pool:
                yield Workload(rows, min(40, longest_prompt), late)


def _play(engine: Engine, recorder: RecordingRunner, workload: Workload, rng: Random) -> list[tuple[StepShape, float]]:
    steps: list[tuple[StepShape, float]] = []
    first_id = 1000 * engine.stats().prompt_tokens_total
    submitted = 0

    def submit(prompt: int) -> None:
        nonlocal submitted
        ids = tuple(rng.randrange(recorder.vocab_size) for _ in range(prompt))
        params = SamplingParams(max_tokens=_DECODES + 1, temperature=0.0, ignore_eos=True)
        # Ids are unique: every workload adds prompt tokens to the total.
        engine.submit(Submit(sequence_id=first_id + submitted, prompt_token_ids=ids, params=params))
        submitted += 1

    for _ in range(workload.rows):
        submit(workload.context)
    while engine.has_work:
        began = perf_counter()
        engine.step()
        took = perf_counter() - began
        assert recorder.shape is not None
        steps.append((recorder.shape, took))
        if workload.late and len(steps) == _DECODES // 2:
            submit(workload.late)
    return steps


class TimedStep(msgspec.Struct, frozen=True, gc=False):
    """One step in service. Times are those of `perf_counter`."""

    shape: StepShape
    began: float
    ended: float
    period: float
    """Seconds from the end of the previous step, if work was left then: a token's time with all that happens between
    two steps, except the wait for a time slice."""


class TimedEngine(Engine):
    """An `Engine` with records, which may be read while its thread idles or has ended."""

    def __init__(self, runner: Runner, *arguments: Any, **options: Any) -> None:
        """As `Engine`."""
        self._recorder = RecordingRunner(runner)
        super().__init__(self._recorder, *arguments, **options)
        self.steps: list[TimedStep] = []
        self.submitted: dict[int, float] = {}
        """By sequence id, in order: when the sequence was submitted."""
        self.first_out: dict[int, float] = {}
        """By sequence id: when the step that generated its first token ended."""
        self._previous_end: float | None = None
        """When the previous step ended, if work was left then."""
        self._work_checked_at = 0.0
        """When `has_work` was last read: right before the loop waits for its time slice."""

    def forget(self) -> None:
        """Clear the records; between two steps only."""
        self.steps.clear()
        self.submitted.clear()
        self.first_out.clear()

    @property
    def has_work(self) -> bool:
        self._work_checked_at = perf_counter()
        return super().has_work

    def accept(self, command: Command) -> None:
        if isinstance(command, Submit):
            self.submitted[command.sequence_id] = perf_counter()
        super().accept(command)

    def step(self) -> StepReport:
        began, checked_at = perf_counter(), self._work_checked_at
        report = super().step()
        ended = perf_counter()
        shape = self._recorder.take()
        if shape is not None:
            between = 0.0 if self._previous_end is None else checked_at - self._previous_end
            self.steps.append(TimedStep(shape, began, ended, ended - began + between))
        for output in report.outputs:
            if output.sequence_id not in self.first_out:
                self.first_out[output.sequence_id] = ended
        self._previous_end = ended if self.has_work else None
        return report


def beside(steps: Sequence[TimedStep], others: Sequence[Sequence[TimedStep]]) -> list[bool]:
    """For each step, whether another engine computed at its midpoint."""
    disturbed = [False] * len(steps)
    for other in others:
        place = 0
        for number, step in enumerate(steps):
            middle = step.ended - step.period / 2
            while place < len(other) and other[place].ended < middle:
                place += 1
            if place < len(other) and other[place].ended - other[place].period <= middle:
                disturbed[number] = True
    return disturbed
