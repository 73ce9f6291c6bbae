"""Constraints on the outputs of one request, and its tool call format, per model that may answer."""

from collections.abc import Mapping
from functools import partial
from itertools import chain

import msgspec

from actors.api.errors import InvalidRequest
from actors.api.request import InferenceRequest
from actors.kernel.thread_bridge import WorkerPool
from actors.prompt.model_text import ModelText
from engine.errors import RequestRefused
from engine.sampling.grammar import CompiledGrammar, Grammar
from engine.text.tool_calls import ToolSet, ToolStyle, calls_grammar


class OutputConstraints(msgspec.Struct, frozen=True):
    """Constraints for one model."""

    grammar: CompiledGrammar | None = None
    style: ToolStyle | None = None
    """Tool call format to parse; None: no tools."""


_ANY = OutputConstraints()


class ConstraintsByModel:
    """The constraints of one request, compiled per tokenizer and template."""

    def __init__(self, request: InferenceRequest, texts: Mapping[str, ModelText], workers: WorkerPool) -> None:
        self._request = request
        self._texts = texts
        self._workers = workers
        self._made: dict[tuple[str, str], OutputConstraints] = {}

    @property
    def passed_over(self) -> tuple[str, ...]:
        """Parts of the request's schemas that the models used so far do not enforce."""
        made = [shape.grammar.passed_over for shape in self._made.values() if shape.grammar is not None]
        return tuple(dict.fromkeys(chain.from_iterable(made)))

    async def for_engine(self, engine: str) -> OutputConstraints:
        """Compiled in a worker thread, once per tokenizer and template. Raises InvalidRequest."""
        request = self._request
        if request.body.grammar is None and request.body.tools is None:
            return _ANY
        text = self._texts[engine]
        made = self._made.get(text.reading)
        if made is None:
            made = self._made[text.reading] = await self._make(text)
        return made

    async def _make(self, text: ModelText) -> OutputConstraints:
        tools, grammar, style = self._request.body.tools, self._request.body.grammar, None
        param = "tools" if grammar is None else grammar.param
        try:
            if tools is not None:
                style = text.tool_style
            return OutputConstraints(
                await self._workers.run_in_thread(partial(_compiled, text, style, tools, grammar)), style
            )
        except RequestRefused as refused:
            raise InvalidRequest(refused.message, param=param, code=refused.code) from None


def _compiled(
    text: ModelText, style: ToolStyle | None, tools: ToolSet | None, grammar: Grammar | None
) -> CompiledGrammar | None:
    """The compiled constraint; None: there is none. Raises RequestRefused."""
    if style is not None and tools is not None:
        grammar = calls_grammar(style, tools, grammar)
    return None if grammar is None else text.grammars.compile(grammar)
