"""What request number N of a run is: it follows from the scenario, its seed and N alone.

So workers need no list of requests: each makes those of its numbers, and a run can be repeated.
"""

import bisect
import itertools
from collections.abc import Sequence
from functools import lru_cache
from random import Random

import msgspec

from loadtests.model.lengths import SessionSettings
from loadtests.model.scenario import RequestKind, Scenario
from loadtests.schedule.draws import draw_length, draw_pause
from loadtests.schedule.traced_request import TracedRequest
from loadtests.schedule.traced_texts import TracedTexts
from loadtests.schedule.words import WORDS

_DEFAULT_MIX = (RequestKind(),)


class TurnPlan(msgspec.Struct, frozen=True):
    """One request of a session; a single request is a session of one turn."""

    text: str
    """What the user says, without the history."""
    max_tokens: int
    pause_s: float = 0.0
    """From the end of the answer before it."""
    by_tool: bool = False


class RequestPlan(msgspec.Struct, frozen=True):
    """An arrival: its kind, and its turns."""

    number: int
    kind: RequestKind
    kind_index: int
    system: str
    """The shared prefix; "": none."""
    turns: tuple[TurnPlan, ...]


class Planner:
    """Makes the plans of one scenario."""

    def __init__(self, scenario: Scenario, trace: Sequence[TracedRequest] = ()) -> None:
        """`trace`: gives the lengths of requests by their numbers, if there is one."""
        self._seed = scenario.seed
        self._trace = trace
        self._blocks = TracedTexts(scenario.seed)
        self._scenario = scenario
        self.mix = scenario.mix or _DEFAULT_MIX
        self._limits = list(itertools.accumulate(kind.weight for kind in self.mix))

    def plan(self, number: int) -> RequestPlan:
        """The request, or session, of this number."""
        rng = _seeded(f"{self._seed}/{number}")
        index = min(bisect.bisect_right(self._limits, rng.random() * self._limits[-1]), len(self.mix) - 1)
        if self._trace:
            return self._traced(number, rng)
        kind = self.mix[index]
        session = self._scenario.sessions.get(kind.session) if kind.session else None
        count = 1 if session is None else draw_length(session.turns, rng)
        turns = tuple([self._turn(kind, session if place else None, rng) for place in range(count)])
        return RequestPlan(number, kind, index, self._prefix(kind, rng), turns)

    def _traced(self, number: int, rng: Random) -> RequestPlan:
        """One of the kinds of its tenant, if the mix has any; else of all."""
        traced = self._trace[number]
        mine = [place for place, kind in enumerate(self.mix) if kind.tenant and kind.tenant == traced.tenant]
        places = mine or list(range(len(self.mix)))
        index = rng.choices(places, [self.mix[place].weight for place in places])[0]
        kind = self.mix[index]
        text = self._blocks.text(traced, rng)
        return RequestPlan(number, kind, index, self._prefix(kind, rng), (TurnPlan(text, traced.output_tokens),))

    def _turn(self, kind: RequestKind, session: SessionSettings | None, rng: Random) -> TurnPlan:
        tokens, max_tokens = draw_length(kind.prompt, rng), draw_length(kind.output, rng)
        text = " ".join(rng.choices(WORDS, k=tokens))
        if session is None:
            return TurnPlan(text, max_tokens)
        by_tool = rng.random() < session.tool_share
        return TurnPlan(text, max_tokens, draw_pause(session.tool if by_tool else session.think, rng), by_tool)

    def _prefix(self, kind: RequestKind, rng: Random) -> str:
        prefix = self._scenario.prefixes.get(kind.prefix) if kind.prefix else None
        if prefix is None:
            return ""
        variant = rng.randrange(prefix.variants)
        own = _seeded(f"{self._seed}/prefix/{kind.prefix}/{variant}")
        return _prefix_text(f"{self._seed}/prefix/{kind.prefix}/{variant}", draw_length(prefix.tokens, own))


@lru_cache(maxsize=256)
def _prefix_text(seed: str, tokens: int) -> str:
    return " ".join(_seeded(seed).choices(WORDS, k=tokens))


def _seeded(text: str) -> Random:
    return Random(text)  # noqa: S311  (no secret)
