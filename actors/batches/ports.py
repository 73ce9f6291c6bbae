"""What the actor of batches uses of the rest: the formats of requests and results, and the service that answers."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from actors.api.errors import ErrorBody
from actors.api.request import InferenceRequest, ParsedBody
from actors.api.response import DecisionInfo, ResponseEvent
from actors.batches.records import LineFault, WaitingLine
from policies.admission.quota import RateLimits


class BatchAnswer(Protocol):
    """What is used of a `ResponseStream`."""

    @property
    def decided(self) -> DecisionInfo: ...
    def when_started(self, call: Callable[[], None]) -> None: ...
    async def next_events(self) -> list[ResponseEvent]: ...
    def cut(self, code: str, message: str) -> None: ...
    def close(self) -> None: ...


class Envelope(msgspec.Struct, frozen=True):
    """What a line of a file of requests says beside the body of its request."""

    custom_id: str
    model: str


class BatchFormats(Protocol):
    """The wire format of requests and results."""

    def check(self, raw: bytes, endpoint: str) -> Envelope | LineFault:
        """What can be known of a line before the batch begins. Raises nothing; takes no longer than to decode it."""

    def parse(self, raw: bytes, endpoint: str) -> ParsedBody:
        """The request of a checked line. Raises Refusal."""

    async def answer(self, endpoint: str, request: InferenceRequest, response: BatchAnswer) -> bytes:
        """The whole answer, as its endpoint writes it. Raises Refusal."""

    def answered(self, line: WaitingLine, request_id: str, status: int, body: bytes) -> bytes:
        """A line of results with an answer, or with an error of the endpoint."""

    def error(self, error: ErrorBody) -> bytes:
        """The body of an error."""

    def unanswered(self, line: WaitingLine, code: str, message: str) -> bytes:
        """A line of results for a request that was not answered."""


class BatchPorts(msgspec.Struct, frozen=True, kw_only=True):
    """Of the service."""

    open: Callable[[InferenceRequest], Awaitable[BatchAnswer]]
    """Raises Refusal."""
    serves: Callable[[], bool]
    """Models are loaded, and the ledger is open."""
    limits: Callable[[str], tuple[RateLimits | None, int | None]]
    """Of a tenant: its windows, and its bound on concurrent requests."""
    model_fault: Callable[[str], str]
    """Why a request for this model cannot be answered; "": it can."""
    run_in_thread: Callable[[Callable[[], object]], Awaitable[object]]
    wall: Callable[[], float]
