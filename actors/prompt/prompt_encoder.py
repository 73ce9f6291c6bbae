"""A request's prompts as token ids, encoded once for each way of reading that its rungs have."""

from collections.abc import Mapping, Sequence

from actors.api.errors import InvalidRequest
from actors.api.request import Prompt, TextPrompt
from actors.kernel.workers import WorkerPool
from actors.prompt.model_text import ModelText, TokenIds, encode_prompts, estimated_tokens


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
        """`param`: the field in which they came. `texts`: of the engines that may read them.

        `most`: only so many last tokens of each are read.
        """
        self._prompts = prompts
        self._param = param
        self._most = most
        self._texts = texts
        self._workers = workers
        self._encoded: dict[tuple[str, str], tuple[TokenIds, ...]] = {}

    async def read_by(self, engine: str) -> tuple[TokenIds, ...]:
        """Token ids of each prompt for this engine. Raises InvalidRequest."""
        text = self._texts[engine]
        found = self._encoded.get(text.reading)
        if found is None:
            found = await encode_prompts(text, self._prompts, self._param, self._workers)
            if self._most is not None:
                found = tuple([token_ids[-self._most :] for token_ids in found])
            self._encoded[text.reading] = found
        return found

    def shown(self, rung: str) -> tuple[str, ...]:
        """The prompts as text: as they came, or what this rung, or the first engine, reads in their token ids."""
        reader = self._texts.get(rung) or next(iter(self._texts.values()), None)
        read = self._encoded.get(reader.reading) if reader is not None else None
        shown = []
        for index, prompt in enumerate(self._prompts):
            if isinstance(prompt, TextPrompt) and self._most is None:
                shown.append(prompt.text)
            else:
                shown.append(reader.tokenizer.decode(read[index]) if reader is not None and read is not None else "")
        return tuple(shown)

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
