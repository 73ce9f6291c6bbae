"""One choice's reasoning and its tokens, as its deltas come, and after another engine has begun it."""

import pytest

from actors.api.response import Delta
from actors.prompt.reasoning_reader import ReasoningReader
from engine.text.reasoning import PRESETS
from tests.engine.tiny_tokenizers import byte_level_tokenizer

TOKENIZER = byte_level_tokenizer()


def tokens(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text))


def new(*, opened: bool = False) -> ReasoningReader:
    return ReasoningReader(PRESETS["think"], TOKENIZER.detokenizer(()), opened=opened)


def deltas(text: str, size: int) -> list[Delta]:
    """Of so many tokens each."""
    ids = tokens(text)
    detokenizer = TOKENIZER.detokenizer(())
    parts = [ids[at : at + size] for at in range(0, len(ids), size)]
    made = [Delta(0, "".join(map(detokenizer.push, part)), part) for part in parts]
    return [*made, Delta(0, "", tuple(TOKENIZER.eos_ids)[:1], (), "stop")]


def joined(read: list[Delta]) -> tuple[str, str, int]:
    return (
        "".join([each.reasoning for each in read]),
        "".join([each.text for each in read]),
        sum([each.reasoning_tokens for each in read]),
    )


# (text, opened, what of it is reasoning's tokens, reasoning, content)
ANSWERS = [
    ("<think>\na é</think>\n\nb c", False, "<think>\na é</think>", "a é", "b c"),
    ("a b\n</think>c", True, "a b\n</think>", "a b", "c"),
    ("<think></think>c", False, "<think></think>", "", "c"),
    (" c d", False, "", "", " c d"),
    ("<thin air", False, "", "", "<thin air"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 50])
@pytest.mark.parametrize("answer", ANSWERS)
def test_reasoning_is_divided_and_its_tokens_are_counted(answer: tuple[str, bool, str, str, str], size: int) -> None:
    said, opened, counted, reasoning, content = answer
    reader = new(opened=opened)
    read = [reader.read(delta) for delta in deltas(said, size)]
    assert joined(read) == (reasoning, content, len(tokens(counted)))
    assert [each.token_ids for each in read] == [each.token_ids for each in deltas(said, size)]
    assert read[-1].finish_reason == "stop"


def test_an_answer_that_ends_inside_of_it_is_reasoning_alone() -> None:
    reader = new()
    read = [reader.read(delta) for delta in deltas("<think>\na b </thi", 1)]
    assert joined(read) == ("a b </thi", "", len(tokens("<think>\na b </thi")) + 1)


@pytest.mark.parametrize("lost", [0, 1, 3])
@pytest.mark.parametrize(("said", "opened"), [each[:2] for each in ANSWERS])
def test_it_goes_on_where_another_reader_was_cut_off(said: str, opened: bool, lost: int) -> None:
    """`lost`: so many characters of the last text did not reach the client, though their tokens did."""
    made = deltas(said, 1)
    uncut = joined([reader.read(delta) for reader in [new(opened=opened)] for delta in made])
    for at in range(len(made)):
        first, second = new(opened=opened), new(opened=opened)
        shown = joined([first.read(delta) for delta in made[:at]])
        cut = max(len(shown[1]) - lost, 0) if shown[1] else 0
        reasoning, content = shown[0] if shown[1] else shown[0][: max(len(shown[0]) - lost, 0)], shown[1][:cut]
        ids = [token for delta in made[:at] for token in delta.token_ids]
        written = "".join([delta.text for delta in made[:at]])
        certain = second.replay(written, ids, reasoning=reasoning, content=content, reported=shown[2])
        assert certain == shown[1]
        rest = joined([second.read(delta) for delta in made[at:]])
        assert (reasoning + rest[0], content + rest[1], shown[2] + rest[2]) == uncut, at
