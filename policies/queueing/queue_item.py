"""What waits in a fair queue, and the answers to an offer."""

from collections.abc import Mapping
from typing import Literal

import msgspec

FullReason = Literal[
    "queue_requests_full",
    "queue_tokens_full",
    "queue_bytes_full",
    "saturated",
    "larger_than_queue",
    "wait_too_long",
    "overload",
]


class QueueItem(msgspec.Struct, frozen=True, kw_only=True):
    """One waiting request. Subclass it to carry more."""

    job_id: str | int
    """Unique among the waiting requests."""
    tenant: str
    prompt_tokens: int
    tokens: int
    """Prompt plus the maximum output: the queue's bound on tokens counts these."""
    bytes: int = 0
    deadline: float = float("inf")
    """When the first content is due; after that a prefill is useless."""
    wait_s: float | None = None
    """The longest wait in this queue; None: the tier's `queue.wait`."""
    goes_on: bool = False
    """Its client has received part of the answer: only its own deadline ends its wait."""
    begun: bool = False
    """Work for its answer was done before (it goes on, or was escalated): it is never behind newcomers of its tier."""
    first_by: float | None = None
    """A newcomer is refused if its first content is expected after this; None: never for its wait."""

    @property
    def is_newcomer(self) -> bool:
        return not (self.begun or self.goes_on)


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The request was enqueued."""

    expires_at: float
    expected_wait_s: float | None
    """At the measured drain rate; None while it is unknown."""
    displaced: int = 0
    """Requests of others that lost their place to it: `FairQueue.displaced` returns them."""


class QueueFull(msgspec.Struct, frozen=True, gc=False):
    """The request was not enqueued."""

    reason: FullReason
    retry_after_s: float | None
    """From the measured drain rate; None: it never fits."""
    limit: float
    used: float

    def __str__(self) -> str:
        if self.reason == "larger_than_queue":
            return (
                f"The request is too large for its tier's queue: {self.used:.0f} of at most {self.limit:.0f}. "
                "Shorten the prompt or lower max_tokens."
            )
        if self.reason == "wait_too_long":
            if self.limit <= 0:
                return "Its first token would come after its deadline; try again later."
            return (
                f"It would wait about {self.used:.1f} s in the queue, and may wait {self.limit:.1f} s for its first "
                "token to be in time; try again later."
            )
        if self.reason == "overload":
            return (
                f"Overload: of yours {self.used:.1f} requests come for each that is served, and enough wait already; "
                "try again later."
            )
        if self.reason == "saturated":
            return (
                f"The queue is {self.used:.0%} full, and this tier is refused from {self.limit:.0%} on; "
                "try again later."
            )
        what = self.reason.split("_")[1]  # requests, tokens or bytes
        return f"The queue of this tier is full: {self.used:.0f} of {self.limit:.0f} {what}; try again later."


class TierUse(msgspec.Struct):
    """The waiting requests of one tier, or of all."""

    requests: int = 0
    tokens: int = 0
    bytes: int = 0

    def add(self, item: QueueItem) -> None:
        self.requests += 1
        self.tokens += item.tokens
        self.bytes += item.bytes

    def remove(self, item: QueueItem) -> None:
        self.requests -= 1
        self.tokens -= item.tokens
        self.bytes -= item.bytes


class FairQueueStatistics(msgspec.Struct):
    """The queue's figures."""

    tiers: Mapping[str, TierUse] = {}
    counters: Mapping[str, float] = {}
    """Virtual tokens by tenant."""
    requests: int = 0
    tokens: int = 0
    bytes: int = 0
    offered_total: int = 0
    taken_total: int = 0
    removed_total: int = 0
    expired_total: int = 0
    displaced_total: int = 0
    """Accepted, and refused when another tenant got the place."""
    shed_total: int = 0
    """Accepted, and refused when the wait was expected to be too long."""
    refused_total: dict[FullReason, int] = {}
