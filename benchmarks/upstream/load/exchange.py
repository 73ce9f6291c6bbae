"""One request and its answer, as seen from both sides: what the upstream has to send, what it sent, what arrived."""

from array import array

import msgspec


class Plan(msgspec.Struct, frozen=True):
    """What is asked and how it is answered."""

    events: int
    """Pieces of text in the answer."""
    stream: bool = True
    interval_s: float = 0.0
    """Between two events of a stream; 0: each as soon as the load process gets to it."""
    prompt_bytes: int = 0
    """Length of the prompt beside a short sentence; four bytes are one token."""

    @property
    def timed(self) -> bool:
        """Whether the time of each event is kept."""
        return self.interval_s > 0

    @property
    def prompt_tokens(self) -> int:
        return 16 + self.prompt_bytes // 4


class Exchange:
    """Both sides of one request. Times are of the load process's clock, in seconds."""

    __slots__ = ("arrived", "asked_at", "calls", "first_at", "plan", "sent")

    def __init__(self, plan: Plan, asked_at: float) -> None:
        self.plan = plan
        self.asked_at = asked_at
        self.first_at = 0.0
        """When the first piece arrived at the client; 0: not yet."""
        self.calls = 0
        """Requests that reached the upstream; more than one if the gateway tried again."""
        self.sent = array("d")
        """When each event was sent, if the plan is timed."""
        self.arrived = array("d")
        """When each piece arrived, if the plan is timed."""
