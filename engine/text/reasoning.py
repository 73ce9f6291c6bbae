"""Reasoning of models that think: a block between two markers at the beginning of an answer, before its content.

A chat template may open the block itself, at the end of the prompt; then the answer begins inside of it. White space
beside the markers belongs to neither part. Markers further on in an answer are content.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

_SPACE = " \t\r\n"


class ReasoningMarkers(msgspec.Struct, frozen=True):
    """Texts that enclose an answer's reasoning."""

    open: str
    close: str

    def opened_by(self, prompt: str) -> bool:
        """Whether a prompt with this end has opened the block."""
        return prompt.rstrip(_SPACE).endswith(self.open)


PRESETS: Mapping[str, ReasoningMarkers] = {
    "think": ReasoningMarkers("<think>", "</think>"),
    "thinking": ReasoningMarkers("<thinking>", "</thinking>"),
    "reasoning": ReasoningMarkers("<reasoning>", "</reasoning>"),
    "seed": ReasoningMarkers("<seed:think>", "</seed:think>"),
    "brackets": ReasoningMarkers("[THINK]", "[/THINK]"),
}
"""By the word of the setting `reasoning`: Qwen, DeepSeek and others; Seed; Mistral."""
MARKER_TEXTS = tuple([text for each in PRESETS.values() for text in (each.open, each.close)])


class SplitText(msgspec.Struct, frozen=True):
    """What is certain now."""

    reasoning: str = ""
    content: str = ""


class ReasoningParser:
    """Incremental parser of one answer. Pass all text to `push`, in order, then call `end`."""

    def __init__(self, markers: ReasoningMarkers, *, opened: bool) -> None:
        """`opened`: the prompt has opened the block. A model may open it once more."""
        self._markers = markers
        self._state: Literal["start", "inside", "after", "content"] = "start"
        self._is_empty = True
        """Nothing but white space has come inside the block."""
        self._held = ""
        self.has_block = opened
        """The answer has reasoning; certain once `in_content`, or once some was returned."""

    @property
    def in_content(self) -> bool:
        """The block is closed, or there is none."""
        return self._state in {"after", "content"}

    def push(self, text: str) -> SplitText:
        """Add text; return what it makes certain. What may be the beginning of a marker is held back."""
        if self._state == "content":
            return SplitText(content=text)
        self._held += text
        if self._state == "start":
            self._start()
        reasoning = self._inside() if self._state == "inside" else ""
        if self._state == "after":
            self._held = self._held.lstrip(_SPACE)
            self._state = "content" if self._held else "after"
        content = ""
        if self._state == "content":
            content, self._held = self._held, ""
        return SplitText(reasoning, content)

    def end(self) -> SplitText:
        """End the answer: what was held back is no marker."""
        held, self._held = self._held, ""
        return SplitText(reasoning=held.rstrip(_SPACE)) if self.has_block else SplitText(content=held)

    def _start(self) -> None:
        opening, rest = self._markers.open, self._held.lstrip(_SPACE)
        if rest.startswith(opening):
            self._held = rest[len(opening) :]
            self.has_block = True
            self._state = "inside"
        elif not opening.startswith(rest):
            self._state = "inside" if self.has_block else "content"

    def _inside(self) -> str:
        held, closing = self._held, self._markers.close
        if self._is_empty:
            held = held.lstrip(_SPACE)
        at = held.find(closing)
        if at >= 0:
            self._held = held[at + len(closing) :]
            self._state = "after"
            return held[:at].rstrip(_SPACE)
        partial = next(size for size in range(len(closing) - 1, -1, -1) if held.endswith(closing[:size]))
        certain = held[: len(held) - partial].rstrip(_SPACE)
        self._held = held[len(certain) :]
        self._is_empty = self._is_empty and not certain
        return certain
