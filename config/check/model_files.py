"""Whether the model directories hold what a model needs, and which read text alike; nothing is loaded for it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from config.model.settings import EngineSettings, Settings
from config.problems.problems import Problems, nearest


def check_model_files(settings: Settings, problems: Problems) -> dict[str, str]:
    """Report what is missing; by engine, a digest of the tokenizer's file where there is one."""
    digests: dict[str, str] = {}
    for name, engine in settings.engines.items():
        if problems.is_broken(("engines", name)) or problems.is_broken(("engines", name, "model")):
            continue
        for fault in _faults(engine):
            problems.add(("engines", name, "model"), fault)
        for adapter, given in engine.adapters.items():
            if not (given.path / "adapter_config.json").is_file():
                path = ("engines", name, "adapters", adapter, "path")
                problems.add(path, f"{given.path} holds no adapter_config.json", expected="a folder that PEFT wrote")
        try:
            digests[name] = hashlib.sha256((engine.model / "tokenizer.json").read_bytes()).hexdigest()
        except OSError:
            continue  # told above
    return digests


def model_file_problems(settings: Settings) -> list[str]:
    """One sentence for each file or folder that is missing or cannot be read."""
    return [f"engine '{name}': {fault}" for name, engine in settings.engines.items() for fault in _faults(engine)]


def _faults(engine: EngineSettings) -> Iterator[str]:
    if not engine.model.is_dir():
        yield f"there is no model directory {engine.model}{_near(engine.model)}"
        return
    for file in (engine.model / "config.json", engine.model / "tokenizer.json"):
        try:
            file.open("rb").close()
        except OSError as error:
            yield f"{file} cannot be read: {error.strerror}"
    if not any(engine.model.glob("*.safetensors")):
        yield f"{engine.model} holds no *.safetensors file"


def _near(missing: Path) -> str:
    """The name that was probably meant, from the first folder of the path that is there."""
    there = missing
    while not there.is_dir() and there != there.parent:
        there, wrong = there.parent, there.name
        if there.is_dir():
            near = nearest(wrong, [each.name for each in there.iterdir() if each.is_dir()])
            return f"; did you mean {there / near}?" if near else f"; {there} has no folder {wrong}"
    return ""
