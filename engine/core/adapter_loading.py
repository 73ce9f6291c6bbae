"""Loads the adapters that an engine is to have when it begins."""

from collections.abc import Callable, Iterable

from engine.core.loop import Stepping
from engine.errors import EngineError
from engine.lora.adapters import Adapter, WantedAdapter
from engine.messages import AddAdapter


def load_adapters(
    engine: Stepping, wanted: Iterable[WantedAdapter], progress: Callable[[str], None], *, must: bool
) -> None:
    """`must`: one that cannot be read closes the engine and raises EngineError; otherwise it is left out."""
    for each in wanted:
        progress(f"loading adapter {each.name}")
        try:
            prepared = engine.read_adapter(each.path)
        except EngineError as error:
            message = f"its adapter '{each.name}' cannot be loaded: {error.message}"
            if must:
                engine.close()
                raise EngineError(error.code, message) from error
            progress(message)
        else:
            engine.accept(AddAdapter(Adapter(each.name, each.version, each.path, prepared)))
