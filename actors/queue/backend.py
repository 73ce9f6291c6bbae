"""One backend, as the service knows it: what it publishes, the way into it, and its replicas' mailboxes."""

from collections.abc import Sequence

import msgspec

from actors.api.engine_status import BackendStatus, EngineStatus
from actors.api.statistics import QueueStatistics
from actors.kernel.mailbox import Mailbox
from actors.protocol.engine import EngineMessage
from actors.protocol.job import Job
from policies.queueing.backend_queue import BackendQueue


class ReplicaSlot(msgspec.Struct, frozen=True):
    """One replica of an engine. An engine without replicas, and an upstream, has one."""

    published: EngineStatus
    mailbox: Mailbox[EngineMessage]
    """Of its actor."""


class Backend(msgspec.Struct, frozen=True):
    """An engine with its replicas, or an upstream. Only the dispatcher moves the queue."""

    published: BackendStatus
    queue: BackendQueue[Job]
    slots: Sequence[ReplicaSlot]

    def statistics(self, now: float) -> QueueStatistics:
        """The figures now."""
        waiting = self.queue.statistics()
        return QueueStatistics(
            requests=waiting.requests,
            tokens=waiting.tokens,
            inside=self.published.inside,
            refused_total=sum(waiting.refused_total.values()),
            expired_total=waiting.expired_total,
            expected_wait_s=self.queue.expected_wait_s(now),
        )
