"""How the house gets its engines: factories that it calls inside the engines' threads, one for each replica."""

from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from actors.engine_board import replica_titles
from config.settings import EngineSettings
from engine.load import load_engine
from engine.loop import Stepping

Progress = Callable[[str], None]


def engine_factories(engines: Mapping[str, EngineSettings]) -> dict[str, list[Callable[[Progress], Stepping]]]:
    """A factory for each replica of each engine of the configuration. Nothing is loaded yet."""
    return {
        name: [partial(load_engine, each, title) for title, each in replica_settings(name, settings).items()]
        for name, settings in engines.items()
    }


def replica_settings(name: str, settings: EngineSettings) -> dict[str, EngineSettings]:
    """What each replica of an engine is called, and what it is loaded with."""
    ranks = settings.tensor_parallel
    return {
        title: msgspec.structs.replace(
            settings, devices=settings.devices[number * ranks : (number + 1) * ranks], replicas=1
        )
        for number, title in enumerate(replica_titles(name, settings.replicas))
    }
