"""One line of the table: a way out, and what stands in every book behind it."""

from dataclasses import dataclass, field
from typing import Any

from tests.actors.books.ways_out import WayOut
from tests.actors.books.world import Told


@dataclass(frozen=True)
class Row:
    """Of the ledger."""

    outcome: str
    why: str
    rung: str
    prompt: int
    completion: int
    discarded: int
    cost: float


@dataclass(frozen=True)
class Way:
    """One way out, and what stands in the books behind it."""

    name: str
    go: WayOut
    told: Told
    row: Row | None
    """Of the last request; None: it has none."""
    tokens: int = 0
    """That count in the minute and in the day."""
    requests: int = 1
    """That count in the minute."""
    money: float | None = None
    """Spent of the budget; None: what the row says."""
    reserved: tuple[int, float] | None = None
    """Tokens and money that the last request was let in with; None: see `cost` (with drafts it depends)."""
    service: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name.replace(" ", "-")
