"""One replica of an engine, as dispatch sees it: whether it lives, what it has, and whether it has room."""

from actors.api.engine_status import EngineBoard
from actors.kernel.mailbox import Mailbox
from actors.protocol.messages import EngineMessage, Work
from policies.queueing.engine_capacity import Room


class Seat:
    """Owned by dispatch. An engine without replicas, and an upstream, is a lane with one seat."""

    __slots__ = ("board", "epoch", "inside", "mailbox", "room")

    def __init__(self, board: EngineBoard, mailbox: Mailbox[EngineMessage], room: Room) -> None:
        self.board = board
        self.mailbox = mailbox
        """Of its actor."""
        self.room = room
        self.epoch: int | None = None
        """Of its present life; None: it takes no work."""
        self.inside: dict[int, Work] = {}
