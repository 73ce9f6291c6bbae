"""What everybody may know of an engine: published by its actor, read without asking."""

from typing import Literal

from engine.limits import Limits
from engine.messages import EngineStats

EngineState = Literal["loading", "ready", "failed"]


class EngineBoard:
    """One engine's notice board. Only its actor writes; outlives its restarts."""

    __slots__ = ("epoch", "inside", "limits", "name", "restarts", "state", "stats", "why")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: EngineState = "loading"
        self.why: str | None = None
        """The last word on the progress, or what went wrong."""
        self.epoch = 0
        """Counts the engine's lives."""
        self.restarts = 0
        self.limits: Limits | None = None
        """Known once it was loaded; the same in every life."""
        self.stats: EngineStats | None = None
        """As of the last step; None: it has not been loaded."""
        self.inside = 0
        """Sequences that it has in hand."""
