"""What a request's task uses of the service: mailboxes, and what actors publish."""

from collections.abc import Callable, Mapping
from itertools import count

import msgspec

from actors.api.engine_status import BackendStatus
from actors.api.statistics import ServiceCounters
from actors.breakers.breakers import Permits
from actors.kernel.actor import Mailbox
from actors.kernel.clock import WallClock
from actors.kernel.timers import TimerWheel
from actors.prompt.model_text import ModelText
from actors.protocol.admission import AdmissionMessage
from actors.protocol.job import Job, QueueMessage
from actors.protocol.ledger import LedgerMessage
from actors.recording.recorder import Recording
from actors.request.request_log import RequestLog
from actors.request.text_judge import TextJudge
from config.model.upstreams import UpstreamSettings
from policies.queueing.backend_queue import BackendQueue
from policies.queueing.quarantine import Quarantine
from policies.records.decision_log import DecisionLog
from policies.rollout.rollout_state import RolloutState


class RequestPorts(msgspec.Struct, frozen=True, kw_only=True):
    """One set for all requests, and one with null ports for the copies of shadows."""

    admission: Mailbox[AdmissionMessage]
    dispatch: Mailbox[QueueMessage]
    ledger: Mailbox[LedgerMessage]
    permits: Permits
    quarantine: Quarantine
    """The dispatcher's."""
    queues: Mapping[str, BackendQueue[Job]]
    """The dispatcher's, by backend."""
    all_published: Mapping[str, BackendStatus]
    """Of engines and upstreams."""
    upstreams: Mapping[str, UpstreamSettings]
    texts: Mapping[str, ModelText]
    """Of engines, and of upstreams that share a tokenizer with one."""
    timers: TimerWheel
    counters: ServiceCounters
    rollout: RolloutState
    decisions: DecisionLog
    request_log: RequestLog
    wall: WallClock
    clock: Callable[[], float]
    """The event loop's: see `loop_clock`."""
    recording: Recording | None
    judge: TextJudge
    """Of cascades and guardrails."""
    numbers: "count[int]"
    """For ledger entries, jobs and sequences: unique in this process."""
