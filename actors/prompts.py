"""A request's prompts as token ids, encoded once for each way of reading that its rungs have."""

from collections.abc import Mapping, Sequence

from actors.errors import InvalidRequest
from actors.links import Links
from actors.messages import Prompt
from actors.texts import ModelText, TokenIds, encode_prompts, estimated_tokens


class Prompts:
    """All prompts of one request."""

    def __init__(self, prompts: Sequence[Prompt], param: str, texts: Mapping[str, ModelText], links: Links) -> None:
        """`param`: the field in which they came. `texts`: of the engines that may read them."""
        self._prompts = prompts
        self._param = param
        self._texts = texts
        self._links = links
        self._encoded: dict[tuple[str, str], tuple[TokenIds, ...]] = {}

    async def read_by(self, engine: str) -> tuple[TokenIds, ...]:
        """Token ids of each prompt for this engine. Raises InvalidRequest."""
        text = self._texts[engine]
        found = self._encoded.get(text.reading)
        if found is None:
            found = self._encoded[text.reading] = await encode_prompts(text, self._prompts, self._param, self._links)
        return found

    async def lengths(self, rung: str, *, lenient: bool) -> list[int]:
        """Tokens of each prompt as this rung reads it.

        A name that is no engine's, and an upstream without a known tokenizer, are taken to read as the first engine
        does; where no engine can read the prompt, the count is an estimate. `lenient`: an estimate, too, where the rung
        itself refuses the prompt, as another one may take it; else that raises InvalidRequest.
        """
        reader = rung if rung in self._texts else next(iter(self._texts), None)
        try:
            if reader is not None:
                return [len(token_ids) for token_ids in await self.read_by(reader)]
        except InvalidRequest:
            if not lenient:
                raise
        return [estimated_tokens(prompt) for prompt in self._prompts]
