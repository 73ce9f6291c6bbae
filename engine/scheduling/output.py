"""One sequence's output: text safe to emit, and the reason why it ends."""

from collections.abc import Container

from engine.messages import FinishReason
from engine.sampling.params import SamplingParams
from engine.text.stop import StopMatcher
from engine.text.tokenizer import Detokenizer


class Output:
    """Takes sampled tokens one by one and returns the text that is safe to emit.

    After `push` or `end` has set `reason`, the returned text was the last.
    """

    def __init__(
        self, params: SamplingParams, detokenizer: Detokenizer, *, eos_ids: Container[int], max_tokens: int
    ) -> None:
        """`eos_ids`: end tokens that apply to this request. `max_tokens`: limit by request and engine."""
        self._detokenizer = detokenizer
        self._matcher = StopMatcher(params.stop) if params.stop else None
        self._ends = (params.stop_token_ids, eos_ids)
        self._min_tokens = params.min_tokens
        self._max_tokens = max_tokens
        self._show_stop = params.include_stop_str_in_output
        self._count = 0
        self.reason: FinishReason | None = None
        self.stop: str | int | None = None
        """The stop string, or the stop token of the request, that ended the output."""

    def push(self, token_id: int, *, last: bool = False) -> str:
        """The text that this token makes safe to emit. `last`: the token completes a grammar.

        An end token has no text, unless the request includes stop strings in the output.
        """
        self._count += 1
        stop_ids, eos = self._ends
        if token_id in stop_ids or token_id in eos:
            self.stop = token_id if token_id in stop_ids else None
            text = self._show(self._detokenizer.push(token_id)) if self._show_stop else ""
            return text if self.reason is not None else text + self.end("stop")
        text = self._show(self._detokenizer.push(token_id))
        if self.reason is None and (last or self._count >= self._max_tokens):
            text += self.end("stop" if last else "length")
        return text

    def end(self, reason: FinishReason) -> str:
        """End the output. Returns the text that was held back, in which a stop string can still match."""
        text = self._show(self._detokenizer.flush())
        if self.reason is None:
            self.reason = reason
            if self._matcher:
                text += self._matcher.flush()
        return text

    def _show(self, text: str) -> str:
        matcher = self._matcher
        if matcher is None or self._count <= self._min_tokens:
            return text
        shown = matcher.push(text)
        if matcher.matched is not None:
            self.reason = "stop"
            self.stop = matcher.matched
            if self._show_stop:
                shown += matcher.matched
        return shown
