"""Text that one engine begins and another continues equals the text of one uninterrupted answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.prompt.continuation import ContinuationDetokenizer, params_after
from engine.messages import Finish, TokenDelta
from engine.sampling.params import SamplingParams
from engine.scheduling.output import Output
from tests.engine.tiny_tokenizers import byte_level_tokenizer, sentencepiece_tokenizer

PIECES = st.lists(
    st.sampled_from(["the ", "dog", " ", "東京", "👩‍👩‍👧", "é", "fox j", "umps", "a"]), min_size=1, max_size=8
)


@given(
    words=PIECES,
    cut=st.integers(0, 30),
    group=st.integers(1, 4),
    stop=st.sampled_from([(), ("fox jumps",), ("dog",), ("京👩", "e d")]),
    max_tokens=st.integers(1, 60),
    pieces=st.booleans(),
    from_the_start=st.booleans(),
    exact=st.booleans(),
)
def test_where_another_engine_continues_is_invisible(
    *, words, cut, group, stop, max_tokens, pieces, from_the_start, exact
):
    tokenizer = sentencepiece_tokenizer() if pieces else byte_level_tokenizer()
    # With nothing but special tokens before it, SentencePiece's first space is not part of the answer.
    prompt = () if from_the_start else tuple(tokenizer.encode("dog", add_special_tokens=False))
    ids = [*tokenizer.encode("".join(words), add_special_tokens=False), *tokenizer.eos_ids]
    params = SamplingParams(max_tokens=max_tokens, stop=stop)

    def fresh() -> Output:
        return Output(
            params, tokenizer.detokenizer(prompt, exact=exact), eos_ids=tokenizer.eos_ids, max_tokens=max_tokens
        )

    whole = fresh()
    expected = ""
    for token_id in ids:
        if whole.reason is None:
            expected += whole.push(token_id)
    small = fresh()
    released = ids[: min(cut, len(ids))]
    text = ""
    for token_id in released:
        if small.reason is None:
            text += small.push(token_id)
    if small.reason is not None:
        return
    continuation = ContinuationDetokenizer(params, tokenizer, prompt, released, text, exact=exact)
    assert not continuation.ended
    rest = ids[len(released) :][: params_after(params, len(released)).max_tokens]
    reason = None
    for start in range(0, len(rest), group):
        chunk = tuple(rest[start : start + group])
        last = start + group >= len(rest)
        ends = "stop" if chunk[-1] in tokenizer.eos_ids else "length"
        finish = Finish(reason=ends, prompt_tokens=1, completion_tokens=1) if last else None
        output = continuation.carry_on(TokenDelta(1, chunk, "?", (1.0,) * len(chunk), finish=finish))
        text += output.text
        if output.finish is not None:
            reason = output.finish.reason
            break
    assert text == expected
    assert reason == whole.reason


def test_a_prefix_that_was_a_whole_answer_has_only_its_end_to_say():
    tokenizer = byte_level_tokenizer()
    ids = tokenizer.encode("the dog")
    params = SamplingParams(max_tokens=len(ids))
    continuation = ContinuationDetokenizer(params, tokenizer, (1,), ids, "the do")
    assert continuation.ended
    assert continuation.rest() == ("g", "length", None)


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_the_last_token_allowed_may_complete_a_grammar(reason):
    """As in an answer that one engine makes alone: that is no answer cut at its length."""
    tokenizer = byte_level_tokenizer()
    ids = tokenizer.encode("fox", add_special_tokens=False)
    params = SamplingParams(max_tokens=len(ids))
    continuation = ContinuationDetokenizer(params, tokenizer, (), ids[:-1], "", exact=True)
    end = Finish(reason=reason, prompt_tokens=0, completion_tokens=1)
    told = continuation.carry_on(TokenDelta(1, tuple(ids[-1:]), "?", (1.0,), finish=end))
    assert (told.text, told.finish.reason) == ("fox", reason)
