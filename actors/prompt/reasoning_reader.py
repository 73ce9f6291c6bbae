"""Separates one choice's reasoning from its content as it streams, and counts its tokens."""

from collections.abc import Iterable

import msgspec

from actors.api.response import Delta
from actors.prompt.continuation import rest_of
from engine.text.reasoning import ReasoningMarkers, ReasoningParser
from engine.text.tokenizer import Detokenizer


class ReasoningReader:
    """Reader for one attempt at one choice, before its tool calls are read. Sans-IO."""

    def __init__(
        self, markers: ReasoningMarkers, detokenizer: Detokenizer, *, opened: bool, forced_from: int | None = None
    ) -> None:
        """`detokenizer`: new, of this choice. `opened`: the prompt has opened the block.

        `forced_from`: see `ReasoningCap`; None: there is no cap.
        """
        self._parser = ReasoningParser(markers, opened=opened)
        self._tokens = _TokenCount(ReasoningParser(markers, opened=opened), detokenizer, forced_from)
        self._reported = 0
        """Tokens of the reasoning that the client has been sent the number of."""
        self._unsent = ("", "")
        """Reasoning and content."""

    @property
    def capped(self) -> bool:
        """The engine has closed the block, because its cap was reached."""
        return self._tokens.capped

    def replay(
        self, written: str, token_ids: Iterable[int], *, reasoning: str, content: str | None, reported: int
    ) -> str:
        """Take in what an earlier attempt wrote of this choice. Returns its content as far as it is certain.

        `reasoning`, `content`: what the client has, and `reported` its number of reasoning tokens; None: the reader of
        its tool calls knows.
        """
        split = self._parser.push(written)
        self._tokens.add(token_ids)
        self._reported = reported
        self._unsent = rest_of(split.reasoning, reasoning), "" if content is None else rest_of(split.content, content)
        return split.content

    def read(self, delta: Delta) -> Delta:
        """The delta with its text divided."""
        split = self._parser.push(delta.text)
        reasoning, content = self._unsent[0] + split.reasoning, self._unsent[1] + split.content
        self._unsent = ("", "")
        if delta.finish_reason is not None:
            rest = self._parser.end()
            reasoning, content = reasoning + rest.reasoning, content + rest.content
        self._tokens.add(delta.token_ids)
        tokens, self._reported = self._tokens.total - self._reported, self._tokens.total
        if not (reasoning or tokens) and content == delta.text:
            return delta
        return msgspec.structs.replace(delta, text=content, reasoning=reasoning, reasoning_tokens=tokens)


class _TokenCount:
    """Counts the tokens of the reasoning, up to the one that completes its closing marker.

    The text of a delta does not say which token wrote what, where several tokens come at once or a stop string is
    looked for. So each token is read by itself.
    """

    def __init__(self, parser: ReasoningParser, detokenizer: Detokenizer, forced_from: int | None) -> None:
        self._parser = parser
        self._forced_from = forced_from
        self.capped = False
        self._detokenizer = detokenizer
        self._read = 0

    @property
    def total(self) -> int:
        return self._read if self._parser.has_block else 0

    def add(self, token_ids: Iterable[int]) -> None:
        for token_id in token_ids:
            if self._parser.in_content:
                return
            if self._forced_from is not None and self._read >= self._forced_from and self._parser.has_block:
                self.capped = True
            self._read += 1
            self._parser.push(self._detokenizer.push(token_id))
