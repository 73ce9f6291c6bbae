from engine.sampling.bad_words import completing, spellings
from engine.testing.fake_runner import FakeRunner
from tests.engine import tiny_tokenizers
from tests.engine.driving import make_engine, run, submit

TOKENIZER = tiny_tokenizers.byte_level_tokenizer()


def test_a_word_is_spelled_alone_and_after_a_space() -> None:
    found = spellings(["quick", "🎉"], TOKENIZER)
    assert {TOKENIZER.decode(ids) for ids in found} == {"quick", " quick", "🎉", " 🎉"}
    assert len(set(found)) == len(found)


def test_only_the_last_token_of_a_sequence_is_banned() -> None:
    sequences = ((7,), (1, 2), (1, 2, 3), (9, 9, 9))
    assert completing(sequences, []) == [7]
    assert completing(sequences, [1]) == [7, 2]
    assert completing(sequences, [5, 1, 2]) == [7, 3]
    assert completing(sequences, [1, 2, 5]) == [7]
    assert completing(sequences, [9, 9]) == [7, 9]


def test_an_answer_goes_round_a_bad_word() -> None:
    """A grammar forces "ab" repeatedly, but the last token of the banned word never occurs."""
    word = " quick"
    ids = TOKENIZER.encode(word, add_special_tokens=False)

    def script(sample):
        at = len(sample.output_token_ids) % len(ids)
        return None if sample.bad_words and at == len(ids) - 1 else (ids[at], 1.0)

    free = run(make_engine(FakeRunner(vocab_size=420, script=script)), submit(0, [1], max_tokens=12))[0]
    assert "quick" in free.text
    bound = run(
        make_engine(FakeRunner(vocab_size=420, script=script)), submit(0, [1], max_tokens=12, bad_words=("quick",))
    )[0]
    assert "quick" not in bound.text
