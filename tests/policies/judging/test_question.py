import pytest

from policies.judging.question import Question, choice, predicate, score

QUESTIONS = [
    (predicate("Is it old?"), ("yes", "no"), "one word, yes or no."),
    (choice("Which?", ("red", "dark blue")), ("red", "dark blue"), "nothing else: red; dark blue"),
    (score("How good?", 0, 3), ("0", "1", "2", "3"), "number from 0 to 3, and"),
]


@pytest.mark.parametrize(("question", "outcomes", "how"), QUESTIONS)
def test_the_prompt_has_question_text_and_outcomes(question: Question, outcomes: tuple[str, ...], how: str) -> None:
    prompt = question.prompt("a {text}")
    assert question.outcomes == outcomes
    assert prompt.index(question.text) < prompt.index("a {text}") < prompt.index(how)
