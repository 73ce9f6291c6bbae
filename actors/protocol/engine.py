"""What the actor of an engine, a replica or an upstream is told."""

import msgspec

from actors.kernel.reply import Reply
from actors.kernel.workers import WorkerEvents
from actors.protocol.job import Job
from actors.protocol.queue import DraftTokens
from engine.lora.adapters import Adapter


class StartJob(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Start this work, if the engine still lives in this epoch (else dispatch has told its reader already)."""

    job: Job
    epoch: int


class CancelJob(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Abort what still runs of this work."""

    job: Job


class StallAlarm(msgspec.Struct, frozen=True, tag=True, gc=False):
    """No step was reported for as long as the settings allow."""


class Install(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Work that is started after this gets the adapter when it asks for its name."""

    adapter: Adapter
    reply: Reply[None]
    """Set as soon as everybody can see it."""


class Uninstall(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Work that is started after this does not get that adapter any more."""

    name: str
    reply: Reply[None]


EngineMessage = StartJob | CancelJob | DraftTokens | WorkerEvents | StallAlarm | Install | Uninstall
