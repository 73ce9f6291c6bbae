"""Published state of an upstream: written by its actor, read by others without a message."""

from collections import Counter
from collections.abc import Sequence

import trio

from actors.api.engine_status import BackendActivity, EngineStatus
from actors.api.statistics import HistogramCounter, UpstreamStatistics
from actors.upstream.hedging import Hedging
from actors.upstream.replicas import Replicas
from engine.core.limits import EngineLimits
from policies.model.backends import UNBOUNDED, upstream_length
from policies.queueing.address_affinity import AddressAffinity


class UpstreamStatus(EngineStatus):
    """Published state of one upstream, usable where that of an engine is expected."""

    def __init__(
        self, name: str, urls: Sequence[str], context: int | None, *, counts: bool, hedging: Hedging | None = None
    ) -> None:
        """`counts`: its tokenizer is here."""
        super().__init__(name)
        self.context = context
        length = upstream_length(context, counts=counts)
        self.limits = EngineLimits(vocab_size=UNBOUNDED, model_tokens=length, pool_tokens=length)
        self.urls = tuple(urls)
        self.replicas = Replicas(len(self.urls))
        self.affinity = AddressAffinity()
        self.hedging = hedging
        self.requests_total = 0
        self.failures: Counter[str] = Counter()
        self.ttft = HistogramCounter()
        self.running = 0
        """Calls under way."""
        self.waiting = 0
        """Calls without a place among `concurrent`."""
        self.generation_tokens_total = 0

    @property
    def activity(self) -> BackendActivity | None:
        if self.state != "ready":
            return None
        return BackendActivity(self.running, self.waiting, self.generation_tokens_total)

    @property
    def hedges(self) -> int:
        """Second calls beside a first one that run now."""
        return 0 if self.hedging is None else self.hedging.running

    def rests(self, now: float) -> bool:
        """Whether every address is left out for a while, or has asked for a pause."""
        return all(each.rests_for_s > 0 for each in self.replicas.statistics(now))

    def statistics(self) -> UpstreamStatistics:
        return UpstreamStatistics(
            requests_total=self.requests_total,
            failures_total=dict(self.failures),
            ttft=self.ttft.frozen(),
            running=self.running,
            waiting=self.waiting,
            generation_tokens_total=self.generation_tokens_total,
            hedges_total={} if self.hedging is None else self.hedging.totals(),
            replicas=dict(zip(self.urls, self.replicas.statistics(trio.current_time()), strict=True)),
            known_conversations_total=self.affinity.known_total,
        )
