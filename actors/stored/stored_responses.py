"""Asks the store of responses, whose thread it starts; see `response_store` for the queries and what they give."""

from collections.abc import Callable
from typing import ClassVar, Protocol

from actors.api.errors import Unavailable
from actors.kernel.store_calls import StoreClient, StoreReply
from actors.kernel.thread_bridge import WorkerHandle


class ResponseThreads(Protocol):
    """Starts the thread of the store."""

    def response_store(self, on_posts: Callable[[list[StoreReply]], None]) -> WorkerHandle:
        """A handle that takes `StoreCall` and `StoreEnd`; `on_posts` is called in the event loop."""


class StoredResponses(StoreClient):
    """One object for the life of the service; `run` may end and be called again."""

    redelivered: ClassVar[tuple[type, ...]] = ()

    def __init__(self, threads: ResponseThreads, *, keeps: bool) -> None:
        """`keeps`: false if the settings store no responses."""
        super().__init__(threads.response_store, name="response_store", unavailable=_unavailable)
        self.keeps = keeps


def _unavailable() -> Unavailable:
    return Unavailable(
        "responses_unavailable",
        "Stored responses cannot be read or written now. Try again, or send the whole input with 'store': false.",
        1.0,
    )
