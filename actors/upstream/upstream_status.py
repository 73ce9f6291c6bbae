"""What everybody may know of an upstream: published by its actor, read without asking."""

from collections import Counter
from collections.abc import Sequence

import trio

from actors.api.counters import HistogramCounter
from actors.api.engine_status import EngineStatus
from actors.api.statistics import UpstreamStatistics
from actors.upstream.replicas import Replicas
from engine.core.limits import EngineLimits
from policies.model.backends import UNBOUNDED, upstream_length


class UpstreamStatus(EngineStatus):
    """One upstream's notice board, and an engine's to those who do not care which it is."""

    __slots__ = ("context", "failures", "replicas", "requests_total", "ttft", "urls")

    def __init__(self, name: str, urls: Sequence[str], context: int | None, *, counts: bool) -> None:
        """`counts`: its tokenizer is here."""
        super().__init__(name)
        self.context = context
        length = upstream_length(context, counts=counts)
        self.limits = EngineLimits(vocab_size=UNBOUNDED, model_tokens=length, pool_tokens=length)
        self.urls = tuple(urls)
        self.replicas = Replicas(len(self.urls))
        self.requests_total = 0
        self.failures: Counter[str] = Counter()
        self.ttft = HistogramCounter()

    def statistics(self) -> UpstreamStatistics:
        """The figures now."""
        stats = self.stats
        return UpstreamStatistics(
            requests_total=self.requests_total,
            failures_total=dict(self.failures),
            ttft=self.ttft.frozen(),
            running=stats.running if stats is not None else 0,
            waiting=stats.waiting if stats is not None else 0,
            generation_tokens_total=stats.generation_tokens_total if stats is not None else 0,
            replicas=dict(zip(self.urls, self.replicas.statistics(trio.current_time()), strict=True)),
        )
