"""`/metrics`: the service's statistics as Prometheus text.

Names are vLLM's with the prefix `penstock:`; those that the Kubernetes inference gateway and common dashboards read are
repeated with the prefix `vllm:` and vLLM's labels (`model_name`, `engine`). `replica` numbers an engine's replicas.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from actors.api.statistics import Histogram, QueueStatistics, ReplicaView, ServiceStatistics, UpstreamStatistics
from actors.service import Service
from engine.messages import EngineStats
from gateway.telemetry.live_metrics import adapter_families, live_families, supervision_families
from gateway.telemetry.policy_metrics import policy_families

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
EngineRow = tuple[str, str, Callable[[EngineStats], float]]
QueueRow = tuple[str, str, Callable[[QueueStatistics], float]]
_ENGINE = ("engine", "model_name", "replica")
_BREAKER_STATES = ("closed", "half_open", "open")


class ServiceCollector(Collector):
    """Reads one snapshot for each scrape."""

    def __init__(self, service: Service, connections: Callable[[], int]) -> None:
        self._service = service
        self._connections = connections

    def collect(self) -> Iterator[Metric]:
        statistics = self._service.statistics()
        for prefix in ("penstock:", "vllm:"):
            yield from _engine_families(prefix, statistics.replicas)
            yield from _latency_families(prefix, statistics)
        yield from _service_families(statistics)
        yield from policy_families(statistics)
        yield from live_families(statistics)
        yield from adapter_families(statistics)
        yield from supervision_families(statistics)
        yield GaugeMetricFamily("penstock:connections", "Open client connections.", value=self._connections())
        ready = self._service.readiness()
        yield GaugeMetricFamily("penstock:ready", "1 if new requests are accepted.", value=float(ready.ready))


def exposition(service: Service, connections: Callable[[], int]) -> bytes:
    """The text of `/metrics`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServiceCollector(service, connections))
    return generate_latest(registry)


def _engine_families(prefix: str, engines: Mapping[str, tuple[ReplicaView, ...]]) -> Iterable[Metric]:
    replicas = [
        ((engine, engine, str(number)), view.stats)
        for engine, views in engines.items()
        for number, view in enumerate(views)
    ]
    gauges: tuple[EngineRow, ...] = (
        ("num_requests_running", "Sequences in the batch.", lambda stats: stats.running),
        ("num_requests_waiting", "Sequences waiting in the engine.", lambda stats: stats.waiting),
        ("kv_cache_usage_perc", "Share of the KV blocks that sequences hold; 1 is all.", _kv_usage),
        ("kv_pool_bytes", "Bytes of the KV pool.", lambda stats: stats.kv_bytes),
        ("kv_blocks_total", "KV blocks.", lambda stats: stats.total_blocks),
        ("kv_blocks_free", "KV blocks that a new sequence could take.", lambda stats: stats.free_blocks),
        ("kv_blocks_host", "Evicted KV blocks kept in host memory.", lambda stats: stats.host_blocks),
        (
            "outstanding_tokens",
            "Prompt tokens to compute and output tokens allowed.",
            lambda stats: stats.outstanding_tokens,
        ),
    )
    for name, text, value in gauges:
        gauge = GaugeMetricFamily(prefix + name, text, labels=_ENGINE)
        for labels, stats in replicas:
            gauge.add_metric(labels, value(stats))
        yield gauge
    counters: tuple[EngineRow, ...] = (
        ("num_preemptions", "Preemptions of sequences.", lambda stats: stats.preemptions_total),
        (
            "prefix_cache_queries",
            "Prompt tokens looked up in the prefix cache.",
            lambda stats: stats.prefix_queries_total,
        ),
        ("prefix_cache_hits", "Prompt tokens found in the prefix cache.", lambda stats: stats.prefix_hits_total),
        ("kv_blocks_swapped_out", "KV blocks copied to host memory.", lambda stats: stats.swapped_out_total),
        ("kv_blocks_swapped_in", "KV blocks copied back from host memory.", lambda stats: stats.swapped_in_total),
        ("prompt_tokens", "Prompt tokens received.", lambda stats: stats.prompt_tokens_total),
        ("generation_tokens", "Tokens generated.", lambda stats: stats.generation_tokens_total),
        ("spec_decode_num_draft_tokens", "Tokens proposed by drafts.", lambda stats: stats.drafted_tokens_total),
        ("spec_decode_num_accepted_tokens", "Draft tokens accepted.", lambda stats: stats.accepted_tokens_total),
        ("engine_steps", "Steps of the engine.", lambda stats: stats.steps_total),
    )
    for name, text, value in counters:
        counter = CounterMetricFamily(prefix + name, text, labels=_ENGINE)
        for labels, stats in replicas:
            counter.add_metric(labels, value(stats))
        yield counter


def _outstanding(stats: EngineStats) -> float:
    return stats.outstanding_tokens


def _kv_usage(stats: EngineStats) -> float:
    return 1 - stats.free_blocks / stats.total_blocks if stats.total_blocks else 0.0


def _latency_families(prefix: str, statistics: ServiceStatistics) -> Iterable[Metric]:
    latency = statistics.latency
    yield _histogram(prefix + "time_to_first_token_seconds", "From arrival to the first content.", latency.ttft)
    yield _histogram(prefix + "inter_token_latency_seconds", "Between the tokens of a stream.", latency.itl)
    yield _histogram(prefix + "e2e_request_latency_seconds", "From a request's arrival to its end.", latency.e2e)
    yield _histogram(prefix + "request_queue_time_seconds", "In the fair queue.", latency.queue_wait)


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(name, text)
    family.add_metric((), buckets=_buckets(histogram), sum_value=histogram.sum)
    return family


def _histograms(name: str, text: str, label: str, histograms: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=(label,))
    for value, histogram in histograms.items():
        family.add_metric((value,), buckets=_buckets(histogram), sum_value=histogram.sum)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else repr(bound), total))
    return buckets


def _service_families(statistics: ServiceStatistics) -> Iterable[Metric]:
    requests = CounterMetricFamily(
        "penstock:requests", "Requests that ended.", labels=("route", "rung", "outcome", "why")
    )
    for key, count in statistics.requests_total.items():
        requests.add_metric((key.route, key.rung, key.outcome, key.why), count)
    yield requests
    refusals = CounterMetricFamily("penstock:refusals", "Requests refused before content.", labels=("code",))
    for code, count in statistics.refusals_total.items():
        refusals.add_metric((code,), count)
    yield refusals
    escalations = CounterMetricFamily("penstock:escalations", "Escalations of cascades.", labels=("route", "why"))
    for (route, why), count in statistics.escalations_total.items():
        escalations.add_metric((route, why), count)
    yield escalations
    fallbacks = CounterMetricFamily(
        "penstock:fallbacks", "Fallbacks to the next rung.", labels=("route", "from_rung", "why")
    )
    for (route, rung, why), count in statistics.fallbacks_total.items():
        fallbacks.add_metric((route, rung, why), count)
    yield fallbacks
    for name, text, value in (
        ("delivered_prompt_tokens", "Prompt tokens of answered requests.", statistics.prompt_tokens_total),
        ("delivered_completion_tokens", "Output tokens that clients received.", statistics.completion_tokens_total),
        ("discarded_tokens", "Output tokens that no client received.", statistics.discarded_tokens_total),
        ("overruns", "Answers ended because they were read too slowly.", statistics.overrun_total),
        ("ledger_settled", "Reservations settled.", statistics.ledger.settled_total),
        ("ledger_commits", "Commits of the ledger.", statistics.ledger.commits_total),
        ("ledger_recovered", "Ledger entries that a crash left open.", statistics.ledger.recovered_total),
    ):
        yield CounterMetricFamily("penstock:" + name, text, value=value)
    for name, text, level in (
        ("requests_in_flight", "Requests in progress.", statistics.in_flight),
        ("ledger_open", "Ledger entries not closed yet.", statistics.ledger.open),
        ("ledger_pending", "Ledger writes not committed yet.", statistics.ledger.pending),
    ):
        yield GaugeMetricFamily("penstock:" + name, text, value=level)
    yield from _queue_families(statistics)
    breakers = GaugeMetricFamily("penstock:breaker_state", "1 for the current state.", labels=("rung", "state"))
    for rung, state in statistics.breakers.items():
        for possible in _BREAKER_STATES:
            breakers.add_metric((rung, possible), float(state == possible))
    yield breakers
    restarts = CounterMetricFamily("penstock:engine_restarts", "Restarts of engines.", labels=("engine",))
    for engine, count in statistics.engine_restarts_total.items():
        restarts.add_metric((engine,), count)
    yield restarts
    ready = GaugeMetricFamily("penstock:engine_ready", "1 if the replica is ready.", labels=("engine", "replica"))
    for engine, views in statistics.replicas.items():
        for number, view in enumerate(views):
            ready.add_metric((engine, str(number)), float(view.state == "ready"))
    yield ready
    yield from _upstream_families(statistics.upstreams)
    usage = CounterMetricFamily(
        "penstock:usage_tokens", "Settled tokens.", labels=("tenant", "rung", "outcome", "kind")
    )
    for (tenant, rung, outcome), (_, prompt, completion) in statistics.usage.items():
        usage.add_metric((tenant, rung, outcome, "prompt"), prompt)
        usage.add_metric((tenant, rung, outcome, "completion"), completion)
    yield usage


def _upstream_families(upstreams: Mapping[str, UpstreamStatistics]) -> Iterable[Metric]:
    requests = CounterMetricFamily("penstock:upstream_requests", "Calls sent upstream.", labels=("upstream",))
    failures = CounterMetricFamily(
        "penstock:upstream_failures", "Calls without a complete answer.", labels=("upstream", "kind")
    )
    tokens = CounterMetricFamily("penstock:upstream_tokens", "Output tokens, as reported.", labels=("upstream",))
    running = GaugeMetricFamily("penstock:upstream_running", "Calls in progress.", labels=("upstream",))
    resting = GaugeMetricFamily(
        "penstock:upstream_rests_seconds",
        "Seconds until an address is used again after a failure.",
        labels=("upstream", "url"),
    )
    for name, upstream in upstreams.items():
        requests.add_metric((name,), upstream.requests_total)
        tokens.add_metric((name,), upstream.generation_tokens_total)
        running.add_metric((name,), upstream.running)
        for kind, count in upstream.failures_total.items():
            failures.add_metric((name, kind), count)
        for url, replica in upstream.replicas.items():
            resting.add_metric((name, url), replica.rests_for_s)
    yield from (requests, failures, tokens, running, resting)
    yield _histograms(
        "penstock:upstream_time_to_first_token_seconds",
        "From a call's start to its first content.",
        "upstream",
        {name: upstream.ttft for name, upstream in upstreams.items()},
    )


def _queue_families(statistics: ServiceStatistics) -> Iterable[Metric]:
    gauges: tuple[QueueRow, ...] = (
        ("queue_requests", "Requests in the fair queue.", lambda queue: queue.requests),
        ("queue_tokens", "Tokens of the requests in the fair queue.", lambda queue: queue.tokens),
        ("queue_inside", "Sequences inside the engine.", lambda queue: queue.inside),
        ("queue_expected_wait_seconds", "Expected wait of a new request.", lambda queue: queue.expected_wait_s),
    )
    for name, text, value in gauges:
        gauge = GaugeMetricFamily("penstock:" + name, text, labels=("engine",))
        for engine, queue in statistics.queues.items():
            gauge.add_metric((engine,), value(queue))
        yield gauge
    counters: tuple[QueueRow, ...] = (
        ("queue_refused", "Refused because the queue was full.", lambda queue: queue.refused_total),
        ("queue_expired", "Removed because they waited too long.", lambda queue: queue.expired_total),
    )
    for name, text, value in counters:
        counter = CounterMetricFamily("penstock:" + name, text, labels=("engine",))
        for engine, queue in statistics.queues.items():
            counter.add_metric((engine,), value(queue))
        yield counter
