"""Whether an engine is usable. It ends once, by a failed step or by being closed, and stays ended."""

from engine.errors import EngineDead, EngineError


class EngineLifecycle:
    """State of one engine: alive, or the error that every later call raises."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._end: EngineDead | None = None

    def check(self) -> None:
        """Raises EngineDead if the engine has ended."""
        if self._end is not None:
            raise self._end

    def fail(self, error: Exception, when: str = "in a step") -> EngineDead:
        """Record a failure, `when` in words, and return the error to raise now and in every later `check`."""
        code = error.code if isinstance(error, EngineError) else "engine_failed"
        what = error.message if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
        self._end = EngineDead(code, f"engine {self._name} failed {when}: {what}")
        return self._end

    def close(self) -> None:
        """End the engine; an earlier failure stays the reason."""
        if self._end is None:
            self._end = EngineDead("engine_closed", f"engine {self._name} is closed; start a new one")
