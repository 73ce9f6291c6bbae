"""Detokenizes an answer that a second engine continues, so that the combined text equals an uninterrupted answer.

The second engine receives the first one's tokens as prompt and detokenizes from there: it would emit half a character
as U+FFFD, strip a space, and miss a stop string that began earlier. So its tokens are detokenized here, after the
tokens already sent, with the request's own stop strings and limits; the second engine gets no stop strings.
"""

from collections.abc import Sequence

import msgspec

from engine.messages import Finish, FinishReason, TokenDelta
from engine.sampling.params import SamplingParams
from engine.scheduling.output import Output
from engine.text.tokenizer import Tokenizer


def params_after(params: SamplingParams, released: int) -> SamplingParams:
    """Sampling parameters for the second engine, after `released` tokens."""
    return msgspec.structs.replace(
        params,
        max_tokens=params.max_tokens - released,
        min_tokens=max(params.min_tokens - released, 0),
        stop=(),
        prompt_logprobs=None,
    )


def rest_of(certain: str, shown: str) -> str:
    """What the client lacks: an engine may have stopped before it emitted all text that its tokens make certain."""
    return certain.removeprefix(shown) if certain.startswith(shown) else ""


class ContinuationDetokenizer:
    """Text of one choice after its `released` tokens."""

    def __init__(
        self,
        params: SamplingParams,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        released: Sequence[int],
        shown: str | None,
        *,
        exact: bool = False,
    ) -> None:
        """`shown`: the text that the client has; None: its reader knows. `exact`: see `Tokenizer.detokenizer`."""
        eos_ids = frozenset() if params.ignore_eos else tokenizer.eos_ids
        detokenizer = tokenizer.detokenizer(prompt, skip_special=params.skip_special_tokens, exact=exact)
        self._output = Output(params, detokenizer, eos_ids=eos_ids, max_tokens=params.max_tokens)
        self.written = "".join([self._output.push(token_id) for token_id in released])
        """The text that the tokens make certain."""
        self._unsent = "" if shown is None else rest_of(self.written, shown)

    @property
    def ended(self) -> bool:
        """The released tokens already complete the answer."""
        return self._output.reason is not None

    def rest(self) -> tuple[str, FinishReason | None, str | int | None]:
        """If the answer has ended: text not sent yet, finish reason, stop string or token."""
        return self._unsent, self._output.reason, self._output.stop

    def carry_on(self, output: TokenDelta) -> TokenDelta:
        """Replace text and finish of the second engine's output."""
        out = self._output
        text, self._unsent = self._unsent, ""
        finish, count = output.finish, 0
        # The engine has no stop strings, so that its last token is an end token or completes the grammar.
        complete = len(output.token_ids) if finish is not None and finish.reason == "stop" else 0
        for token_id in output.token_ids:
            count += 1
            text += out.push(token_id, last=count == complete)
            if out.reason is not None:
                break
        if out.reason is None and finish is not None:
            text += out.end(finish.reason)
        if out.reason is not None:
            finish = (
                msgspec.structs.replace(finish, reason=out.reason, stop=out.stop)
                if finish is not None
                else Finish(reason=out.reason, prompt_tokens=0, completion_tokens=0, stop=out.stop)
            )
        return msgspec.structs.replace(
            output,
            token_ids=output.token_ids[:count],
            logprobs=output.logprobs[:count],
            text=text,
            finish=finish,
        )
