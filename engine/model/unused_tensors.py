"""Check for tensors in a model's files that the engine does not use."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from engine.errors import ModelError
from engine.model.checkpoint import Checkpoint

BUFFERS = (r".*\.rotary_emb\.(inv_freq|cos_cached|sin_cached)",)
"""Decoder: rotary tables, which are computed from config.json."""
ENCODER_HEADS = (r"(.*\.)?embeddings\.position_ids", r"(.*\.)?pooler\..*", r"cls\..*", r"lm_head\..*")
"""Encoder: the position ids 0, 1, 2, ... and the modules after the layers, which embeddings do not use."""
_SHOWN = 3


def check_unused_tensors(checkpoint: Checkpoint, harmless: Iterable[str], ignored: Iterable[str]) -> None:
    """After loading, check that only tensors matched by `harmless` (regular expressions) are left unread.

    `ignored`: names with `*` as wildcard, from the engine's settings.

    Raises:
        ModelError: other tensors are left; the message names some.
    """
    known = [re.compile(pattern) for pattern in harmless]
    wildcards = list(ignored)
    left = [
        name
        for name in checkpoint.unused()
        if not any(pattern.fullmatch(name) for pattern in known)
        and not any(fnmatchcase(name, wildcard) for wildcard in wildcards)
    ]
    if left:
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        raise ModelError(
            "model_unsupported",
            f"{checkpoint.directory}: nothing of this architecture reads tensor {', '.join(left[:_SHOWN])}{more}: the "
            "numbers would not be the model's; if they are of no account, list them in the engine's table: "
            f'ignore_tensors = ["{left[0]}"]; * stands for any part of a name',
        )
