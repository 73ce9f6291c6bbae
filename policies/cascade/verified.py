"""Speculative decoding across backends (mode "verified"): when the small model drafts for the large one, and how much.

The client receives only tokens of the large model; a draft lets it produce several of them in one step. So no decision
here changes an answer, and none delays the large model once it runs: it generates tokens itself while the next draft is
made, and a draft that arrives late is of less or no use.

A round is one draft and its verification. The length of the next draft doubles if all tokens were accepted, else it is
twice the number of accepted ones. After two unprofitable rounds in a row drafting ends for the rest of the answer.
"""

from collections import deque
from collections.abc import Sequence

import msgspec

from policies.errors import IntegrityError

_MIN_DRAFT_TOKENS = 4
_MIN_ACCEPTED = 2
"""A round that accepts fewer tokens is unprofitable."""
_MAX_POOR_ROUNDS = 2
_DRAFT_TIME_SHARE = 0.25
"""Share of the time until the answer's deadline that one draft may take."""


class Draft(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Let the small model draft up to `tokens` tokens after the answer so far."""

    tokens: int


class ExpectDraft(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Pass a draft to the large model that continues its first `after` tokens. The first draft also starts it."""

    after: int
    token_ids: tuple[int, ...]


def draft_deadline(now: float, deadline: float) -> float:
    """The time until which a draft that begins at `now` may take, when the answer must end by `deadline`."""
    return now + max(deadline - now, 0.0) * _DRAFT_TIME_SHARE


def max_drafted_tokens(output_tokens: int, draft_tokens: int) -> int:
    """An upper bound on the tokens that the small model drafts for an answer of `output_tokens`.

    After the first draft, a draft has at most twice the tokens that were accepted or generated since the previous one,
    or `_MIN_DRAFT_TOKENS` after a poor round. There are at most as many poor rounds as profitable ones (which accept
    `_MIN_ACCEPTED` each) plus `_MAX_POOR_ROUNDS`.
    """
    poor_rounds = output_tokens // _MIN_ACCEPTED + _MAX_POOR_ROUNDS
    return draft_tokens + 2 * output_tokens + _MIN_DRAFT_TOKENS * poor_rounds


class VerifiedMachine:
    """The drafting for one answer. `batch` is the number of sequences that the large model's engine runs."""

    def __init__(self, *, draft_tokens: int, off_above_batch: int, max_tokens: int) -> None:
        """`max_tokens`: limit of the whole answer."""
        self._length = self._max_length = draft_tokens
        self._off_above = off_above_batch
        self._max_tokens = max_tokens
        self._output_tokens = 0
        """Tokens of the large model so far."""
        self.drafting = False
        self._draft: list[int] = []
        self._since: list[int] = []
        """Tokens of the large model since the current draft began."""
        self._expected: deque[int] = deque()
        """The part of the last draft that is not verified yet."""
        self._round = 0
        """Tokens passed to the large model in this round."""
        self._round_accepted = 0
        self._poor_rounds = 0
        self._end_reason = ""
        """Why drafting has ended; "" while it continues."""
        self.rounds = 0
        """Drafts passed to the large model."""
        self.drafted = 0
        self.accepted = 0

    @property
    def alone(self) -> bool:
        """Drafting has ended: the large model finishes the answer alone."""
        return bool(self._end_reason)

    @property
    def why(self) -> str:
        """Reason code of the answer: "verified" if a draft was used, else why none was."""
        return "verified" if self.drafted else self._end_reason or "nothing_drafted"

    def begin(self, batch: int) -> Draft | None:
        return self._next(batch)

    def on_draft(self, token_ids: Sequence[int]) -> None:
        if self.drafting:
            self._draft += token_ids

    def on_draft_end(self, trouble: str = "") -> ExpectDraft | None:
        """The current draft is complete, or ended early. `trouble`: a reason code if drafting must end altogether."""
        if trouble and not self._end_reason:
            self._end_reason = trouble
        if not self.drafting:
            return None
        self.drafting = False
        draft, since = self._draft, self._since
        self._draft, self._since = [], []
        overlap = len(since)
        new_tokens = tuple(draft[overlap:]) if draft[:overlap] == since else ()
        new_tokens = new_tokens[: max(self._max_tokens - self._output_tokens - 1, 0)]
        if not new_tokens:
            self._judge(0, 0)
            return None
        self._expected = deque(new_tokens)
        self._round, self._round_accepted = len(new_tokens), 0
        self.rounds += 1
        self.drafted += len(new_tokens)
        return ExpectDraft(self._output_tokens, new_tokens)

    def on_output(self, token_ids: Sequence[int], batch: int) -> Draft | None:
        """Further tokens of the large model. Returns the next draft to make, if it is time for one."""
        had_expected = bool(self._expected)
        for token_id in token_ids:
            self._output_tokens += 1
            if self._expected:
                if self._expected[0] == token_id:
                    self._expected.popleft()
                    self._round_accepted += 1
                    self.accepted += 1
                else:
                    self._expected.clear()
        if self.drafting:
            self._since += token_ids
        if had_expected and not self._expected:
            self._judge(self._round_accepted, self._round)
        return None if self.drafting or self._expected else self._next(batch)

    def _judge(self, accepted: int, given: int) -> None:
        self._poor_rounds = 0 if accepted >= _MIN_ACCEPTED else self._poor_rounds + 1
        best = self._length if given and accepted == given else accepted
        self._length = min(max(2 * best, _MIN_DRAFT_TOKENS), self._max_length)

    def _next(self, batch: int) -> Draft | None:
        if self.alone:
            return None
        count = min(self._length, self._max_tokens - self._output_tokens - 1)
        if batch > self._off_above:
            self._end_reason = "large_busy"
        elif self._poor_rounds >= _MAX_POOR_ROUNDS:
            self._end_reason = "poor_drafts"
        elif count < min(_MIN_DRAFT_TOKENS, self._max_length):
            self._end_reason = "too_short"
        else:
            self.drafting = True
            return Draft(count)
        return None

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if the counts contradict each other."""
        if not self.accepted + len(self._expected) <= self.drafted or self.accepted > self._output_tokens:
            raise IntegrityError("more draft tokens were accepted than were drafted or output")
        if self.drafting and self._expected:
            raise IntegrityError("two drafts at once")
        if len(self._since) > self._output_tokens or (not self.drafting and (self._draft or self._since)):
            raise IntegrityError("tokens of a draft are kept, but no draft is being made")
