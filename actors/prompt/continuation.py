"""Where one engine's answer goes on on another: the text across the seam is that of one uninterrupted answer.

The second engine sees the first one's tokens as prompt and would begin its text anew: it would show half a character as
U+FFFD, strip a space, and miss a stop string that began before the seam. So its tokens are turned into text here, after
the tokens that the client has, with the request's own stop strings and limits; the second engine looks for none.
"""

from collections.abc import Sequence

import msgspec

from engine.core.messages import Finish, FinishReason, TokenDelta
from engine.sampling.params import SamplingParams
from engine.scheduling.output import Output
from engine.text.tokenizer import Tokenizer


def params_after(params: SamplingParams, released: int) -> SamplingParams:
    """What the second engine is asked for."""
    return msgspec.structs.replace(
        params,
        max_tokens=params.max_tokens - released,
        min_tokens=max(params.min_tokens - released, 0),
        stop=(),
        prompt_logprobs=None,
    )


class ContinuationDetokenizer:
    """One choice's text from its `released` tokens on."""

    def __init__(
        self,
        params: SamplingParams,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        released: Sequence[int],
        text: str,
        *,
        exact: bool = False,
    ) -> None:
        """`text`: what the client has of it, by the first engine. `exact`: see `Tokenizer.detokenizer`."""
        eos_ids = frozenset() if params.ignore_eos else tokenizer.eos_ids
        detokenizer = tokenizer.detokenizer(prompt, skip_special=params.skip_special_tokens, exact=exact)
        self._output = Output(params, detokenizer, eos_ids=eos_ids, max_tokens=params.max_tokens)
        shown = "".join([self._output.push(token_id) for token_id in released])
        # The first engine may have been cut before it said what these tokens had made certain.
        self._unsaid = shown.removeprefix(text) if shown.startswith(text) else ""

    @property
    def ended(self) -> bool:
        """The released tokens were a whole answer already."""
        return self._output.reason is not None

    def rest(self) -> tuple[str, FinishReason | None, str | int | None]:
        """What is still to be said if it has ended."""
        return self._unsaid, self._output.reason, self._output.stop

    def carry_on(self, output: TokenDelta) -> TokenDelta:
        """The same tokens with the right text, and the right end."""
        out = self._output
        text, self._unsaid = self._unsaid, ""
        count = 0
        for token_id in output.token_ids:
            text += out.push(token_id)
            count += 1
            if out.reason is not None:
                break
        finish = output.finish
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
