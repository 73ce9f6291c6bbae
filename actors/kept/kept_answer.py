"""One kept answer: its events so far, for all who read them, now or later. Bounded; nothing here waits for a client."""

from collections.abc import Callable, Sequence

import trio

from actors.api.errors import ErrorBody, Refusal
from actors.api.request import InferenceRequest
from actors.api.response import DecisionInfo, Delta, Done, Failed, ResponseEvent, Start
from actors.request.response_stream import EventSink

_EVENT_BYTES = 256
"""Estimated memory of an event beside its texts."""
_LOGPROB_BYTES = 400
"""The same of one position with alternatives."""


class KeptAnswer:
    """Written by its own task, read by any number of `KeptReader`s."""

    def __init__(
        self,
        request: InferenceRequest,
        tenant: str,
        *,
        endpoint: str,
        created: int,
        key: str,
        on_left: "Callable[[KeptAnswer], None]",
        background: bool = False,
    ) -> None:
        """`endpoint`: its wire format. `created`: seconds since 1970. `on_left`: called when the last reader leaves.

        `background`: it goes on without a reader.
        """
        self.request = request
        self.tenant = tenant
        self.key = key
        """The Idempotency-Key; "": none."""
        self.endpoint = endpoint
        self.created = created
        self.decided: DecisionInfo | None = None
        """None: it is not decided yet."""
        self.bytes = request.body_bytes
        self.ended = False
        self.failed = False
        """It ended with an error, or with nothing."""
        self.idle_since: float | None = None
        """It has had no reader since then."""
        self.readers: set[KeptReader] = set()
        self._events: list[ResponseEvent] = []
        self._dropped = 0
        """Events before the first of `_events`."""
        self._refusal: ErrorBody | None = None
        self.scope = trio.CancelScope()
        """Of its task."""
        self.stored = False
        """What its readers get is in the file before."""
        self.background = background
        self.restored = 0
        """Events that an ended process has left; -1: that process had sent none."""
        self.waits = False
        """It is to go on when a reader comes: the process that began it has ended."""
        self._is_handed_on = False
        self._is_held_back = False
        self._on_left = on_left
        self._changed = trio.lowlevel.ParkingLot()

    def opened(self, decided: DecisionInfo) -> None:
        # Of a continued answer the first decision counts: its digest is in all parts of the answer.
        self.decided = self.decided or decided
        self._changed.unpark_all()

    def held_back(self) -> None:
        """A rung makes it, and nothing is shown yet."""
        self._is_held_back = True
        self._changed.unpark_all()

    def restore(self, decided: DecisionInfo | None, events: Sequence[ResponseEvent]) -> None:
        """Take over what an ended process has left."""
        self.decided = decided
        self.restored = len(events) or -1
        self.stored = True
        self.idle_since = trio.current_time()
        if events:
            self.add(list(events))
        self.waits = not self.ended

    def hand_on(self) -> bool:
        """Whether the caller is the first who has all of it, and so sees to what is done with an answer at its end."""
        first, self._is_handed_on = not self._is_handed_on, True
        return first

    def add(self, events: list[ResponseEvent]) -> None:
        self._events += events
        self.bytes += sum(map(_size, events))
        match events[-1]:
            case Done():
                self.ended = True
            case Failed():
                self.ended = self.failed = True
        self._changed.unpark_all()

    def refuse(self, error: ErrorBody) -> None:
        """It ends with this error instead of events."""
        if not self.ended:
            self.ended = self.failed = True
            self._refusal = error
            self._changed.unpark_all()

    @property
    def events(self) -> tuple[ResponseEvent, ...]:
        """Those so far; only while none was forgotten."""
        return tuple(self._events)

    @property
    def error(self) -> ErrorBody | None:
        """By which it has ended."""
        last = self._events[-1] if self._events else None
        return last.error if isinstance(last, Failed) else self._refusal

    @property
    def is_unread(self) -> bool:
        """It runs without a reader, and was not asked to."""
        return not (self.ended or self.readers or self.waits or self.background)

    @property
    def position(self) -> int:
        """Number of events so far."""
        return self._dropped + len(self._events)

    @property
    def delivered_tokens(self) -> int:
        """Of the events that are still here."""
        deltas = [event for event in self._events if isinstance(event, Delta)]
        return sum([len(delta.token_ids) + delta.unnamed for delta in deltas])

    def trim(self) -> None:
        """Forget what all its readers have: it will not be read from the beginning again."""
        read = min([reader.position for reader in self.readers], default=self.position)
        forgotten = self._events[: read - self._dropped]
        del self._events[: len(forgotten)]
        self._dropped += len(forgotten)
        self.bytes -= sum(map(_size, forgotten))

    def left(self, reader: "KeptReader") -> None:
        self.readers.discard(reader)
        if not self.readers:
            self.idle_since = trio.current_time()
            self._on_left(self)

    async def begun(self) -> DecisionInfo:
        """Wait for the decision. Raises Refusal."""
        while self.decided is None:
            if self._refusal is not None:
                raise Refusal(self._refusal)
            await self._changed.park()
        return self.decided

    async def begins(self) -> bool:
        """Wait until there is something to read, or until a rung makes what is held back: then True."""
        while not (self.position or self.ended or self._is_held_back):
            await self._changed.park()
        return not (self.position or self.ended)

    async def after(self, position: int) -> list[ResponseEvent]:
        """Wait for events from this position on; none after the end. Raises Refusal."""
        while self.position <= position:
            if self._refusal is not None:
                raise Refusal(self._refusal)
            if self.ended:
                return []
            await self._changed.park()
        return self._events[position - self._dropped :]


class KeptReader:
    """Reads a kept answer from its beginning, as an endpoint reads a `ResponseStream`."""

    def __init__(self, answer: KeptAnswer) -> None:
        self.answer = answer
        self.position = 0
        answer.readers.add(self)
        answer.idle_since = None

    @property
    def decided(self) -> DecisionInfo:
        decided = self.answer.decided
        assert decided is not None, "a reader is opened when the decision is there"
        return decided

    async def next_events(self) -> list[ResponseEvent]:
        """At least one event; none after the last one. Raises Refusal."""
        events = await self.answer.after(self.position)
        self.position += len(events)
        return events

    def emit_through(self, sink: EventSink) -> None:
        """Everything goes through `next_events`."""

    def close(self) -> None:
        """Synchronous, idempotent. The answer goes on."""
        if self in self.answer.readers:
            self.answer.left(self)


def _size(event: ResponseEvent) -> int:
    """Estimated bytes."""
    match event:
        case Delta():
            texts = len(event.text) + len(event.reasoning) + sum([len(call.arguments) for call in event.calls])
            positions = len(event.logprobs) + len(event.prompt_logprobs)
            extras = 0 if event.extras is None else _EVENT_BYTES + 4 * event.extras.size
            return _EVENT_BYTES + extras + 4 * texts + 36 * len(event.token_ids) + _LOGPROB_BYTES * positions
        case Start():
            return _EVENT_BYTES + 4 * sum(map(len, event.echo))
    return _EVENT_BYTES
