"""How the house gets its engines: factories that it calls inside the engines' threads."""

from collections.abc import Callable, Mapping
from functools import partial

from config.settings import EngineSettings
from engine.engine import Engine

Progress = Callable[[str], None]


def engine_factories(engines: Mapping[str, EngineSettings]) -> dict[str, Callable[[Progress], Engine]]:
    """One factory for each engine of the configuration. Nothing is loaded yet."""
    return {name: partial(Engine.load, settings, name) for name, settings in engines.items()}
