"""The training data: only answers have weight, and in recitals only what can be predicted."""

from random import Random

from engine.zoo.corpus import Corpus, Mix
from engine.zoo.tokenizer import ASSISTANT, END, special_id, train_tokenizer

TOKENIZER = train_tokenizer()


def corpus(mix: Mix) -> Corpus:
    return Corpus(TOKENIZER, Random(5), 1024, mix)


def test_a_recital_teaches_the_last_words_from_the_second_time_on() -> None:
    lessons = corpus(Mix({"arithmetic": 1}, recitals=1.0, bare=1.0))
    for _ in range(30):
        tokens, weights = lessons.conversation()
        assert len(tokens) == len(weights)
        told = TOKENIZER.decode(tokens).split(".")
        learned = [token for token, weight in zip(tokens, weights, strict=True) if weight]
        size = (len(told) - 1) // 4
        again = [fact.split()[-1] for fact in told[size:-1]]
        assert TOKENIZER.decode(learned).split() == again


def test_of_questions_the_answers_are_learned() -> None:
    lessons = corpus(Mix({"arithmetic": 1, "lookups": 1}, passages=0.5))
    end, assistant = special_id(TOKENIZER, END), special_id(TOKENIZER, ASSISTANT)
    for _ in range(50):
        tokens, weights = lessons.conversation()
        answering = False
        for token, weight in zip(tokens, weights, strict=True):
            assert bool(weight) == answering
            answering = token == assistant or (answering and token != end)


def test_a_passage_is_asked_about_more_than_once() -> None:
    lessons = corpus(Mix({"arithmetic": 1}, passages=1.0, passage_questions=(6, 6)))
    assistant = special_id(TOKENIZER, ASSISTANT)
    counts = [lessons.conversation()[0].count(assistant) for _ in range(40)]
    assert max(counts) == 6
    assert sum(counts) > 160
