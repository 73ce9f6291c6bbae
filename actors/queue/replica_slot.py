"""One replica of an engine, as dispatch sees it: whether it lives, what it has, and whether it has room."""

from actors.api.engine_status import EngineStatus
from actors.kernel.mailbox import Mailbox
from actors.protocol.engine import EngineMessage
from actors.protocol.job import Job
from policies.queueing.engine_capacity import EngineCapacity


class ReplicaSlot:
    """Owned by dispatch. An engine without replicas, and an upstream, is a lane with one seat."""

    __slots__ = ("epoch", "inside", "mailbox", "published", "room")

    def __init__(self, published: EngineStatus, mailbox: Mailbox[EngineMessage], room: EngineCapacity) -> None:
        self.published = published
        self.mailbox = mailbox
        """Of its actor."""
        self.room = room
        self.epoch: int | None = None
        """Of its present life; None: it takes no work."""
        self.inside: dict[int, Job] = {}
