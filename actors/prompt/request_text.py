"""The parts of a request that depend on the model that answers: prompts as token ids, and constraints on outputs."""

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain

import msgspec

from actors.api.errors import InvalidRequest
from actors.api.request import InferenceRequest, TextPrompt, TokenPrompt
from actors.kernel.thread_bridge import WorkerPool
from actors.prompt.model_text import ModelText, Reading, TokenIds, encode_prompts, estimated_tokens
from engine.errors import RequestRefused
from engine.sampling.grammar import CompiledGrammar, Grammar
from engine.sampling.tool_grammar import calls_grammar
from engine.text.tool_calls import ToolSet, ToolStyle
from policies.queueing.turn_queue import WorkFor
from policies.routing.token_budget import PromptSizes


class OutputConstraints(msgspec.Struct, frozen=True):
    """Constraints for one model."""

    grammar: CompiledGrammar | None = None
    style: ToolStyle | None = None
    """Tool call format to parse; None: no tools."""


_NO_CONSTRAINTS = OutputConstraints()


class RequestText:
    """One request's prompts and constraints, computed once per distinct tokenizer and template among its rungs."""

    def __init__(
        self,
        request: InferenceRequest,
        texts: Mapping[str, ModelText],
        workers: WorkerPool,
        work_for: WorkFor | None = None,
        encoded: dict[Reading, tuple[TokenIds, ...]] | None = None,
    ) -> None:
        """`texts`: of the engines that may read the prompts. `work_for`: whose request it is.

        `encoded`: prompts that are already encoded.
        """
        self._request = request
        self._body = request.body
        self._texts = texts
        self._workers = workers
        self._work_for = work_for
        self._encoded = {} if encoded is None else encoded
        self._seconds: dict[Reading, tuple[int | None, ...]] = {}
        self._estimates: tuple[int, ...] | None = None
        self._constraints: dict[Reading, OutputConstraints] = {}

    def for_copy(self) -> "RequestText":
        """For a shadow: what is encoded is shared, `passed_over` is not."""
        return RequestText(self._request, self._texts, self._workers, self._work_for, self._encoded)

    @property
    def fewest_tokens(self) -> int:
        """Of all prompts together, at least, before any is read."""
        cut = self._body.truncate_prompt_tokens
        lengths = [len(each.token_ids) if isinstance(each, TokenPrompt) else 1 for each in self._body.prompts]
        return sum(lengths) if cut is None else sum([min(length, cut) for length in lengths])

    async def read_by(self, engine: str) -> tuple[TokenIds, ...]:
        """Token ids of every prompt for this engine. Raises InvalidRequest."""
        text, body = self._texts[engine], self._body
        encoded = self._encoded.get(text.reading)
        if encoded is None:
            read = await encode_prompts(text, body, self._workers, self._work_for)
            encoded = tuple([token_ids for token_ids, _ in read])
            self._seconds[text.reading] = tuple([second for _, second in read])
            if body.truncate_prompt_tokens is not None:
                encoded = tuple([token_ids[-body.truncate_prompt_tokens :] for token_ids in encoded])
            self._encoded[text.reading] = encoded
        return encoded

    def seconds(self, engine: str) -> tuple[int | None, ...]:
        """Where the second text of every prompt begins, once this engine's text has read them; None: nowhere."""
        return self._seconds[self._texts[engine].reading]

    def answers(self, engine: str) -> tuple[TokenIds, ...]:
        """Token ids of the answers that are weighed, as this engine's model would write them: different ones differ."""
        tokenizer = self._texts[engine].tokenizer
        return tuple([tuple(tokenizer.encode_continuation(answer)) for answer in self._body.weighed])

    def shown(self, rung: str) -> tuple[str, ...]:
        """The prompts as text: as received, or decoded by the tokenizer of this rung, else of the first engine."""
        reader = self._texts.get(rung) or next(iter(self._texts.values()), None)
        read = self._encoded.get(reader.reading) if reader is not None else None
        shown = []
        for index, prompt in enumerate(self._body.prompts):
            if isinstance(prompt, TextPrompt) and self._body.truncate_prompt_tokens is None:
                shown.append(prompt.text)
            else:
                shown.append(reader.tokenizer.decode(read[index]) if reader is not None and read is not None else "")
        return tuple(shown)

    @property
    def sizes(self) -> PromptSizes:
        """As far as they have been counted; rungs without a text of their own read as the first engine does."""
        if not self._texts:
            return PromptSizes({}, self.estimated())
        counted = {
            name: None if (encoded := self._encoded.get(text.reading)) is None else self._with_media(map(len, encoded))
            for name, text in self._texts.items()
        }
        return PromptSizes(counted, next(iter(counted.values())))

    async def lengths(self, rung: str, *, lenient: bool) -> tuple[int, ...]:
        """Number of tokens of every prompt for this rung.

        Names that are no engine's, and upstreams without a tokenizer, count as the first engine does; where no engine
        can encode the prompt, the count is an estimate. `lenient`: estimate also if the rung refuses the prompt,
        because another one may take it; otherwise that raises InvalidRequest.
        """
        if self._texts:
            reader = rung if rung in self._texts else next(iter(self._texts))
            try:
                return self._with_media(map(len, await self.read_by(reader)))
            except InvalidRequest:
                if not lenient:
                    raise
        return self.estimated()

    def estimated(self) -> tuple[int, ...]:
        """Tokens of every prompt, without reading it."""
        if self._estimates is None:
            self._estimates = self._with_media(map(estimated_tokens, self._body.prompts))
        return self._estimates

    def _with_media(self, lengths: Iterable[int]) -> tuple[int, ...]:
        """The lengths of all prompts; only a conversation has media, and it is the only prompt then."""
        more = self._request.media_tokens
        return tuple([length + more for length in lengths])

    @property
    def passed_over(self) -> tuple[str, ...]:
        """Parts of the request's schemas that the models used so far do not enforce."""
        if not self._constraints:
            return ()
        made = [each.grammar.passed_over for each in self._constraints.values() if each.grammar is not None]
        return tuple(dict.fromkeys(chain.from_iterable(made)))

    async def constraints(self, engine: str) -> OutputConstraints:
        """Compiled in a worker thread, once per tokenizer and template. Raises InvalidRequest."""
        tools, grammar, style = self._body.tools, self._body.grammar, None
        if grammar is None and tools is None:
            return _NO_CONSTRAINTS
        text = self._texts[engine]
        made = self._constraints.get(text.reading)
        if made is None:
            try:
                if tools is not None:
                    style = text.tool_style
                compiled = await self._workers.run_in_thread(
                    partial(_compiled, text, style, tools, grammar), self._work_for
                )
            except RequestRefused as refused:
                param = "tools" if grammar is None else grammar.param
                raise InvalidRequest(refused.message, param=param, code=refused.code) from None
            made = self._constraints[text.reading] = OutputConstraints(compiled, style)
        return made


def _compiled(
    text: ModelText, style: ToolStyle | None, tools: ToolSet | None, grammar: Grammar | None
) -> CompiledGrammar | None:
    """The compiled constraint; None: there is none. Raises RequestRefused."""
    if style is not None and tools is not None:
        grammar = calls_grammar(style, tools, grammar)
    return None if grammar is None else text.grammars.compile(grammar)
