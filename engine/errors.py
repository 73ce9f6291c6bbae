"""What can go wrong in an engine.

The tree:
    EngineError              code, message
    ├── ModelError           a model directory cannot be served
    ├── RequestRefused       one request cannot be run; the engine goes on
    └── EngineDead           the engine has ended and will run nothing more

`code` is stable and snake_case; `message` says what was wrong and what to do.
"""


class EngineError(Exception):
    """An engine cannot do what it was asked."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ModelError(EngineError):
    """A model directory cannot be served."""


class RequestRefused(EngineError):  # noqa: N818 - it is a refusal, not a fault
    """One request cannot be run: it is too long, too large for the KV pool, or names tokens that do not exist."""


class EngineDead(EngineError):  # noqa: N818 - a state that lasts
    """The step loop failed: every sequence in it is lost, and a new engine has to be started."""


def bad_logits() -> EngineError:
    """The model's numbers cannot be trusted any more."""
    return EngineError(
        "bad_logits",
        'the model computed NaN or infinite logits; check its weights, or load it with dtype = "float32"',
    )
