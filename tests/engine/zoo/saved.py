"""Reads what `engine.zoo.llama.save` wrote."""

from pathlib import Path

import msgspec
from safetensors.torch import load_file

from engine.zoo.llama import Llama, LlamaShape


def load(folder: Path) -> Llama:
    model = Llama(msgspec.json.decode((folder / "config.json").read_bytes(), type=LlamaShape))
    model.load_state_dict({name: value.float() for name, value in load_file(folder / "model.safetensors").items()})
    return model
