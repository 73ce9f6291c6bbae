"""Reasoning in answers' texts, wherever the text is cut."""

from typing import get_args

import pytest

from config.model.settings import ReasoningWord
from engine.text.reasoning import PRESETS, ReasoningMarkers, ReasoningParser

THINK = PRESETS["think"]
# (text, opened by the prompt) -> (reasoning, content)
ANSWERS = [
    ("<think>a b</think>c d", False, "a b", "c d"),
    ("\n<think>\n a\n\nb \n</think>\n\n c \n", False, "a\n\nb", "c \n"),
    ("<think>\n\n</think>\n\nc", False, "", "c"),
    ("<think></think>", False, "", ""),
    ("a\n</think>\n\nc", True, "a", "c"),
    ("\n</think>\n\nc", True, "", "c"),
    ("<think>\na</think>c", True, "a", "c"),
    ("a <think> </thin</thi\n </think>c </think> d", True, "a <think> </thin</thi", "c </think> d"),
    ("c d", False, "", "c d"),
    ("\n c ", False, "", "\n c "),
    ("", False, "", ""),
    ("", True, "", ""),
    ("<thin air", False, "", "<thin air"),
    ("<thi", False, "", "<thi"),
    ("<thi", True, "<thi", ""),
    ("the tag <think>a</think>", False, "", "the tag <think>a</think>"),
    ("</think>c", False, "", "</think>c"),
    ("<think>a b", False, "a b", ""),
    ("<think>a b\n", False, "a b", ""),
    ("<think>a </thi", False, "a </thi", ""),
    ("<think>a</think>c<think>b</think>", False, "a", "c<think>b</think>"),
]


def read(
    text: str, opened: bool, cuts: list[int], markers: ReasoningMarkers = THINK
) -> tuple[str, str, ReasoningParser]:
    parser = ReasoningParser(markers, opened=opened)
    pieces = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    parts = [*map(parser.push, pieces), parser.end()]
    return "".join([each.reasoning for each in parts]), "".join([each.content for each in parts])


@pytest.mark.parametrize(("text", "opened", "reasoning", "content"), ANSWERS)
def test_an_answer_is_divided_wherever_it_is_cut(text: str, opened: bool, reasoning: str, content: str) -> None:
    whole = [*range(1, len(text))]
    for cuts in [[], whole, whole[::2], *[[at] for at in whole]]:
        assert read(text, opened, cuts) == (reasoning, content), cuts


def test_what_is_certain_is_not_held_back() -> None:
    parser = ReasoningParser(THINK, opened=False)
    seen = [parser.push(piece) for piece in ("<thi", "nk>", "\na", " b<", "/c", " \n", "</think", ">\n", "d", " e")]
    assert [(each.reasoning, each.content) for each in seen] == [
        *[("", ""), ("", ""), ("a", ""), (" b", ""), ("</c", ""), ("", ""), ("", ""), ("", ""), ("", "d"), ("", " e")]
    ]
    assert parser.in_content
    assert parser.has_block


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [("a<think>\n", True), ("a<think>", True), ("<think>\n\n</think>\n\n", False), ("", False), ("<think> a", False)],
)
def test_a_prompt_that_ends_with_the_marker_has_opened_the_block(prompt: str, opened: bool) -> None:
    assert THINK.opened_by(prompt) is opened


def test_the_setting_has_a_word_for_each_pair_of_markers() -> None:
    assert set(get_args(ReasoningWord)) == {"auto", "none", *PRESETS}
    for markers in PRESETS.values():
        assert read(f"{markers.open}a{markers.close}b", False, [3], markers) == ("a", "b")
