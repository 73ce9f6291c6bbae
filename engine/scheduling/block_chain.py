"""Hash chain over full KV blocks, so that equal block hashes imply equal tokens from the start of the sequence."""

from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b

_BYTES = 16


def chain_root(extras: Iterable[tuple[str, bytes]]) -> bytes:
    """The chain's value before the first block.

    `extras` are (domain, value) pairs of everything besides the tokens that determines the KV or who may share it, such
    as the tenant's salt. Every part is prefixed with its length, so that different lists never hash the same bytes.
    """
    root = blake2b(digest_size=_BYTES, person=b"kv-chain")
    for domain, value in extras:
        for part in (domain.encode(), value):
            root.update(len(part).to_bytes(8, "little"))
            root.update(part)
    return root.digest()


def chain_next(parent: bytes, token_ids: Sequence[int]) -> bytes:
    """The hash of the full block of `token_ids` that follows the block with hash `parent`.

    A cryptographic hash is needed, because a client that chooses tokens must not be able to construct a collision with
    another request's block.
    """
    return blake2b(parent + array("q", token_ids).tobytes(), digest_size=_BYTES).digest()
