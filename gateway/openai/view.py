"""What of an answer's tokens, and of its prompt's, a client wants to see beside the text."""

import msgspec

from engine.core.messages import TokenLogprobs
from gateway.openai.json_text import encode
from gateway.openai.logprobs import prompt_logprobs


class View(msgspec.Struct, frozen=True):
    """By one request."""

    logprobs: int | None = None
    """How many alternatives to name for each token of the answer, and of its prompt if it is echoed; None: nothing."""
    prompt_logprobs: int | None = None
    """The same for each token of the prompt, in vLLM's field of this name."""
    echo: bool = False
    """Each choice begins with its prompt."""
    may_call: bool = False
    """Tools were offered: a message that has no text has the content null."""

    @property
    def prompt_tops(self) -> int | None:
        """What the engine has to name for each token of the prompt; None: nothing is asked of it."""
        asked = [count for count in (self.prompt_logprobs, self.logprobs if self.echo else None) if count is not None]
        return max(asked, default=None)

    def prompt_field(self, positions: tuple[TokenLogprobs, ...]) -> bytes:
        """`,"prompt_logprobs":…`, or nothing if nobody wants it, or it is not known."""
        if self.prompt_logprobs is None or not positions:
            return b""
        return b',"prompt_logprobs":%b' % encode(prompt_logprobs(positions, self.prompt_logprobs))
