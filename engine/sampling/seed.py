"""The 64-bit seed of each sequence's sampling."""

from hashlib import blake2b

_MASK = 2**64 - 1


def sequence_seed(asked: int | None, engine_seed: int, sequence_id: int) -> int:
    """What the request asked for, folded into 64 bits; else one derived from the engine's own seed and the id."""
    if asked is not None:
        return asked & _MASK
    key = (engine_seed & _MASK).to_bytes(8, "little")
    digest = blake2b((sequence_id & _MASK).to_bytes(8, "little"), digest_size=8, key=key, person=b"sequence")
    return int.from_bytes(digest.digest(), "little")
