"""One question with its exact answer, and which side of the train / held-out split it lies on."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

HELD_OUT_PARTS = 16
"""One part in this many of all possible questions is never trained on."""


class ZooQuestion(msgspec.Struct, frozen=True):
    """A generated question.

    `key` is its content without the phrasing: two ways of asking for the same thing share a key, so that no
    rewording of a held-out question can slip into the training data. `difficulty` is 1 (easy) to 3 (hard) and
    says how the question was made, not how a model fares on it.
    """

    task: str
    kind: str
    prompt: str
    answer: str
    difficulty: int
    key: str


def is_held_out(question: ZooQuestion) -> bool:
    """Whether the question belongs to the evaluation alone."""
    digest = blake2b(question.key.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_PARTS == 0
