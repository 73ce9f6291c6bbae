"""A question about a text, with the outcomes that it can have."""

from typing import Literal

import msgspec

QuestionKind = Literal["predicate", "choice", "score"]
YES, NO = "yes", "no"


class Question(msgspec.Struct, frozen=True):
    """What a model is asked, in words that do not depend on the text."""

    kind: QuestionKind
    text: str
    outcomes: tuple[str, ...]
    """The answers that it can have, as the model is to write them: a predicate's are yes and no, a score's numbers."""

    def prompt(self, about: str) -> str:
        """The whole question: it first, because texts differ and the prefix cache then has the beginning."""
        match self.kind:
            case "predicate":
                how = f"Answer with one word, {YES} or {NO}."
            case "choice":
                how = f"Answer with exactly one of these, and nothing else: {'; '.join(self.outcomes)}"
            case "score":
                how = f"Answer with one whole number from {self.outcomes[0]} to {self.outcomes[-1]}, and nothing else."
        return f"{self.text}\n\nThe text:\n\n{about}\n\n{how}"


def predicate(text: str) -> Question:
    """A question whose answer is yes or no."""
    return Question("predicate", text, (YES, NO))


def choice(text: str, options: tuple[str, ...]) -> Question:
    """A question whose answer is one of `options`."""
    return Question("choice", text, options)


def score(text: str, lowest: int, highest: int) -> Question:
    """A question whose answer is a whole number of the scale, both ends included."""
    return Question("score", text, tuple(map(str, range(lowest, highest + 1))))
