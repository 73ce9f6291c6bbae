"""What the dispatcher of the backend queues is told: by requests, and by engines and upstreams."""

from collections.abc import Mapping

import msgspec

from actors.protocol.delivery import Delivery
from actors.protocol.job import Job
from engine.core.limits import EngineLimits
from engine.messages import ExpectTokens


class Enqueue(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Take this into the queue of its engine. All answers go to the work's delivery."""

    job: Job

    @property
    def reply(self) -> Delivery:
        """Told when the message is lost in a crash."""
        return self.job.delivery


class Withdraw(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Nobody waits for this work any more, wherever it is."""

    job: Job


class DraftTokens(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A draft for the sequence of this work. Nobody hears of it if the work does not run any more."""

    job: Job
    expect: ExpectTokens


class EngineUp(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A replica of the engine takes work. Every life of a replica has its own epoch."""

    engine: str
    epoch: int
    limits: EngineLimits
    replica: int = 0


class EngineDown(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A replica's life is over, and with it all that it had in hand."""

    engine: str
    epoch: int
    code: str
    message: str
    replica: int = 0


class JobsFinished(msgspec.Struct, frozen=True, tag=True, gc=False):
    """These works have ended in the engine, and so many output tokens were made for each tenant since the last time."""

    engine: str
    jobs: tuple[Job, ...]
    made: Mapping[str, int]


class QueueAlarm(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Something in the queue may have expired."""


QueueMessage = Enqueue | Withdraw | DraftTokens | EngineUp | EngineDown | JobsFinished | QueueAlarm
