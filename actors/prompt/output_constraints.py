"""What the answers of one request must be like, and how their tool calls are read: for each model that may answer."""

from collections.abc import Mapping
from functools import partial
from itertools import chain

import msgspec

from actors.api.errors import InvalidRequest
from actors.api.request import InferenceRequest
from actors.kernel.workers import WorkerPool
from actors.prompt.model_text import ModelText
from engine.errors import RequestRefused
from engine.sampling.grammar import CompiledGrammar, Grammar
from engine.text.tool_calls import ToolSet, ToolStyle, calls_grammar
from policies.model.plan import Plan, gated


class OutputConstraints(msgspec.Struct, frozen=True):
    """For one model."""

    grammar: CompiledGrammar | None = None
    style: ToolStyle | None = None
    """How calls are written in the answer; None: there are none to look for."""


_ANY = OutputConstraints()


def shown_whole(plan: Plan, request: InferenceRequest) -> Plan:
    """An atomic answer is a gate: half of it binds the large model to a mistake, and is of no use to anybody.

    So is one that says how likely its prompt is: that is what the one model says that answers.
    """
    cascade = plan.cascade
    if cascade is None or cascade.mode != "window":
        return plan
    if request.body.params.prompt_logprobs is not None:
        return gated(plan, "the prompt's log-probabilities are asked for")
    if request.body.bound_to not in cascade.atomic:
        return plan
    return gated(plan, f"the answer is atomic ({request.body.bound_to})")


class ConstraintsByModel:
    """All shapes of one request."""

    def __init__(self, request: InferenceRequest, texts: Mapping[str, ModelText], workers: WorkerPool) -> None:
        self._request = request
        self._texts = texts
        self._workers = workers
        self._made: dict[tuple[str, str], OutputConstraints] = {}

    @property
    def passed_over(self) -> tuple[str, ...]:
        """What of the request's schemas is not enforced by the models that were asked so far."""
        made = [shape.grammar.passed_over for shape in self._made.values() if shape.grammar is not None]
        return tuple(dict.fromkeys(chain.from_iterable(made)))

    async def for_engine(self, engine: str) -> OutputConstraints:
        """Compiled beside the loop, once for each way of reading. Raises InvalidRequest."""
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
    """What binds the answer; None: nothing does. Raises RequestRefused."""
    if style is not None and tools is not None:
        grammar = calls_grammar(style, tools, grammar)
    return None if grammar is None else text.grammars.compile(grammar)
