"""Every kind of state that an answer may have, times who dies in the midst of it, times how it is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.actors.fakes import says
from tests.fault_table import upstreams as up
from tests.fault_table.case import Case
from tests.fault_table.engines import SAYS, lost
from tests.fault_table.scene import PROMPT_TOKENS, SERVICE, TEXT, Scene
from tests.fault_table.seen import TRANSPORTS

SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": [12, 345, 6789]}, "b": {"enum": ["yes", "no"]}, "c": {"enum": ["box", "ball"]}},
    "required": ["a", "b", "c"],
    "additionalProperties": False,
}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
JSON = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}}
TOOLS = {
    "tools": [{"type": "function", "function": {"name": "weather", "strict": True, "parameters": PARAMETERS}}],
    "tool_choice": "required",
}
SEEDED = {"temperature": 1, "seed": 7}
LORA = (
    SERVICE.replace("[models.small]", "[models.small]\nadapters = true")
    + '[engines.small.adapters.legal]\npath = "FOLDER/legal"\n'
)
OTHER_MODEL = SERVICE.replace('model = "llama"', 'model = "legal"')
NO_TOKENIZER = SERVICE.replace(
    '["http://a/v1"]\nmodel = "llama"\ntokenizer = "small"\n', '["http://a/v1"]\nmodel = "llama"\n'
)
CUT_AFTER = 3
"""Pieces of an upstream's answer."""


@dataclass(frozen=True)
class AnswerState:
    """What an answer has that is lost with the one who makes it."""

    name: str
    body: Mapping[str, Any]
    step: int
    """Of the engine, at which it dies."""
    engine: str = "small"
    scripts: Mapping[str, Any] = field(default_factory=dict)
    settings: str = SERVICE
    upstream_body: Mapping[str, Any] = field(default_factory=dict)
    deltas: tuple[up.Delta, ...] = tuple(up.text_deltas())
    """What the upstream says."""
    reason: str = "stop"
    upstream_scripts: Mapping[str, Any] = field(default_factory=dict)
    upstream_settings: str = SERVICE
    upstream_model: str = "two-clouds"


def _cut(text: str, size: int = 4) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def _calls(arguments: str) -> tuple[up.Delta, ...]:
    first, *rest = _cut(arguments)
    head = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": first}}
    more = [{"index": 0, "function": {"arguments": each}} for each in rest]
    return tuple([{"delta": {"tool_calls": [each]}} for each in (head, *more)])


def _scored() -> tuple[up.Delta, ...]:
    def logprobs(piece: str) -> dict[str, Any]:
        return {"content": [{"token": piece, "logprob": -0.5, "bytes": list(piece.encode()), "top_logprobs": []}]}

    return tuple([{"delta": {"content": piece}, "logprobs": logprobs(piece)} for piece in up.PIECES])


LONG = {**SEEDED, "max_tokens": 24, "ignore_eos": True}
UNSURE = {"small": says(TEXT, {5: 0.1}, prompt=PROMPT_TOKENS), "large": SAYS["large"]}
STATES = [
    AnswerState("plain text", {}, 3, scripts=SAYS),
    AnswerState(
        "a JSON schema, half open",
        {**SEEDED, **JSON, "max_tokens": 200},
        12,
        upstream_body=JSON,
        deltas=tuple(up.text_deltas(_cut('{"a": 12, "b": "yes", "c": "box"}'))),
    ),
    AnswerState(
        "inside a tool call",
        {**SEEDED, **TOOLS, "max_tokens": 300},
        40,
        upstream_body=TOOLS,
        deltas=_calls('{"city": "Paris"}'),
        reason="tool_calls",
    ),
    AnswerState("n = 4", {**LONG, "n": 4}, 5, upstream_body={"n": 4}),
    AnswerState(
        "log-probabilities",
        {**LONG, "logprobs": True, "top_logprobs": 2},
        5,
        upstream_body={"logprobs": True},
        deltas=_scored(),
    ),
    AnswerState("seeded", LONG, 5, upstream_body=SEEDED),
    AnswerState("a LoRA adapter", {**LONG, "model": "small:legal"}, 5, settings=LORA, upstream_settings=OTHER_MODEL),
    AnswerState(
        "a cascade, in mid-verification",
        {"model": "checked"},
        1,
        engine="large",
        scripts=SAYS,
        upstream_scripts=UNSURE,
        upstream_model="upward",
    ),
]


def _engine_dies(state: AnswerState) -> Callable[[Scene], None]:
    return lambda here: here.on_step(state.engine, state.step, lost)


def _upstream_dies(state: AnswerState) -> Callable[[Scene], None]:
    def arm(here: Scene) -> None:
        here.network.servers["a"] = up.fails_after(here, CUT_AFTER, up.closes, state.deltas)

    return arm


ENGINE_KILLED = [
    Case(
        "engine killed",
        f"after {state.step} steps",
        _engine_dies(state),
        transport,
        asked=state.name,
        body=state.body,
        scripts=state.scripts,
        settings=state.settings,
    )
    for state in STATES
    for transport in TRANSPORTS
]
UPSTREAM_KILLED = [
    Case(
        "upstream killed",
        f"after {CUT_AFTER} pieces, another upstream is next",
        _upstream_dies(state),
        transport,
        asked=state.name,
        body={"model": state.upstream_model, **state.upstream_body},
        scripts=state.upstream_scripts,
        servers=dict.fromkeys("ab", up.answers(state.deltas, reason=state.reason)),
        settings=state.upstream_settings,
    )
    for state in STATES
    for transport in TRANSPORTS
]

_BOX = '{"a": 12, "b": "yes", "c": "box"}'
BOUND = [
    Case(
        "upstream killed",
        f"after {CUT_AFTER} pieces, {what}",
        _upstream_dies(next(state for state in STATES if state.name == "a JSON schema, half open")),
        transport,
        asked="a JSON schema, half open",
        body={"model": model, **JSON},
        scripts={"small": says(_BOX, prompt=PROMPT_TOKENS)},
        servers=dict.fromkeys("ab", up.answers(up.text_deltas(_cut(_BOX)))),
        settings=settings,
    )
    for what, model, settings in (
        ("an engine with its tokenizer is next", "cloud", SERVICE),
        ("an engine with another tokenizer is next", "cloud", NO_TOKENIZER),
    )
    for transport in TRANSPORTS
]
"""A grammar goes on where its text is read again, token by token: in an engine."""
