"""What all actors have in common: one mailbox, one `run`, and no `await` while a message is in hand."""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

from actors.kernel.mailbox import Mailbox

M = TypeVar("M")


class Actor(ABC, Generic[M]):
    """Owns a piece of shared state. One object is one life: a restart makes another one."""

    redelivered: ClassVar[tuple[type, ...]] = ()
    """Kinds of messages that must not be lost: one that is in hand when the actor dies is handed to the next life,
    once. To handle one of them twice must have the same effect as to handle it once."""

    def __init__(self, mailbox: Mailbox[M]) -> None:
        self.mailbox = mailbox

    async def run(self) -> None:
        """Take messages until cancelled."""
        mailbox = self.mailbox
        while True:
            await mailbox.ready()
            # Only what was there at the wake: others get their turn although messages keep coming.
            for _ in range(len(mailbox)):
                self.on(mailbox.take())
            mailbox.done()
            self.after_batch()

    @abstractmethod
    def on(self, message: M) -> None:
        """Handle one message."""

    def after_batch(self) -> None:
        """Called when all messages of one wake are handled."""
