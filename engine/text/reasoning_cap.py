"""A cap on the tokens of an answer's reasoning: when it is reached, the closing marker is written for the model.

Which tokens are forced depends on the output before them only. So they are the same whatever the batch, with drafts and
without, and where another engine goes on with the answer.
"""

from collections.abc import Sequence

import msgspec

from engine.text.reasoning import ReasoningMarkers
from engine.text.token_bytes import SpellToken

_SPACE = b" \t\r\n"


class ReasoningCap(msgspec.Struct, frozen=True):
    """For one sequence."""

    tokens: int
    """Of the reasoning, its markers included; fewer than the closing marker needs count as that and one more."""
    markers: ReasoningMarkers
    closing: tuple[int, ...]
    """The tokens of the closing marker."""
    opened: bool
    """The prompt has opened the block."""

    @property
    def forced_from(self) -> int:
        """From so many output tokens on the next one is the closing marker's, where the block is still open."""
        return max(self.tokens - len(self.closing), 1)


class CapState:
    """Of one sequence: has consumed `output_prefix` and all output tokens."""

    __slots__ = ("_cap", "_closing", "_consumed", "_opening", "_spell", "_text", "inside", "over")

    def __init__(self, cap: ReasoningCap, spell: SpellToken) -> None:
        """`spell`: the bytes of a token in the output's text."""
        self._cap = cap
        self._spell = spell
        self._opening, self._closing = cap.markers.open.encode(), cap.markers.close.encode()
        self._text = b""
        """What may contain the beginning of a marker."""
        self.inside = cap.opened
        """The block is open."""
        self._consumed = 0
        self.over = False
        """The block is closed, or there is none."""

    def advance(self, token_ids: Sequence[int]) -> None:
        """Consume output tokens."""
        for token_id in token_ids:
            if self.over:
                return
            self._consumed += 1
            self._text += self._spell(token_id)
            if not self.inside:
                self._open()
            if self.inside:
                self._close()

    def may_force(self, output: int) -> bool:
        """Whether the token after so many output tokens, or the one after that, may be forced."""
        return not self.over and output + 1 >= self._cap.forced_from

    def forced(self, output: Sequence[int]) -> int | None:
        """The token that has to follow `output`, which begins with the consumed tokens; None: any may."""
        if self.over or len(output) < self._cap.forced_from:
            return None
        state = self
        if drafted := output[self._consumed :]:
            state = self._copy()
            state.advance(drafted)
        if state.over or not state.inside:
            return None
        closing = self._cap.closing
        sizes = range(min(len(closing) - 1, len(output)), -1, -1)
        written = next(size for size in sizes if tuple(output[len(output) - size :]) == closing[:size])
        return closing[written]

    def _copy(self) -> "CapState":
        copied = CapState(self._cap, self._spell)
        copied._text, copied.inside, copied._consumed = self._text, self.inside, self._consumed
        return copied

    def _open(self) -> None:
        rest = self._text.lstrip(_SPACE)
        if rest.startswith(self._opening):
            self.inside, self._text = True, rest[len(self._opening) :]
        else:
            self.over = not self._opening.startswith(rest)

    def _close(self) -> None:
        self.over = self._closing in self._text
        self._text = self._text[-len(self._closing) :]
