"""What can go wrong in an engine.

PenstockEngineError tree:
    EngineError          code, message
    ├── ModelError       the model directory cannot be served
"""


class EngineError(Exception):
    """An engine cannot go on. `code` is stable; `message` says what was wrong and what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ModelError(EngineError):
    """A model directory cannot be served."""
