"""What everybody may know of an upstream: published by its actor, read without asking."""

from collections import Counter
from collections.abc import Sequence

import trio

from actors.api.counters import HistogramCounter
from actors.api.engine_status import BackendActivity, EngineStatus
from actors.api.statistics import UpstreamStatistics
from actors.upstream.replicas import Replicas
from engine.core.limits import EngineLimits

UNBOUNDED = 1 << 40
"""Stands for a length or a vocabulary that nobody has told us."""
UNSAID_TOKENS = 4096
"""Output tokens that are reserved on an upstream whose room is not known when neither the client nor the route says how
many. The upstream itself is told nothing."""


class UpstreamStatus(EngineStatus):
    """One upstream's notice board, and an engine's to those who do not care which it is."""

    __slots__ = (
        "context",
        "failures",
        "generation_tokens_total",
        "replicas",
        "requests_total",
        "running",
        "ttft",
        "urls",
        "waiting",
    )

    def __init__(self, name: str, urls: Sequence[str], context: int | None, *, counts: bool) -> None:
        """`counts`: its tokenizer is here. Where it is not, a guess at the prompt refuses nobody: the upstream does."""
        super().__init__(name)
        self.context = context
        length = context if context is not None and counts else UNBOUNDED
        self.limits = EngineLimits(vocab_size=UNBOUNDED, model_tokens=length, pool_tokens=length)
        self.urls = tuple(urls)
        self.replicas = Replicas(len(self.urls))
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
        """See `BackendStatus`."""
        if self.state != "ready":
            return None
        return BackendActivity(self.running, self.waiting, self.generation_tokens_total)

    def statistics(self) -> UpstreamStatistics:
        """The figures now."""
        return UpstreamStatistics(
            requests_total=self.requests_total,
            failures_total=dict(self.failures),
            ttft=self.ttft.frozen(),
            running=self.running,
            waiting=self.waiting,
            generation_tokens_total=self.generation_tokens_total,
            replicas=dict(zip(self.urls, self.replicas.statistics(trio.current_time()), strict=True)),
        )
