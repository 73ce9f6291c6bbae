from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sampling.params import SamplingParams
from engine.scheduling.output import Output
from tests.engine import tiny_tokenizers

TOKENIZER = tiny_tokenizers.byte_level_tokenizer()
EOS = next(iter(TOKENIZER.eos_ids))
ORDINARY = sorted(set(range(TOKENIZER.vocab_size)) - {EOS})


def read(tokens: list[int], *, max_tokens: int = 1000, **params) -> tuple[list[str], Output]:
    output = Output(
        SamplingParams(max_tokens=max_tokens, **params),
        TOKENIZER.detokenizer((1,)),
        eos_ids=TOKENIZER.eos_ids,
        max_tokens=max_tokens,
    )
    parts = []
    for token_id in tokens:
        parts.append(output.push(token_id))
        if output.reason is not None:
            break
    return parts, output


def cut(text: str, stops: list[str]) -> tuple[str, str | None]:
    for end in range(1, len(text) + 1):
        for stop in sorted(stops, key=len, reverse=True):
            if text[:end].endswith(stop):
                return text[: end - len(stop)], stop
    return text, None


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_text_is_the_whole_text_cut_before_the_stop(data):
    """Also if a stop string spans tokens, begins within a token, or contains characters that arrive in pieces."""
    if data.draw(st.booleans()):
        tokens = data.draw(st.lists(st.sampled_from(ORDINARY), min_size=1, max_size=25))
    else:
        tokens = TOKENIZER.encode(data.draw(st.text("ab é🎉", min_size=1, max_size=20)), add_special_tokens=False)
    whole = TOKENIZER.decode(tokens)
    starts = st.integers(0, max(len(whole) - 1, 0))
    stops = [whole[at : at + 3] for at in data.draw(st.lists(starts, max_size=2))] + ["é🦜", "ab"]
    stops = [stop for stop in stops if stop]
    parts, output = read(tokens, max_tokens=len(tokens), stop=tuple(stops))
    assert ("".join(parts), output.stop) == cut(whole, stops)
    assert output.reason == ("length" if output.stop is None else "stop")


@settings(deadline=None)
@given(st.lists(st.sampled_from(ORDINARY), max_size=10), st.lists(st.sampled_from(ORDINARY), max_size=5))
def test_an_end_token_ends_whatever_would_follow(before, after):
    parts, output = read([*before, EOS, *after])
    assert "".join(parts) == TOKENIZER.decode(before)
    assert (output.reason, output.stop, len(parts)) == ("stop", None, len(before) + 1)


def test_held_back_text_is_shown_at_the_end():
    tokens = TOKENIZER.encode("dog STO", add_special_tokens=False)
    assert "".join(read(tokens, stop=("STOP",))[0]) == "dog "
    assert "".join(read([*tokens, EOS], stop=("STOP",))[0]) == "dog STO"
    assert "".join(read(tokens, stop=("STOP",), max_tokens=len(tokens))[0]) == "dog STO"


def test_a_stop_string_completed_by_the_last_characters_replacement():
    """The flush at the end can complete a stop string, too."""
    half = [TOKENIZER.encode("🦜", add_special_tokens=False)[0]]
    parts, output = read([*half, EOS], stop=("�",))
    assert ("".join(parts), output.reason, output.stop) == ("", "stop", "�")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(ORDINARY), min_size=1, max_size=12), st.integers(0, 30))
def test_the_stop_can_be_a_part_of_the_answer(tokens, at):
    whole = TOKENIZER.decode(tokens)
    stop = whole[at : at + 2]
    if not stop:
        return
    shown, _ = read(tokens, max_tokens=len(tokens), stop=(stop,), include_stop_str_in_output=True)
    without, output = read(tokens, max_tokens=len(tokens), stop=(stop,))
    assert output.stop == stop
    assert "".join(shown) == "".join(without) + stop


def test_the_text_of_an_end_token_can_be_a_part_of_the_answer():
    tokens = TOKENIZER.encode("then", add_special_tokens=False)
    last = tokens[-1]
    asked = {"stop_token_ids": (last,), "include_stop_str_in_output": True}
    parts, output = read(tokens, **asked)
    assert ("".join(parts), output.stop) == ("then", last)
    # The token that ends it has no text, unless special tokens have.
    assert "".join(read([*tokens[:-1], EOS], include_stop_str_in_output=True)[0]) == TOKENIZER.decode(tokens[:-1])
    output = Output(
        SamplingParams(max_tokens=9, include_stop_str_in_output=True, skip_special_tokens=False),
        TOKENIZER.detokenizer((1,), skip_special=False),
        eos_ids=TOKENIZER.eos_ids,
        max_tokens=9,
    )
    assert output.push(EOS) == tiny_tokenizers.EOS
    assert output.reason == "stop"
