"""An answer that is handed out whole."""

from collections.abc import Callable

from actors.api.errors import Refusal
from actors.api.response import Delta, Done, Failed, Start
from actors.request.response_stream import ResponseStream
from gateway.http.connection import INTERNAL_ERROR


async def whole_answer(response: ResponseStream, take: Callable[[Start | Delta], None]) -> Done:
    """Its end; `take` has got all that comes before.

    Raises Refusal: nothing was sent yet, so that a failure can have its true status.
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
