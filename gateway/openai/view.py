"""What a client wants beside the answer's text: log-probabilities and the prompt."""

import msgspec

from engine.core.messages import TokenLogprobs
from gateway.openai.json_text import encode
from gateway.openai.logprobs import prompt_logprobs


class View(msgspec.Struct, frozen=True):
    """The choices of one request."""

    logprobs: int | None = None
    """Alternatives for each token of the answer, and of the prompt if echoed; None: no log-probabilities."""
    prompt_logprobs: int | None = None
    """Alternatives for each token of the prompt, in vLLM's field of this name."""
    echo: bool = False
    """Each choice begins with its prompt."""
    may_call: bool = False
    """Tools were offered: a message without text has the content null."""

    @property
    def prompt_tops(self) -> int | None:
        """Alternatives that the engine must compute for each token of the prompt; None: none."""
        asked = [count for count in (self.prompt_logprobs, self.logprobs if self.echo else None) if count is not None]
        return max(asked, default=None)

    def prompt_field(self, positions: tuple[TokenLogprobs, ...]) -> bytes:
        """`,"prompt_logprobs":…`; b"" if not requested, or not available."""
        if self.prompt_logprobs is None or not positions:
            return b""
        return b',"prompt_logprobs":%b' % encode(prompt_logprobs(positions, self.prompt_logprobs))
