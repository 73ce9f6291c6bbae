"""One engine on the virtual clock: the engine's own scheduler and block manager, with the profile's step costs.

As in the real step loop, commands are drained between two steps, a turn is waited for when there is work, if engines
take turns, and what a step brought is heard while the next one runs. Steps in which nothing happens but one more token
for everybody are taken many at once ("a run"), lazily: a run is carried out as far as the clock has come whenever
somebody looks, and cut after the step in hand when a command comes.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable

import numpy as np

from config.model.settings import EngineSettings
from engine.messages import EngineStats
from engine.scheduling.plan import Share, shares_of
from engine.scheduling.scheduler import Scheduler
from gateway.profiling.profile import BadProfile, EngineProfile, EngineTimes, shape_of
from gateway.simulation.replayed_sequence import Replayed
from gateway.simulation.turns import SimulatedTimeSlices

_NEVER = float("inf")
_LONGEST_RUN = 1024


class SimulatedEngine:
    """Everything that moves is in here; the world asks when it is due and tells it what comes."""

    def __init__(
        self,
        name: str,
        settings: EngineSettings,
        profile: EngineProfile,
        order: tuple[int, ...],
        *,
        title: str,
        leaps: bool,
        calm: Callable[[], bool],
        beside: Callable[[], bool],
        turned: Callable[[float], None],
        turns: SimulatedTimeSlices | None,
    ) -> None:
        """`title`: no other replica has it. `order`: see `EngineTimes`. `leaps` False takes every step by itself.

        `calm`: no step by itself makes room for what waits in front of the engine. `beside`: another engine computes.
        `turned` is called when this one begins to compute, or does so no more. `turns` None: it computes when it likes.

        Raises BadProfile if nothing fits into its KV memory.
        """
        block_size = settings.kv.block_size
        total = (settings.kv.memory or profile.kv_bytes) // (profile.kv_token_bytes * block_size)
        if total < 2:
            raise BadProfile(f"engine '{name}': by this profile its KV memory holds no block of {block_size} tokens")
        self.name = name
        self.title = title
        self.max_model_len = min(settings.max_model_len or profile.max_model_len, profile.max_model_len)
        self.max_model_len = min(self.max_model_len, (total - 1) * block_size)
        self.due = _NEVER
        """When the step or the run in hand ends."""
        self.made: dict[str, int] = {}
        """Output tokens by tenant that the fair queue has not been charged."""
        self.gaps = array("d")
        """Between two tokens of readers who see them as they come ..."""
        self.weights = array("l")
        """... and how many of them saw this gap."""
        self.busy_s = 0.0
        self._scheduler = Scheduler(
            settings, total_blocks=total, block_size=block_size, max_model_len=self.max_model_len
        )
        self._clockwork = EngineTimes(profile, settings.max_step_tokens, order)
        self._total = total - 1
        self._leaps = leaps
        self._calm = calm
        self._beside = beside
        self._turned = turned
        self._turns = turns
        self._waits = False
        """For its turn. Commands that come in the meantime are obeyed after the step that it gets."""
        self._took = 0.0
        """What the last step of those planned has used of the turn."""
        self.feels_others = profile.beside is not None
        self._inbox: list[tuple[Replayed, bool]] = []
        """(sequence, whether it is wanted)"""
        self._shares: list[Share] | None = None
        """Of the step in hand; None: a run, or nothing."""
        self._ends: list[float] = []
        """Of the steps of the run in hand that are still to be carried out."""
        self._began = 0.0
        """The step in hand, or the last one that was carried out, ended or began here."""
        self._steps = 0
        self._generated = 0
        self._prompts = 0
        self._stats = self._look()

    @property
    def busy(self) -> bool:
        """It is in a step."""
        return self.due < _NEVER

    def tell(self, now: float, start: Iterable[Replayed], drop: Iterable[Replayed] = ()) -> None:
        """Commands, obeyed at the next boundary between two steps."""
        for sequence in start:
            self._prompts += sequence.known
            self._inbox.append((sequence, True))
        self._inbox += [(sequence, False) for sequence in drop]
        if self.busy:
            self.cut(now)
        elif not self._waits:
            self._begin(now, was_busy=False)

    def stats(self, now: float) -> EngineStats:
        """What its last step reported."""
        self.catch_up(now)
        return self._stats

    def catch_up(self, now: float) -> None:
        """Carry out the run in hand as far as the clock has come."""
        if self._ends and self._ends[0] <= now:
            self._carry_out(bisect_right(self._ends, now))

    def cut(self, now: float) -> None:
        """The run in hand ends after the present step: things are not what they were when it began."""
        self.catch_up(now)
        if len(self._ends) > 1:
            del self._ends[1:]
            self.due = self._ends[0]

    def check_integrity(self) -> None:
        """See `Scheduler`."""
        self._scheduler.check_integrity()

    def on_due(self, now: float) -> list[Replayed]:
        """The step or run in hand has ended. The next one begins; then who has come to its `stop` is heard of."""
        if self._shares is not None:
            heard = self._finish_step(self._shares, now)
        else:
            self.catch_up(now)
            heard = [sequence for sequence in self._running() if sequence.known >= sequence.stop]
        for sequence in heard:
            if sequence.known >= sequence.end:
                self._scheduler.finish(sequence)
        self._stats = self._look()
        self.due = _NEVER
        if self._turns is not None:
            self._turns.done(self.title, self._took, now, more=self._scheduler.has_work)
        self._begin(now, was_busy=True)
        return heard

    def on_turn(self, now: float) -> None:
        """What it has waited for. Its work may have been dropped meanwhile."""
        self._waits = False
        if self._scheduler.has_work:
            self._plan(now)
            if self._inbox:
                self.cut(now)
            self._turned(now)
        elif self._turns is not None:
            self._turns.done(self.title, 0.0, now, more=False)

    def _begin(self, now: float, *, was_busy: bool) -> None:
        inbox, self._inbox = self._inbox, []
        self._obey(inbox)
        if self._scheduler.has_work:
            self._waits = self._turns is not None and not self._turns.ask(self.title, now)
            if not self._waits:
                self._plan(now)
        if self.busy != was_busy:
            self._turned(now)

    def _obey(self, inbox: list[tuple[Replayed, bool]]) -> None:
        scheduler = self._scheduler
        for sequence, wanted in inbox:
            if wanted:
                scheduler.add(sequence)
            elif not sequence.finished:
                scheduler.finish(sequence)

    def _plan(self, now: float) -> None:
        """Of what there is work for."""
        scheduler = self._scheduler
        self._shares = None
        self._ends = []
        self._began = now
        if self._leaps and scheduler.running and self._calm() and (self._turns is None or self._turns.calm):
            running = self._running()
            nearest = min([sequence.stop - sequence.known for sequence in running])
            if nearest > 1 and (steps := scheduler.quiet_steps(min(nearest, _LONGEST_RUN))) > 1:
                context = sum([sequence.known for sequence in running])
                ends = self._clockwork.decodes(now, len(running), context, self._steps, steps, beside=self._beside())
                self._ends = ends.tolist()
                self.due = self._ends[-1]
                return
        self._shares = shares_of(scheduler.decide())
        self.due = now + self._clockwork.step(shape_of(self._shares), self._steps, beside=self._beside())

    def _finish_step(self, shares: list[Share], now: float) -> list[Replayed]:
        heard = []
        together = 0
        for sequence in self._scheduler.commit(shares):
            if sequence is None:
                continue
            assert isinstance(sequence, Replayed)
            sequence.known += 1
            self._generated += 1
            tenant = sequence.tenant[1]
            self.made[tenant] = self.made.get(tenant, 0) + 1
            if sequence.visible:
                if sequence.at == self._began:
                    together += 1
                else:
                    self._note_gap(now - sequence.at, 1)
            sequence.at = now
            if sequence.known >= sequence.stop:
                heard.append(sequence)
        if together:
            self._note_gap(now - self._began, together)
        self._took = now - self._began
        self.busy_s += self._took
        self._steps += 1
        return heard

    def _carry_out(self, steps: int) -> None:
        ends = self._ends
        now, visible = ends[steps - 1], 0
        for sequence in self._running():
            sequence.known += steps
            tenant = sequence.tenant[1]
            self.made[tenant] = self.made.get(tenant, 0) + steps
            if sequence.visible:
                visible += 1
                if sequence.at != self._began:
                    # It had missed a step before: its first gap is its own.
                    self._note_gap(ends[0] - sequence.at, 1)
                    self._note_gap(ends[0] - self._began, -1)
            sequence.at = now
        self._scheduler.advance(steps)
        self._generated += steps * len(self._scheduler.running)
        self._steps += steps
        if visible:
            self.gaps.extend(np.diff(np.array([self._began, *ends[:steps]])).tolist())
            self.weights.extend([visible] * steps)
        self.busy_s += now - self._began
        if self._turns is not None:
            for end in ends[:steps]:
                self._took, self._began = end - self._began, end
                if end != ends[-1]:
                    self._turns.used(self.title, self._took)
        del ends[:steps]
        self._began = now
        if ends:
            # Nothing was heard of, so the report is that of a step that brought tokens alone.
            self._stats = self._look()

    def _note_gap(self, gap: float, weight: int) -> None:
        self.gaps.append(gap)
        self.weights.append(weight)

    def _running(self) -> list[Replayed]:
        return self._scheduler.running  # type: ignore[return-value]  # it holds what was submitted here

    def _look(self) -> EngineStats:
        now = self._scheduler.statistics()
        return EngineStats(
            total_blocks=self._total,
            free_blocks=now.blocks.free + now.blocks.cached,
            cached_blocks=now.blocks.cached,
            running=now.running,
            waiting=now.waiting,
            outstanding_tokens=now.outstanding_tokens,
            steps_total=self._steps,
            preemptions_total=now.preemptions_total,
            prefix_queries_total=now.prefix_queries_total,
            prefix_hits_total=now.prefix_hits_total,
            prompt_tokens_total=self._prompts,
            generation_tokens_total=self._generated,
        )
