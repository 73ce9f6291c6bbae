"""A request's prompts as token ids, encoded once for each way of reading that its rungs have."""

from collections.abc import Mapping, Sequence

from actors.links import Links
from actors.messages import Prompt
from actors.texts import ModelText, TokenIds, encode_prompts


class Prompts:
    """All prompts of one request."""

    def __init__(self, prompts: Sequence[Prompt], texts: Mapping[str, ModelText], links: Links) -> None:
        self._prompts = prompts
        self._texts = texts
        self._links = links
        self._encoded: dict[tuple[str, str], tuple[TokenIds, ...]] = {}

    async def read_by(self, engine: str) -> tuple[TokenIds, ...]:
        """Token ids of each prompt for this engine. Raises InvalidRequest."""
        text = self._texts[engine]
        found = self._encoded.get(text.reading)
        if found is None:
            found = self._encoded[text.reading] = await encode_prompts(text, self._prompts, self._links)
        return found
