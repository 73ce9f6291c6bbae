"""Whom a request's own task talks to: addresses and published boards, no actors."""

from collections.abc import Mapping
from itertools import count

from actors.api.counters import ServiceCounters
from actors.api.engine_status import BackendStatus
from actors.breakers.breakers import BreakerRegistry
from actors.breakers.permits import Permits
from actors.kernel.mailbox import Mailbox
from actors.kernel.timers import TimerWheel
from actors.prompt.model_text import ModelText
from actors.protocol.admission import AdmissionMessage
from actors.protocol.breakers import BreakerMessage
from actors.protocol.ledger import LedgerMessage
from actors.protocol.queue import QueueMessage
from actors.recording.recorder import Recording
from actors.request.request_log import RequestLog
from config.model.upstreams import UpstreamSettings
from policies.records.decision_log import DecisionLog
from policies.rollout.rollout_state import RolloutState


class RequestPorts:
    """Made once by the service."""

    def __init__(
        self,
        *,
        admission: Mailbox[AdmissionMessage],
        dispatch: Mailbox[QueueMessage],
        breakers: Mailbox[BreakerMessage],
        ledger: Mailbox[LedgerMessage],
        breaker_registry: BreakerRegistry,
        all_published: Mapping[str, BackendStatus],
        upstreams: Mapping[str, UpstreamSettings],
        texts: Mapping[str, ModelText],
        timers: TimerWheel,
        counters: ServiceCounters,
        rollout: RolloutState,
        decisions: DecisionLog,
        request_log: RequestLog,
        recording: Recording | None = None,
    ) -> None:
        self.admission = admission
        self.dispatch = dispatch
        self.breakers = breakers
        self.ledger = ledger
        self.breaker_registry = breaker_registry
        self.all_published = all_published
        """Of engines and upstreams."""
        self.upstreams = upstreams
        self.texts = texts
        """Of engines, and of upstreams that share a tokenizer with one."""
        self.timers = timers
        self.counters = counters
        self.permits = Permits(breakers, breaker_registry)
        self.rollout = rollout
        self.decisions = decisions
        self.request_log = request_log
        self.recording = recording
        self.numbers = count(1)
        """For lines, works and sequences: unique in this process."""
