"""Makes the engines' factories, one for each replica; the service calls them inside the engines' threads."""

from collections.abc import Callable
from functools import partial

import msgspec

from actors.api.engine_status import replica_titles
from actors.engines.engine_thread import EngineProgram, EngineSource
from config.model.settings import EngineSettings, Settings
from engine.core.loop import Stepping
from engine.hosting.wire import HostedEngine
from engine.load import load_engine
from engine.memory.resources import Resolved, resolve

Progress = Callable[[str], None]


def loads_adapters(settings: Settings) -> bool:
    """Adapters that the configuration does not name can be loaded by the admin API and requested by clients."""
    return settings.admin.enabled and any(model.adapters for model in settings.models.values())


def engine_factories(settings: Settings) -> dict[str, list[EngineSource]]:
    """A factory, or a process' program, for each replica of each engine. Nothing is loaded yet.

    Settings that are "auto" are decided here, once, for all engines together, so that a restarted engine gets the same.
    """
    replicas = {name: replica_settings(name, engine) for name, engine in settings.engines.items()}
    titled = {title: engine for titles in replicas.values() for title, engine in titles.items()}
    resolved = resolve(titled, more_adapters=loads_adapters(settings))
    return {name: [_source(resolved[title], title) for title in titles] for name, titles in replicas.items()}


def replica_settings(name: str, settings: EngineSettings) -> dict[str, EngineSettings]:
    """The settings of each replica of an engine, by the replica's title."""
    ranks = settings.tensor_parallel
    return {
        title: msgspec.structs.replace(
            settings, devices=settings.devices[number * ranks : (number + 1) * ranks], replicas=1
        )
        for number, title in enumerate(replica_titles(name, settings.replicas))
    }


def _source(resolved: Resolved, title: str) -> EngineSource:
    if resolved.settings.host == "process":
        return EngineProgram(HostedEngine(resolved.settings, title, message=resolved.message))
    return partial(_load, resolved, title)


def _load(resolved: Resolved, name: str, progress: Progress) -> Stepping:
    if resolved.message:
        progress(resolved.message)
    return load_engine(resolved.settings, name, progress)
