"""When the small model drafts for the large one, how much, and when the large one had better go on alone.

The reader gets what the large model says and nothing else: a draft only lets it say several tokens in one step. So no
decision here can change an answer, and none can hold the large model up once it has begun: it goes on saying tokens of
its own while the next draft is made, and a draft that comes too late is worth less or nothing.

A round is a draft and what became of it. Its length follows what was accepted: doubled if everything was, else twice
what was right. Two rounds in a row that were not worth it, and the large model goes on alone, for good.
"""

from collections import deque
from collections.abc import Sequence

import msgspec

from policies.errors import IntegrityError

_SHORTEST = 4
"""A draft of fewer tokens is not worth asking for."""
_WORTH = 2
"""Accepted tokens that pay for a round."""
_POOR_ROUNDS = 2
"""So many in a row end the drafting."""
_PATIENCE = 0.25


class Draft(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Let the small model go on after all that was said so far, by so many tokens at the most."""

    tokens: int


class ExpectDraft(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Give the large model a draft of what follows its first `after` tokens; the first one is what it begins with."""

    after: int
    token_ids: tuple[int, ...]


def patience_until(now: float, deadline: float) -> float:
    """How long to wait for the first draft before the large model begins with what there is of it."""
    return now + max(deadline - now, 0.0) * _PATIENCE


def most_drafted(output_tokens: int, draft_tokens: int) -> int:
    """Tokens that the small model may draft for an answer of so many, however badly it goes.

    After the first draft, each one is at most twice what was accepted or said since the one before, or a shortest one
    after a poor round; of those there are at most as many as of good ones (which accept `_WORTH`), and `_POOR_ROUNDS`.
    """
    return draft_tokens + 2 * output_tokens + _SHORTEST * (output_tokens // _WORTH + _POOR_ROUNDS)


class VerifiedMachine:
    """One answer. `said` is what the large model says; `batch` is how many sequences it runs."""

    def __init__(self, *, draft_tokens: int, off_above_batch: int, max_tokens: int) -> None:
        """`max_tokens`: of the whole answer."""
        self._length = self._most = draft_tokens
        self._off_above = off_above_batch
        self._max_tokens = max_tokens
        self._said = 0
        self._drafting = False
        self._draft: list[int] = []
        self._since: list[int] = []
        """Said since the draft under way was begun."""
        self._expected: deque[int] = deque()
        self._round = 0
        """Tokens given in this round."""
        self._round_accepted = 0
        self._poor = 0
        self._why_alone = ""
        self.rounds = 0
        """Drafts that the large model was given."""
        self.drafted = 0
        """Tokens in them."""
        self.accepted = 0

    @property
    def alone(self) -> bool:
        """The large model goes on by itself, to the end."""
        return bool(self._why_alone)

    @property
    def drafting(self) -> bool:
        """The small model is at it."""
        return self._drafting

    @property
    def why(self) -> str:
        """Of the answer: "verified" if anything was drafted; else why nothing was."""
        return "verified" if self.drafted else self._why_alone or "nothing_drafted"

    def begin(self, batch: int) -> Draft | None:
        """None: the large model begins alone."""
        return self._next(batch)

    def on_draft(self, token_ids: Sequence[int]) -> None:
        """The small model has drafted these, too."""
        if self._drafting:
            self._draft += token_ids

    def on_draft_end(self, trouble: str = "") -> ExpectDraft | None:
        """The draft is there, or as much as there will be of it; `trouble`: why the small model drafts no more."""
        if trouble and not self._why_alone:
            self._why_alone = trouble
        if not self._drafting:
            return None
        self._drafting = False
        draft, since = self._draft, self._since
        self._draft, self._since = [], []
        overlap = len(since)
        rest = tuple(draft[overlap:]) if draft[:overlap] == since else ()
        rest = rest[: max(self._max_tokens - self._said - 1, 0)]
        if not rest:
            self._judge(0, 0)
            return None
        self._expected = deque(rest)
        self._round, self._round_accepted = len(rest), 0
        self.rounds += 1
        self.drafted += len(rest)
        return ExpectDraft(self._said, rest)

    def on_said(self, token_ids: Sequence[int], batch: int) -> Draft | None:
        """The large model has said these, too."""
        had = bool(self._expected)
        for token_id in token_ids:
            self._said += 1
            if self._expected:
                if self._expected[0] == token_id:
                    self._expected.popleft()
                    self._round_accepted += 1
                    self.accepted += 1
                else:
                    self._expected.clear()
        if self._drafting:
            self._since += token_ids
        if had and not self._expected:
            self._judge(self._round_accepted, self._round)
        return None if self._drafting or self._expected else self._next(batch)

    def _judge(self, accepted: int, given: int) -> None:
        self._poor = 0 if accepted >= _WORTH else self._poor + 1
        best = self._length if given and accepted == given else accepted
        self._length = min(max(2 * best, _SHORTEST), self._most)

    def _next(self, batch: int) -> Draft | None:
        if self.alone:
            return None
        count = min(self._length, self._max_tokens - self._said - 1)
        if batch > self._off_above:
            self._why_alone = "large_busy"
        elif self._poor >= _POOR_ROUNDS:
            self._why_alone = "poor_drafts"
        elif count < min(_SHORTEST, self._most):
            self._why_alone = "too_short"
        else:
            self._drafting = True
            return Draft(count)
        return None

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if the counts contradict each other."""
        if not self.accepted + len(self._expected) <= self.drafted or self.accepted > self._said:
            raise IntegrityError("more of the drafts was accepted than was given or said")
        if self._drafting and self._expected:
            raise IntegrityError("two drafts at once")
        if len(self._since) > self._said or (not self._drafting and (self._draft or self._since)):
            raise IntegrityError("a draft is kept that nobody makes")
