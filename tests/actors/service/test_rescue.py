"""An answer whose engine dies goes on as if nothing had happened, whatever its state and wherever it was."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio

from actors.api.request import ChatMessage, ChatPrompt
from actors.api.response import Delta, Done
from engine.sampling.grammar import Grammar
from engine.text.reasoning import PRESETS
from engine.text.tool_calls import ToolSet
from tests.actors.fakes import CONFIG, TEMPLATE, Answer, model_text, says, settings_of, stage
from tests.actors.prompt.test_output_constraints import ASKED, LEAD, LENGTH, TOOL, call
from tests.actors.request.test_draft_verification import config as verified_config
from tests.actors.request.test_response_stream import TEXT, fails_at
from tests.sampling import named

LADDER = CONFIG.replace('name = "small"\nwhen', 'name = "small"\nmidstream = "continue"\nwhen')
REPLICAS = LADDER.replace('model = "small"\n', 'model = "small"\nreplicas = 2\n').replace(
    '[[ladders.small-first]]\nto = "large"\nmark = "fallback"\n', ""
)
ALONE = LADDER.replace('[[ladders.small-first]]\nto = "large"\nmark = "fallback"\n', "")
CASCADE = CONFIG.replace('name = "both"\nwhen', 'name = "both"\nmidstream = "continue"\nwhen')
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"enum": ["yes", "no"]}, "c": {"type": "string", "maxLength": 8}},
    "required": ["a", "b", "c"],
    "additionalProperties": False,
}
FORCED = ChatPrompt(ASKED.messages, ToolSet((TOOL,), choice="required"))


@dataclass
class State:
    """What an answer has that must not be lost with its engine."""

    options: dict[str, Any] = field(default_factory=dict)
    said: Callable[[Any], Any] | None = None
    """The runners' script; None: tokens by hash of all before them, and of the seed."""
    settings: str = LADDER
    model: str = "small"
    steps: int = 24
    """At some of which, up to this one, the engine fails, in a run of its own."""
    each: bool = False
    """At each of them."""
    stage: dict[str, Any] = field(default_factory=dict)


SEEDED = {"temperature": 1.0, "seed": 7, "max_tokens": 24}
JSON = {**SEEDED, "max_tokens": 60, "grammar": Grammar("json_schema", json.dumps(SCHEMA))}
ASKS = ChatPrompt((ChatMessage("user", "why?"),))
THINKS = {"reasoning": PRESETS["think"]}
OPENED = {**THINKS, "template": TEMPLATE + "<think>\n"}
THOUGHT = "<think>\nA fox </th is\n\nquick.\n</think>\n\nIt </think> jumps."
ENDLESS = "<think>\nA fox </th is quick, and on it goes, and on, and on."
CAPPED: dict[str, Any] = {"prompts": (ASKS,), "reasoning_tokens": 18, "max_tokens": 30}


def thinks(said: str = THOUGHT, template: str = TEMPLATE, prompt: ChatPrompt = ASKS) -> Any:
    return says(said, prompt=len(model_text(template=template).encode(prompt)))


STATES = {
    "plain text": State(said=says(TEXT)),
    "greedy": State({"max_tokens": 24}),
    "seeded": State(SEEDED),
    "three choices": State({**SEEDED, "n": 3}),
    "three choices, text": State({"n": 3}, says(TEXT)),
    "logprobs": State({**SEEDED, "logprobs": 2}),
    "logprobs of the prompt": State({**SEEDED, "prompt_logprobs": 1, "echo": True}),
    "a stop string": State({"stop": ("jumps o",)}, says(TEXT), steps=10),
    "a stop string that never comes": State({"stop": ("jumps up",)}, says(TEXT)),
    "a stop token and a least length": State({**SEEDED, "min_tokens": 12, "stop_token_ids": tuple(range(0, 512, 3))}),
    "forbidden words": State({**SEEDED, "bad_words": ("a", "e", " t")}),
    "biased": State({**SEEDED, "logit_bias": tuple((token, -100.0) for token in range(0, 512, 2))}),
    "a JSON schema": State(
        {**SEEDED, "max_tokens": 60, "grammar": Grammar("json_schema", json.dumps(SCHEMA))}, steps=40
    ),
    "a regular expression": State({**SEEDED, "max_tokens": 40, "grammar": Grammar("regex", "(ab|cd){3,9}x[0-9]{4}")}),
    "choices of JSON": State({**JSON, "n": 2}, steps=40),
    "a forced call": State({**SEEDED, "max_tokens": 60, "prompts": (FORCED,)}, steps=60),
    "text and two calls": State(
        {"prompts": (ASKED,)}, says(f"{LEAD}\n{call('Paris')}\n{call('Rome')}", prompt=LENGTH), steps=96
    ),
    "calls, then text": State({"prompts": (ASKED,)}, says(f"{call('Paris')} and {LEAD}", prompt=LENGTH), steps=64),
    "text that looks like a call": State(
        {"prompts": (ASKED,)}, says(f'{LEAD} <tool_call>{{"no": 1}}</tool_call> <tool {LEAD}', prompt=LENGTH), steps=80
    ),
    "a cascade in a window": State({}, says(TEXT), CASCADE, "both"),
    "verified drafts": State(
        {}, says(TEXT), verified_config(draft_tokens=4, midstream="continue"), "checked", steps=10
    ),
    "one engine: seeded": State(SEEDED, settings=ALONE),
    "one engine: choices of JSON": State({**JSON, "n": 2}, settings=ALONE, steps=40),
    "one engine: text and two calls": State(
        {"prompts": (ASKED,)}, says(f"{LEAD}\n{call('Paris')}\n{call('Rome')}", prompt=LENGTH), ALONE, steps=96
    ),
    "reasoning": State({"prompts": (ASKS,)}, thinks(), steps=44, stage=THINKS),
    "reasoning that the prompt has opened": State(
        {"prompts": (ASKS,)}, thinks(THOUGHT[8:], OPENED["template"]), steps=44, stage=OPENED
    ),
    "reasoning of two choices": State({"prompts": (ASKS,), "n": 2}, thinks(), steps=44, stage=THINKS),
    "reasoning, then a call": State(
        {"prompts": (ASKED,)},
        thinks(f"<think>\nA <tool_call> is\nit.</think>\n{LEAD}\n{call('Paris')}", prompt=ASKED),
        steps=72,
        stage=THINKS,
    ),
    "reasoning that does not end": State(
        {"prompts": (ASKS,), "max_tokens": 30}, thinks(f"<think>\n{LEAD}</think>"), steps=32, stage=THINKS
    ),
    "reasoning, logprobs and a stop string": State(
        {"prompts": (ASKS,), "logprobs": 1, "stop": ("jumps.",)}, thinks(), steps=44, stage=THINKS
    ),
    "reasoning with a cap": State({**CAPPED, "n": 2}, thinks(ENDLESS), steps=32, stage=THINKS),
    "reasoning with a cap that the prompt has opened": State(
        CAPPED, thinks(ENDLESS[8:], OPENED["template"]), steps=32, stage=OPENED
    ),
    "reasoning with a cap, by hash of all before": State(
        {**CAPPED, "temperature": 1.0, "seed": 3}, steps=32, stage=OPENED, each=True
    ),
    "reasoning with a cap and verified drafts": State(
        CAPPED, thinks(ENDLESS), verified_config(draft_tokens=4, midstream="continue"), "checked", 10, stage=THINKS
    ),
    "one engine: reasoning": State({"prompts": (ASKS,)}, thinks(), ALONE, steps=44, each=True, stage=THINKS),
    "replicas: seeded": State(SEEDED, settings=REPLICAS),
    "replicas: a JSON schema": State(JSON, settings=REPLICAS, steps=40),
    "replicas: text and two calls": State(
        {"prompts": (ASKED,)}, says(f"{LEAD}\n{call('Paris')}\n{call('Rome')}", prompt=LENGTH), REPLICAS, steps=96
    ),
}


def seen(answer: Answer) -> dict[str, Any]:
    """All that a client can tell of an answer, but how it was cut into events and who gave it."""
    assert isinstance(answer.end, Done), answer.end
    deltas = [event for event in answer.events if isinstance(event, Delta)]
    choices: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        mine = choices.setdefault(
            delta.index,
            {"text": "", "reasoning": "", "tokens": [], "logprobs": [], "prompt": [], "calls": [], "end": None},
        )
        mine["text"] += delta.text
        mine["reasoning"] += delta.reasoning
        mine["tokens"] += delta.token_ids
        mine["logprobs"] += delta.logprobs
        mine["prompt"] += delta.prompt_logprobs
        # "call_r1_0_0": the request's id differs.
        mine["calls"] += [(made.index, made.id.split("_")[2:], made.name, made.arguments) for made in delta.calls]
        if delta.finish_reason is not None:
            assert mine["end"] is None
            mine["end"] = (delta.finish_reason, delta.stop)
    usage = answer.end.usage
    counts = usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens
    capped = answer.end.served.reasoning_capped
    return {"choices": choices, "echo": answer.start.echo, "usage": counts, "capped": capped}


CASES = [
    (f"{name}, {'streamed' if streamed else 'whole'}", (state, streamed))
    for name, state in STATES.items()
    for streamed in (True, False)
]


@pytest.mark.sample(4, always=["reasoning that the prompt has opened, streamed"])
@pytest.mark.parametrize("case", named(CASES))
async def test_the_answer_is_the_one_that_it_would_have_been(autojump_clock, case):
    """Each engine dies at each step; the next one serves."""
    state, streamed = case
    scripts = {} if state.said is None else {"small": state.said, "large": state.said}
    async with stage(scripts, settings=state.settings, **state.stage) as service:
        uncut = seen(await service.ask(state.model, streamed=streamed, **state.options))
        failed = 0
        for step in range(0, state.steps, 1 if state.each else 1 + state.steps // 12):
            for title in ["small"] if state.settings == ALONE else service.titles:
                # It has made steps before.
                service.on_step[title] = fails_at(service.runners[title][-1].steps + step)
                answer = await service.ask(state.model, streamed=streamed, **state.options)
                assert seen(answer) == uncut, f"{title} died at step {step}"
                failed += any(each.outcome == "failed" for each in answer.end.served.attempts)
                service.on_step.clear()
                # An engine that dies too often is marked down.
                await trio.sleep(14)
        assert failed >= 3


@pytest.mark.parametrize("step", [0, 3, 11])
async def test_it_goes_on_with_its_adapter(autojump_clock, tmp_path, step):
    (tmp_path / "adapter_model.safetensors").write_text("legal")
    settings = ALONE.replace("[models.small]", "[models.small]\nadapters = true")
    settings += f'[engines.small.adapters.legal]\npath = "{tmp_path}"\n'
    async with stage(settings=settings_of(settings)) as service:
        asked = {"model": "small:legal", **SEEDED}
        uncut = seen(await service.ask(**asked))
        assert uncut != seen(await service.ask("small", **SEEDED))
        service.on_step["small"] = fails_at(service.runners["small"][-1].steps + step)
        answer = await service.ask(**asked)
        assert seen(answer) == uncut
        outcomes = [each.outcome for each in answer.end.served.attempts]
        assert (outcomes[0], outcomes[-1]) == ("failed", "answered")
        assert answer.end.served.adapter == "legal@1"
