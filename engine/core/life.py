"""Whether an engine still lives, and why not: it ends once, by a failed step or by being closed, and stays so."""

from engine.errors import EngineDead, EngineError


class EngineLifecycle:
    """One engine's."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._end: EngineDead | None = None

    def check(self) -> None:
        """Raises EngineDead after the end."""
        if self._end is not None:
            raise self._end

    def fail(self, error: Exception, when: str = "in a step") -> EngineDead:
        """Something went wrong: what is to be raised, now and ever after."""
        code = error.code if isinstance(error, EngineError) else "engine_failed"
        what = error.message if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
        self._end = EngineDead(code, f"engine {self._name} failed {when}: {what}")
        return self._end

    def close(self) -> None:
        """After a failure, that stays the reason."""
        if self._end is None:
            self._end = EngineDead("engine_closed", f"engine {self._name} is closed; start a new one")
