"""Errors that an engine raises.

The tree:
    EngineError              code, message
    ├── ModelError           a model directory cannot be served
    ├── RequestRefused       one request cannot be run; the engine continues
    └── EngineDead           the engine has stopped and runs nothing more

`code` is stable and snake_case; `message` states the cause and the remedy.
"""


class EngineError(Exception):
    """Base class: an engine operation failed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ModelError(EngineError):
    """A model directory cannot be served."""


class RequestRefused(EngineError):  # noqa: N818 - it is a refusal, not a fault
    """One request cannot be run: it is too long, too large for the KV pool, or names tokens that do not exist."""

    def __init__(self, code: str, message: str, *, param: str | None = None) -> None:
        """`param`: the field of the request that is at fault; None: the one with the prompt."""
        super().__init__(code, message)
        self.param = param


class EngineDead(EngineError):  # noqa: N818 - a state that lasts
    """The step loop failed or the engine was closed: all its sequences are lost, and a new engine must be started."""


def bad_logits() -> EngineError:
    """The error to raise when logits are NaN or infinite."""
    return EngineError(
        "bad_logits",
        'the model computed NaN or infinite logits; check its weights, or load it with dtype = "float32"',
    )
