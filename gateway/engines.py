"""How the house gets its engines: factories that it calls inside the engines' threads."""

from collections.abc import Callable, Mapping
from functools import partial

from config.settings import EngineSettings
from engine.load import load_engine
from engine.loop import Stepping

Progress = Callable[[str], None]


def engine_factories(engines: Mapping[str, EngineSettings]) -> dict[str, Callable[[Progress], Stepping]]:
    """One factory for each engine of the configuration. Nothing is loaded yet."""
    return {name: partial(load_engine, settings, name) for name, settings in engines.items()}
