"""An engine that records the time of its steps while it serves, for `penstock engine profile`."""

from collections.abc import Sequence
from time import perf_counter

import msgspec

from config.model.settings import EngineSettings
from engine.core.engine import Engine
from engine.core.messages import Command, StepReport, Submit
from engine.sampling.defaults import API_DEFAULTS, SamplingDefaults
from engine.scheduling.batch import Runner
from engine.text.tokenizer import Tokenizer
from gateway.profiling.measure import Spy
from gateway.profiling.profile import StepShape


class TimedStep(msgspec.Struct, frozen=True, gc=False):
    """One step as it was served. Times are those of `perf_counter`."""

    shape: StepShape
    began: float
    ended: float
    period: float
    """From the end of the step before, if work was left then: what a token takes, with all that happens between two
    steps, but for the wait for a turn."""


class TimedEngine(Engine):
    """Does what `Engine` does, in the engine's own thread. Its books may be read while that idles, or has ended."""

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        settings: EngineSettings,
        *,
        name: str = "engine",
        defaults: SamplingDefaults = API_DEFAULTS,
    ) -> None:
        self._spy = Spy(runner)
        super().__init__(self._spy, tokenizer, settings, name=name, defaults=defaults)
        self.steps: list[TimedStep] = []
        self.submitted: dict[int, float] = {}
        """When a request's sequence came in, by its id, in order."""
        self.first_out: dict[int, float] = {}
        """When the step that brought its first token ended."""
        self._goes_on_from: float | None = None
        self._asked = 0.0
        """When it said last whether there is work: right before the loop waits for its turn."""

    def forget(self) -> None:
        """Begin anew, between two steps."""
        self.steps.clear()
        self.submitted.clear()
        self.first_out.clear()

    @property
    def has_work(self) -> bool:
        """See `Engine`."""
        self._asked = perf_counter()
        return super().has_work

    def accept(self, command: Command) -> None:
        """See `Engine`."""
        if isinstance(command, Submit):
            self.submitted[command.sequence_id] = perf_counter()
        super().accept(command)

    def step(self) -> StepReport:
        """See `Engine`."""
        began, asked = perf_counter(), self._asked
        report = super().step()
        ended = perf_counter()
        shape = self._spy.take()
        if shape is not None:
            between = 0.0 if self._goes_on_from is None else asked - self._goes_on_from
            self.steps.append(TimedStep(shape, began, ended, ended - began + between))
        for output in report.outputs:
            if output.sequence_id not in self.first_out:
                self.first_out[output.sequence_id] = ended
        self._goes_on_from = ended if self.has_work else None
        return report


def beside(steps: Sequence[TimedStep], others: Sequence[Sequence[TimedStep]]) -> list[bool]:
    """For each step whether another engine computed in the middle of it."""
    found = [False] * len(steps)
    for other in others:
        place = 0
        for number, step in enumerate(steps):
            middle = step.ended - step.period / 2
            while place < len(other) and other[place].ended < middle:
                place += 1
            if place < len(other) and other[place].ended - other[place].period <= middle:
                found[number] = True
    return found
