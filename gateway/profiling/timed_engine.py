"""An engine that records the times of its steps while it serves, for `penstock engine profile`."""

from collections.abc import Sequence
from time import perf_counter

import msgspec

from config.model.settings import EngineSettings
from engine.core.engine import Engine
from engine.messages import Command, StepReport, Submit
from engine.sampling.defaults import API_DEFAULTS, SamplingDefaults
from engine.scheduling.batch import Runner
from engine.text.tokenizer import Tokenizer
from gateway.profiling.measure import RecordingRunner
from gateway.profiling.profile import StepShape


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

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        settings: EngineSettings,
        *,
        name: str = "engine",
        defaults: SamplingDefaults = API_DEFAULTS,
    ) -> None:
        self._recorder = RecordingRunner(runner)
        super().__init__(self._recorder, tokenizer, settings, name=name, defaults=defaults)
        self.steps: list[TimedStep] = []
        self.submitted: dict[int, float] = {}
        """By sequence id, in order: when the sequence was submitted."""
        self.first_out: dict[int, float] = {}
        """By sequence id: when the step that generated its first token ended."""
        self._goes_on_from: float | None = None
        self._asked = 0.0
        """When `has_work` was last read: right before the loop waits for its time slice."""

    def forget(self) -> None:
        """Clear the records; between two steps only."""
        self.steps.clear()
        self.submitted.clear()
        self.first_out.clear()

    @property
    def has_work(self) -> bool:
        self._asked = perf_counter()
        return super().has_work

    def accept(self, command: Command) -> None:
        if isinstance(command, Submit):
            self.submitted[command.sequence_id] = perf_counter()
        super().accept(command)

    def step(self) -> StepReport:
        began, asked_at = perf_counter(), self._asked
        report = super().step()
        ended = perf_counter()
        shape = self._recorder.take()
        if shape is not None:
            between = 0.0 if self._goes_on_from is None else asked_at - self._goes_on_from
            self.steps.append(TimedStep(shape, began, ended, ended - began + between))
        for output in report.outputs:
            if output.sequence_id not in self.first_out:
                self.first_out[output.sequence_id] = ended
        self._goes_on_from = ended if self.has_work else None
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
