"""Checks that the models' files exist, without loading them, and computes digests of the tokenizers."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from config.model.settings import EngineSettings, Settings
from config.problems.problems import Problems, nearest


def check_model_files(settings: Settings, problems: Problems) -> dict[str, str]:
    """Report missing files. Returns, by engine, the digest of its tokenizer.json, where it can be read."""
    digests: dict[str, str] = {}
    for name, engine in settings.engines.items():
        if problems.is_broken(("engines", name)) or problems.is_broken(("engines", name, "model")):
            continue
        for fault in _faults(engine):
            problems.add(("engines", name, "model"), fault)
        for adapter, adapter_settings in engine.adapters.items():
            folder = adapter_settings.path
            if not (folder / "adapter_config.json").is_file():
                path = ("engines", name, "adapters", adapter, "path")
                problems.add(path, f"{folder} holds no adapter_config.json", expected="a folder that PEFT wrote")
        try:
            digests[name] = hashlib.sha256((engine.model / "tokenizer.json").read_bytes()).hexdigest()
        except OSError:
            continue  # reported above
    return digests


def model_file_problems(settings: Settings) -> list[str]:
    """One sentence for every file or folder that is missing or cannot be read."""
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
    """A suggestion: a folder with a similar name, in the innermost folder of the path that exists."""
    existing = missing
    while not existing.is_dir() and existing != existing.parent:
        existing, wrong = existing.parent, existing.name
        if existing.is_dir():
            near = nearest(wrong, [folder.name for folder in existing.iterdir() if folder.is_dir()])
            return f"; did you mean {existing / near}?" if near else f"; {existing} has no folder {wrong}"
    return ""
