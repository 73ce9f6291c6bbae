"""Best-effort sequences: they compute where no other sequence needs to, and give way to any of them."""

from collections.abc import Iterable
from collections.abc import Sequence as Items

import msgspec

from config.model.settings import EngineSettings
from config.model.table import AUTO
from engine.scheduling.sequence import Sequence

_CPU_SHARE, _GPU_SHARE = 16, 4
"""A step of best-effort sequences alone takes one in so many tokens of a step: what comes meanwhile waits for its
end. On a CPU a step of few rows makes nearly as many tokens a second as one of many, and is over sooner."""


class BestEffortStatistics(msgspec.Struct, frozen=True):
    """The part of a scheduler's figures that others could have."""

    running: int = 0
    waiting: int = 0
    outstanding_tokens: int = 0
    blocks: int = 0


class BestEffort:
    """How many of them compute in a step. Mutable; owned by the scheduler."""

    def __init__(self, settings: EngineSettings) -> None:
        on_cpu = set(settings.devices or (settings.device,)) == {"cpu"}
        chosen = settings.batch_beside
        self._beside = chosen if chosen != AUTO else 0 if on_cpu else settings.max_running
        share = settings.max_step_tokens // (_CPU_SHARE if on_cpu else _GPU_SHARE)
        self._step_tokens = max(share, 1 if on_cpu else settings.max_running)
        self._max_step_tokens = settings.max_step_tokens
        self.alive = 0
        """Best-effort sequences that have not ended."""

    def allowed(self, running: Items[Sequence], waiting: Items[Sequence]) -> int | None:
        """How many of them may compute in the next step; None: nothing else needs to.

        `waiting` is sorted by `Sequence.order`.
        """
        if not self.alive:
            return None
        waits = bool(waiting) and not waiting[0].best_effort
        others = [each for each in running if not each.best_effort and not each.ending]
        if not waits and not others:
            return None
        # Until its first token comes, a sequence has the steps for itself; decodes are less sensitive.
        prefills = waits or any(each.known - each.computed > 1 for each in others)
        return 0 if prefills else self._beside

    def budget(self, allowed: int | None) -> int:
        """Tokens of the next step."""
        return self._step_tokens if self.alive and allowed is None else self._max_step_tokens

    @staticmethod
    def victim(running: Iterable[Sequence]) -> Sequence | None:
        """The best-effort sequence whose preemption costs least; None: there is none."""
        return min([each for each in running if each.best_effort], key=_computed, default=None)

    def statistics(self, running: Iterable[Sequence], waiting: Iterable[Sequence]) -> BestEffortStatistics:
        if not self.alive:
            return BestEffortStatistics()
        inside = [each for each in running if each.best_effort]
        outside = [each for each in waiting if each.best_effort]
        return BestEffortStatistics(
            running=len(inside),
            waiting=len(outside),
            outstanding_tokens=sum([each.outstanding for each in (*inside, *outside)]),
            blocks=sum([len(each.blocks) for each in inside]),
        )


def _computed(sequence: Sequence) -> int:
    return sequence.computed
