"""What chat templates make of earlier reasoning, and of requests with and without reasoning."""

import pytest

from actors.api.request import ChatMessage, ChatPrompt
from engine.errors import RequestRefused
from engine.text.reasoning import PRESETS
from tests.actors.fakes import model_text
from tests.actors.prompt.reasoning_templates import DEEPSEEK_R1, DEEPSEEK_V3, PLAIN, QWEN3, QWQ, THINKING_KEY

THINK = PRESETS["think"]
EMPTY = "<think>\n\n</think>\n\n"
HI = ChatPrompt((ChatMessage("user", "Hi"),))
TURNS = (
    ChatMessage("user", "Hi"),
    ChatMessage("assistant", "Ho", reasoning="old"),
    ChatMessage("user", "Why"),
)
STEPS = (*TURNS, ChatMessage("assistant", "So", reasoning="new"))


def prompt(template: str, messages: tuple[ChatMessage, ...], thinking: bool | None = None, reasons: bool = True) -> str:
    text = model_text(template=template, reasoning=THINK if reasons else None)
    return text.tokenizer.decode(text.encode(ChatPrompt(messages), thinking=thinking))


# (template, what follows a turn of the user: as it is, switched on, switched off)
SWITCHED = [
    (QWEN3, "", "", EMPTY),
    (DEEPSEEK_R1, "<think>\n", "<think>\n", EMPTY),
    (DEEPSEEK_V3, "</think>", "<think>", "</think>"),
    (QWQ, "", "", EMPTY),
    (PLAIN, "", "", ""),
]


@pytest.mark.parametrize(("template", "plain", "on", "off"), SWITCHED)
def test_reasoning_is_switched_as_the_template_can(template: str, plain: str, on: str, off: str) -> None:
    for thinking, ends in ((None, plain), (True, on), (False, off)):
        assert prompt(template, HI.messages, thinking) == "[user]Hi[assistant]" + ends, thinking


@pytest.mark.parametrize(("template", "opened"), [(QWEN3, False), (DEEPSEEK_R1, True), (QWQ, False)])
def test_the_prompts_last_tokens_say_whether_the_block_is_open(template: str, opened: bool) -> None:
    text = model_text(template=template, reasoning=THINK)
    assert text.opens_reasoning(text.encode(HI)) is opened
    assert not text.opens_reasoning(text.encode(HI, thinking=False))
    assert not model_text(template=template).opens_reasoning(text.encode(HI))


def test_a_model_that_does_not_reason_cannot_be_asked_to() -> None:
    with pytest.raises(RequestRefused, match="does not reason") as refused:
        prompt(PLAIN, HI.messages, True, reasons=False)
    assert refused.value.code == "reasoning_not_supported"
    assert prompt(PLAIN, HI.messages, False, reasons=False) == prompt(PLAIN, HI.messages, reasons=False)


# (template, of three turns, of an answer that follows them)
HISTORIES = [
    (QWEN3, "Ho", "<think>\nnew\n</think>\n\nSo"),
    (DEEPSEEK_R1, "Ho", "So"),
    (DEEPSEEK_V3, "Ho", "So"),
    (QWQ, "Ho", "So"),
    (THINKING_KEY, "Ho", "<think>new</think>So"),
    (PLAIN, "Ho", "So"),
]


@pytest.mark.parametrize(("template", "old", "new"), HISTORIES)
def test_earlier_reasoning_is_in_the_prompt_only_where_the_template_puts_it(template: str, old: str, new: str) -> None:
    assert prompt(template, TURNS).startswith(f"[user]Hi[assistant]{old}[user]Why[assistant]")
    assert prompt(template, STEPS).startswith(f"[user]Hi[assistant]{old}[user]Why[assistant]{new}")


@pytest.mark.parametrize("template", [QWEN3, DEEPSEEK_R1, DEEPSEEK_V3, QWQ])
def test_so_is_reasoning_that_a_client_sends_back_within_the_content(template: str) -> None:
    inside = (TURNS[0], ChatMessage("assistant", "<think>\nold\n</think>\n\nHo"), TURNS[2])
    assert "old" not in prompt(template, inside)
