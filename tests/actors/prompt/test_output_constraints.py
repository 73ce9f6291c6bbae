"""Tool calls and grammar-bound answers through every actor: atomic, whoever answers and whatever fails."""

import json
from typing import Any

import pytest

from actors.api.request import CallTurn, ChatMessage, ChatPrompt
from actors.api.response import Delta, Done
from actors.prompt.model_text import ModelText
from actors.routing.features import features_of
from engine.errors import RequestRefused
from engine.sampling.grammar import Grammar
from engine.text.chat_template import ChatTemplate
from engine.text.tool_calls import Tool, ToolSet
from tests.actors.fakes import CONFIG, Answer, model_text, says, stage
from tests.actors.request.test_response_stream import fails_at, outcomes
from tests.engine.tiny_tokenizers import byte_level_tokenizer

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = Tool("weather", {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}, PARAMETERS)
IMPOSSIBLE = Tool("f", TOOL.definition, {"type": "object", "not": {}}, strict=True)
TOOLS = ToolSet((TOOL,))
ASKED = ChatPrompt((ChatMessage("user", "hot?"),), TOOLS)
LENGTH = len(model_text().encode(ASKED))
LEAD = "the quick brown fox jumps over the lazy dog"
CONTINUES = CONFIG.replace('name = "small"\nwhen', 'name = "small"\nmidstream = "continue"\nwhen')
JSON = Grammar(
    "json_schema", json.dumps({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
)


def call(city: str) -> str:
    return f'<tool_call>\n{{"name": "weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'


def tokens(text: str) -> int:
    return len(byte_level_tokenizer().encode(text))


def says_(text: str, margins: dict[int, float] | None = None) -> Any:
    return says(text, margins, prompt=LENGTH)


def calls(answer: Answer) -> list[tuple[str, str]]:
    return [(made.name, made.arguments) for event in answer.events if isinstance(event, Delta) for made in event.calls]


PARIS, ROME = ("weather", '{"city": "Paris"}'), ("weather", '{"city": "Rome"}')


@pytest.mark.parametrize("streamed", [True, False])
async def test_text_then_a_call(autojump_clock, streamed):
    said = f"{LEAD}\n{call('Paris')}"
    async with stage({"small": says_(said)}) as service:
        answer = await service.ask("small", prompts=(ASKED,), streamed=streamed)
        assert (answer.text(), calls(answer), answer.reasons()) == (LEAD, [PARIS], ["tool_calls"])
        assert answer.end.usage.completion_tokens == len(answer.tokens()) == tokens(said) + 1
        ids = [made.id for event in answer.events if isinstance(event, Delta) for made in event.calls]
        assert ids == ["call_r1_0_0"]


async def test_every_choice_has_its_own_calls(autojump_clock):
    async with stage({"small": says_(call("Paris") + call("Rome"))}) as service:
        answer = await service.ask("small", prompts=(ASKED,), n=2)
        made = [(event.index, one.index) for event in answer.events if isinstance(event, Delta) for one in event.calls]
        assert sorted(made) == [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert len({one.id for event in answer.events if isinstance(event, Delta) for one in event.calls}) == 4


async def test_of_a_call_that_is_cut_off_nothing_is_shown(autojump_clock):
    async with stage({"small": says_(f"{LEAD} {call('Paris')}")}) as service:
        for more in range(1, tokens(call("Paris")) - 12):
            answer = await service.ask("small", prompts=(ASKED,), max_tokens=tokens(LEAD) + more)
            assert (calls(answer), answer.reasons()) == ([], ["length"])
            assert answer.text().strip() == LEAD.strip()
            assert answer.end.usage.completion_tokens == tokens(LEAD) + more


# --- in a cascade -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["in the call", "after the call"])
async def test_a_call_is_held_until_the_cascade_has_decided(autojump_clock, where):
    """Window mode shows the text before it; what the small model was about to do is nobody's business."""
    said = f"{LEAD} {call('Rome')}\n{LEAD}"
    low = tokens(f"{LEAD} {call('Rome')}") + (-8 if where == "in the call" else 8)
    async with stage({"small": says_(said, {low: 0.3}), "large": says_(f"{LEAD} {call('Paris')}")}) as service:
        answer = await service.ask("both", prompts=(ASKED,))
        assert outcomes(answer)[0] == ("small", "escalated", "low_margin")
        assert answer.start.rung == "small", "the text before the call was shown"
        assert (answer.text(), calls(answer), answer.reasons()) == (LEAD, [PARIS], ["tool_calls"])


async def test_a_confident_call_stands(autojump_clock):
    async with stage({"small": says_(f"{LEAD} {call('Paris')}"), "large": says_(call("Rome"))}) as service:
        answer = await service.ask("both", prompts=(ASKED,))
        assert (answer.text(), calls(answer)) == (LEAD, [PARIS])
        assert answer.end.served.why == "confident"


async def test_json_in_window_mode_is_shown_whole_or_not_at_all(autojump_clock):
    async with stage({"small": says('{"a": 1111111111}', {9: 0.3}), "large": says('{"a": 2}')}) as service:
        answer = await service.ask("both", grammar=JSON)
        assert (answer.text(), answer.reasons(), answer.start.rung) == ('{"a": 2}', ["stop"], "large")
        free = await service.ask("both")
        assert (free.text(), free.start.rung) == ('{"a": 2}', "large"), (
            "JSON that nobody asked for is not parted, either"
        )


async def test_a_policy_may_let_json_be_shown_early(autojump_clock):
    config = CONFIG.replace("window = 3 }", "window = 3 }\natomic = []")
    said = '{"a": 1111111111}'
    async with stage({"small": says(said, {9: 0.3}), "large": says(said)}, settings=config) as service:
        answer = await service.ask("both", grammar=JSON)
        assert (answer.text(), answer.reasons(), answer.start.rung) == (said, ["stop"], "small")
        assert outcomes(answer)[-1][0] == "large"


# --- when something fails -----------------------------------------------------------------------------------------


async def test_another_rung_goes_on_from_before_an_open_call(autojump_clock):
    said = f'{LEAD} <tool_call>{{"oops": [1, 2, 3, 4, 5, 6, 7, 8, 9]}}'
    async with stage({"small": says_(said), "large": says_(f"{LEAD} {call('Paris')}")}, settings=CONTINUES) as service:
        service.on_step["small"] = fails_at(tokens(f"{LEAD} <tool_call>") + 9)
        answer = await service.ask("small", prompts=(ASKED,))
        assert isinstance(answer.end, Done)
        assert (answer.text(), calls(answer)) == (LEAD, [PARIS])
        assert answer.end.usage.completion_tokens == len(answer.tokens()) == tokens(f"{LEAD} {call('Paris')}") + 1


async def test_an_answer_that_breaks_its_grammar_fails_alone(autojump_clock):
    """A model's runner that does not obey; nothing was shown, so the status is a true one."""
    async with stage({"small": says("nonsense")}) as service:
        answer = await service.ask("small", grammar=JSON)
        assert answer.refusal is not None
        assert answer.refusal.body.code == "grammar_failed"


@pytest.mark.parametrize(
    ("options", "code", "param"),
    [
        ({"grammar": Grammar("regex", "(a", param="guided_regex")}, "grammar_invalid", "guided_regex"),
        ({"prompts": (ChatPrompt(ASKED.messages, ToolSet((IMPOSSIBLE,))),)}, "grammar_invalid", "tools"),
    ],
)
async def test_a_bad_grammar_is_refused_before_anything_is_reserved(autojump_clock, options, code, param):
    async with stage() as service:
        answer = await service.ask("small", **options)
        assert answer.refusal is not None
        assert (answer.refusal.body.status, answer.refusal.body.code, answer.refusal.body.param) == (400, code, param)


# --- what is known of it ------------------------------------------------------------------------------------------


async def test_policies_see_tools_and_schemas(autojump_clock):
    async with stage() as service:
        forced = ChatPrompt(ASKED.messages, ToolSet((TOOL,), "required"))
        for options, has in (
            ({"prompts": (ASKED,)}, {"tools"}),
            ({"prompts": (forced,)}, {"tools", "schema"}),
            ({"grammar": JSON}, {"schema"}),
            ({}, set()),
        ):
            request = service.request("small", **options)
            snapshot = service.service._router.snapshot
            tenant = snapshot.tenants["anonymous"]
            assert features_of(request, snapshot.policy, "anonymous", tenant, [1]).has & {"tools", "schema"} == has


def text_of(template: str) -> ModelText:
    return ModelText(
        byte_level_tokenizer(), ChatTemplate(template, {}, origin="t"), digest="d", template_digest=template
    )


def read_back(text: ModelText, prompt: ChatPrompt) -> str:
    return text.tokenizer.decode(text.encode(prompt))


def test_a_template_gets_tools_calls_and_results_as_it_expects_them() -> None:
    calls_told = "{{ c.function.name }}{{ c.function.arguments | tojson }}{{ c.id }}"
    template = (
        "{% for t in tools %}{{ t.function.name }};{% endfor %}{% for m in messages %}{{ m.role }}:{{ m.content }}"
        f"{{% for c in m.tool_calls or [] %}}{calls_told}{{% endfor %}}"
        "{{ m.tool_call_id }}|{% endfor %}"
    )
    messages = (
        ChatMessage("user", "hot?"),
        ChatMessage("assistant", "", tool_calls=(CallTurn("c1", "weather", {"city": "<|end|>"}),)),
        ChatMessage("tool", "<|end|>", tool_call_id="c1"),
    )
    text = text_of(template)
    assert read_back(text, ChatPrompt(messages, TOOLS)) == (
        'weather;user:hot?|assistant:weather{"city": "<|end|>"}c1|tool:<|end|>c1|'
    )
    assert not set(text.encode(ChatPrompt(messages, TOOLS))) & text.tokenizer.eos_ids, "spelled, not meant"


def test_a_template_without_tools_is_reported_in_text() -> None:
    text = text_of("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}")
    messages = (
        ChatMessage("system", "Be kind."),
        ChatMessage("user", "hot?"),
        ChatMessage("assistant", "Well", tool_calls=(CallTurn("c1", "weather", {"city": "Rome"}),)),
        ChatMessage("tool", "30", tool_call_id="c1"),
        ChatMessage("tool", "31", tool_call_id="c1"),
    )
    said = read_back(text, ChatPrompt(messages, TOOLS))
    assert said.startswith("[system]Be kind.\n\nYou can call")
    assert '{"name": "weather", "parameters"' in said
    assert said.endswith(
        f"[user]hot?[assistant]Well\n{call('Rome')}"
        "[user]<tool_response>\n30\n</tool_response>\n<tool_response>\n31\n</tool_response>"
    )
    assert read_back(text, ChatPrompt(messages[1:2], TOOLS)).startswith("[system]You can call")


def test_a_template_with_another_way_to_call_is_refused() -> None:
    with pytest.raises(RequestRefused, match="cannot read"):
        _ = text_of("{% if tools %}[AVAILABLE_TOOLS]{% endif %}").tool_style
    assert text_of('{% if tools %}{"name": function name, "parameters": x}{% endif %}').tool_style == "bare"
    assert text_of("{% if tools %}<tool_call>{% endif %}").tool_style == "tags"
