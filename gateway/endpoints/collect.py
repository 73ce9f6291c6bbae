"""Collects an answer that is not streamed."""

from collections.abc import Callable

from actors.api.errors import Refusal
from actors.api.messages import Delta, Done, Failed, Start
from actors.request.response_stream import ResponseStream
from gateway.http.connection import INTERNAL_ERROR


async def whole_answer(response: ResponseStream, take: Callable[[Start | Delta], None]) -> Done:
    """Read the answer to its end; `take` gets every event before `Done`.

    Raises Refusal for a failed answer: nothing was sent yet, so the failure can have its own HTTP status.
    """
    try:
        while True:
            for event in await response.__anext__():
                match event:
                    case Start() | Delta():
                        take(event)
                    case Done():
                        return event
                    case Failed():
                        raise Refusal(event.error)
    except StopAsyncIteration:
        raise Refusal(INTERNAL_ERROR) from None
