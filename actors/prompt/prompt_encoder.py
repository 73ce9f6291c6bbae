"""A request's prompts as token ids, encoded once per distinct tokenizer and template among its rungs."""

from collections.abc import Mapping, Sequence

from actors.api.errors import InvalidRequest
from actors.api.request import Prompt, TextPrompt
from actors.kernel.thread_bridge import WorkerPool
from actors.prompt.model_text import ModelText, TokenIds, encode_prompts, estimated_tokens
from policies.routing.token_budget import PromptSizes


class PromptEncoder:
    """All prompts of one request."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        param: str,
        texts: Mapping[str, ModelText],
        workers: WorkerPool,
        *,
        most: int | None = None,
    ) -> None:
        """`param`: the request field of the prompts. `texts`: of the engines that may read them.

        `most`: only this many last tokens of a prompt are used.
        """
        self._prompts = prompts
        self._param = param
        self._most = most
        self._texts = texts
        self._workers = workers
        self._encoded: dict[tuple[str, str], tuple[TokenIds, ...]] = {}

    async def read_by(self, engine: str) -> tuple[TokenIds, ...]:
        """Token ids of every prompt for this engine. Raises InvalidRequest."""
        text = self._texts[engine]
        encoded = self._encoded.get(text.reading)
        if encoded is None:
            encoded = await encode_prompts(text, self._prompts, self._param, self._workers)
            if self._most is not None:
                encoded = tuple([token_ids[-self._most :] for token_ids in encoded])
            self._encoded[text.reading] = encoded
        return encoded

    def shown(self, rung: str) -> tuple[str, ...]:
        """The prompts as text: as received, or decoded by the tokenizer of this rung, else of the first engine."""
        reader = self._texts.get(rung) or next(iter(self._texts.values()), None)
        read = self._encoded.get(reader.reading) if reader is not None else None
        shown = []
        for index, prompt in enumerate(self._prompts):
            if isinstance(prompt, TextPrompt) and self._most is None:
                shown.append(prompt.text)
            else:
                shown.append(reader.tokenizer.decode(read[index]) if reader is not None and read is not None else "")
        return tuple(shown)

    @property
    def sizes(self) -> PromptSizes:
        """As far as they have been counted; rungs without a text of their own read as the first engine does."""
        counted = {
            name: None if (encoded := self._encoded.get(text.reading)) is None else tuple(map(len, encoded))
            for name, text in self._texts.items()
        }
        if not counted:
            return PromptSizes({}, tuple(map(estimated_tokens, self._prompts)))
        return PromptSizes(counted, next(iter(counted.values())))

    async def lengths(self, rung: str, *, lenient: bool) -> list[int]:
        """Number of tokens of every prompt for this rung.

        Names that are no engine's, and upstreams without a tokenizer, count as the first engine does; where no engine
        can encode the prompt, the count is an estimate. `lenient`: estimate also if the rung refuses the prompt,
        because another one may take it; otherwise that raises InvalidRequest.
        """
        reader = rung if rung in self._texts else next(iter(self._texts), None)
        try:
            if reader is not None:
                return [len(token_ids) for token_ids in await self.read_by(reader)]
        except InvalidRequest:
            if not lenient:
                raise
        return [estimated_tokens(prompt) for prompt in self._prompts]
