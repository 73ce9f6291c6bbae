"""Asks the store of files and batches, whose thread it starts; see `store_queries` for what it gives."""

from collections.abc import Callable
from typing import Protocol

from actors.api.errors import Unavailable
from actors.kernel.store_calls import StoreClient, StoreReply
from actors.kernel.thread_bridge import WorkerHandle


class BatchThreads(Protocol):
    """Starts the thread of the store."""

    def batch_store(self, on_posts: Callable[[list[StoreReply]], None]) -> WorkerHandle:
        """A handle that takes `StoreCall` and `StoreEnd`; `on_posts` is called in the event loop."""


class StoredBatches(StoreClient):
    """See `StoreClient`."""

    def __init__(self, threads: BatchThreads) -> None:
        super().__init__(threads.batch_store, name="batch_store", unavailable=_unavailable)


def _unavailable() -> Unavailable:
    return Unavailable("batches_unavailable", "Files and batches cannot be read or written now. Try again.", 1.0)
