"""The thread that writes the ledger's file."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from actors.kernel.workers import WorkerHandle
from actors.ledger.store import StoreEvent


class LedgerThreads(Protocol):
    """Starts the ledger's thread."""

    def store(self, path: Path | str, on_posts: Callable[[list[StoreEvent]], None]) -> WorkerHandle:
        """A handle that takes `LedgerBatch` and `StoreClosed`; `on_posts` is called in the event loop."""
        ...
