"""A generated question with its exact answer, and the train / held-out split."""

from hashlib import blake2b

import msgspec

HELD_OUT_PARTS = 16
"""One in this many of all possible questions is held out."""


class ZooQuestion(msgspec.Struct, frozen=True):
    """A generated question.

    `key` is the content without the phrasing: rephrasings of a question share it, so that none of a held-out question
    can be in the training data. `difficulty` is 1 (easy) to 3 (hard), by construction, not by a model's results.
    """

    task: str
    kind: str
    prompt: str
    answer: str
    difficulty: int
    key: str


def is_held_out(question: ZooQuestion) -> bool:
    """Whether the question is for evaluation only."""
    digest = blake2b(question.key.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_PARTS == 0
