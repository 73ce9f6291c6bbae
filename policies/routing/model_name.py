"""What a client may ask for as `model`: NAME, or NAME:ADAPTER."""

import difflib
from collections.abc import Callable, Collection

from policies.errors import NoSuchModel

_SHOWN = 200


def find_model(asked: str, models: Collection[str], adapters_of: Callable[[str], Collection[str]]) -> tuple[str, str]:
    """The model and the adapter, "" if none was asked for. Raises NoSuchModel."""
    if asked in models:
        return asked, ""
    model, _, adapter = asked.rpartition(":")
    if model in models and adapter in adapters_of(model):
        return model, adapter
    known = [*models, *(f"{model}:{adapter}" for model in models for adapter in adapters_of(model))]
    nearest = difflib.get_close_matches(asked[:_SHOWN], known, n=1)
    raise NoSuchModel(asked[:_SHOWN], nearest[0] if nearest else None)
