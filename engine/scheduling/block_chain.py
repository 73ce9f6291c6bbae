"""Names of full KV blocks: a chain of hashes, so that equal names mean equal tokens all the way from the start."""

from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b

_BYTES = 16


def chain_root(extras: Iterable[tuple[str, bytes]]) -> bytes:
    """The name that stands before a sequence's first block.

    `extras` are (domain, value) pairs of whatever besides the tokens decides the KV or who may share it, such as the
    tenant's salt. Each part goes in with its length, so that no two lists of extras run together into the same bytes.
    """
    root = blake2b(digest_size=_BYTES, person=b"kv-chain")
    for domain, value in extras:
        for part in (domain.encode(), value):
            root.update(len(part).to_bytes(8, "little"))
            root.update(part)
    return root.digest()


def chain_next(parent: bytes, token_ids: Sequence[int]) -> bytes:
    """The name of the full block of `token_ids` that follows the block named `parent`.

    A cryptographic hash: whoever can choose tokens must not be able to make a block that another request would take
    for its own.
    """
    return blake2b(parent + array("q", token_ids).tobytes(), digest_size=_BYTES).digest()
