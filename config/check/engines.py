"""Checks engines, their adapters, prices and models' files, and that required tables are not empty.

Files are not loaded; of tokenizers digests are computed.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from config.model.settings import EngineSettings, Settings
from config.model.words import is_adapter_name
from config.problems.problems import Problems, nearest


def check_engines(settings: Settings, problems: Problems) -> None:
    for table in ("models", "tiers", "routes"):
        if not getattr(settings, table):
            problems.add_at_key((table,), "nothing is defined", expected="at least one", breaks=True)
    if not settings.engines and not settings.upstreams:
        problems.add_at_key(("engines",), "nothing is defined", expected="at least one", breaks=True)
    for name, engine in settings.engines.items():
        if engine.quantization_group is not None and engine.quantization != "int4":
            problems.add(
                ("engines", name, "quantization_group"),
                "only int4 weights have scales by groups",
                expected='quantization = "int4" beside it, or nothing',
            )
        if engine.max_step_tokens < engine.max_running:
            problems.add(
                ("engines", name, "max_step_tokens"),
                f"{engine.max_step_tokens} tokens of a step cannot hold one token of each running sequence",
                expected=f"at least max_running, {engine.max_running}",
            )
        markers = engine.reasoning_markers
        if markers and not (len(markers) == 2 and all(markers) and markers == tuple(map(str.strip, markers))):
            problems.add(
                ("engines", name, "reasoning_markers"),
                f"{list(markers)} are not two markers",
                expected="two texts without white space around them, the opening and the closing one",
            )
        if markers and engine.reasoning != "auto":
            problems.add(
                ("engines", name, "reasoning_markers"),
                f'reasoning = "{engine.reasoning}" says otherwise',
                expected="one of the two",
            )
        ranks = engine.replicas * engine.tensor_parallel
        if engine.devices and len(engine.devices) != ranks:
            problems.add(
                ("engines", name, "devices"),
                f"{len(engine.devices)} devices for {engine.replicas} replicas of {engine.tensor_parallel} ranks",
                expected=f"replicas · tensor_parallel, {ranks}: one for each rank",
            )
        if not engine.devices and engine.tensor_parallel > 1 and engine.device != "cpu":
            problems.add(
                ("engines", name, "tensor_parallel"),
                f"{engine.tensor_parallel} ranks cannot share the device {engine.device}",
                expected='devices = ["cuda:0", "cuda:1", …], one for each rank',
            )


def check_adapters(settings: Settings, problems: Problems) -> None:
    for name, engine in settings.engines.items():
        for adapter in engine.adapters:
            if not is_adapter_name(adapter):
                problems.add_at_key(
                    ("engines", name, "adapters", adapter),
                    f"'{adapter}' cannot be an adapter's name",
                    expected="1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit",
                )
        if engine.adapters and engine.tensor_parallel > 1:
            problems.add_at_key(
                ("engines", name, "adapters"),
                "adapters are not served by an engine whose model is split",
                expected="tensor_parallel = 1, or no adapters",
            )
        if len(engine.adapters) > engine.max_adapters:
            problems.add(
                ("engines", name, "max_adapters"),
                f"{len(engine.adapters)} adapters are given, and {engine.max_adapters} can be loaded",
                expected=f"at least {len(engine.adapters)}",
            )


def check_prices(settings: Settings, problems: Problems) -> None:
    rungs = settings.engines.keys() | settings.upstreams.keys()
    for name, price in settings.prices.items():
        if name not in rungs and not (problems.is_broken(("engines",)) or problems.is_broken(("upstreams",))):
            problems.unknown_name(("prices", name), "engine or upstream", name, rungs, at_key=True)
        if price.cached_input is not None and price.cached_input > price.input:
            problems.warn(
                ("prices", name, "cached_input"),
                f"{price.cached_input:g} for tokens in the cache is more than {price.input:g} for those that are not",
            )


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
