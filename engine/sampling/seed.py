"""The 64-bit sampling seed of a sequence."""

from hashlib import blake2b

_MASK = 2**64 - 1


def sequence_seed(requested: int | None, engine_seed: int, sequence_id: int) -> int:
    """The request's seed modulo 2^64; without one, a hash of the engine's seed and the sequence id."""
    if requested is not None:
        return requested & _MASK
    key = (engine_seed & _MASK).to_bytes(8, "little")
    digest = blake2b((sequence_id & _MASK).to_bytes(8, "little"), digest_size=8, key=key, person=b"sequence")
    return int.from_bytes(digest.digest(), "little")
