"""How the service gets its engines: factories that it calls inside the engines' threads, one for each replica."""

from collections.abc import Callable
from functools import partial

import msgspec

from actors.api.engine_status import replica_titles
from config.model.settings import EngineSettings, Settings
from engine.core.loop import Stepping
from engine.load import load_engine
from engine.memory.resources import Resolved, resolve

Progress = Callable[[str], None]


def loads_adapters(settings: Settings) -> bool:
    """Clients may ask for adapters that the configuration does not name, and somebody may load them."""
    return settings.admin.enabled and any(model.adapters for model in settings.models.values())


def engine_factories(settings: Settings) -> dict[str, list[Callable[[Progress], Stepping]]]:
    """A factory for each replica of each engine of the configuration. Nothing is loaded yet.

    What is "auto" is decided here, once, for all of them together: an engine that is started again gets what it had.
    """
    replicas = {name: replica_settings(name, each) for name, each in settings.engines.items()}
    titled = {title: each for titles in replicas.values() for title, each in titles.items()}
    resolved = resolve(titled, more_adapters=loads_adapters(settings))
    return {name: [partial(_load, resolved[title], title) for title in titles] for name, titles in replicas.items()}


def replica_settings(name: str, settings: EngineSettings) -> dict[str, EngineSettings]:
    """What each replica of an engine is called, and what it is loaded with."""
    ranks = settings.tensor_parallel
    return {
        title: msgspec.structs.replace(
            settings, devices=settings.devices[number * ranks : (number + 1) * ranks], replicas=1
        )
        for number, title in enumerate(replica_titles(name, settings.replicas))
    }


def _load(resolved: Resolved, name: str, progress: Progress) -> Stepping:
    if resolved.message:
        progress(resolved.message)
    return load_engine(resolved.settings, name, progress)
