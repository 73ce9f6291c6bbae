"""Collects an answer that is not streamed."""

from collections.abc import Callable

from actors.api.errors import Refusal
from actors.api.response import Delta, Done, Failed, Start
from actors.request.response_stream import ResponseStream
from gateway.http.connection import INTERNAL_ERROR


async def whole_answer(response: ResponseStream, take: Callable[[Start | Delta], None]) -> Done:
    """Read the answer to its end; `take` gets every event before `Done`.

    Raises Refusal for a failed answer: nothing was sent yet, so the failure can have its own HTTP status.
    """
    while events := await response.next_events():
        for event in events:
            match event:
                case Start() | Delta():
                    take(event)
                case Done():
                    return event
                case Failed():
                    raise Refusal(event.error)
    raise Refusal(INTERNAL_ERROR)
