"""`/metrics`: the service's statistics as Prometheus text.

Names are vLLM's with the prefix `penstock:`; those that the Kubernetes inference gateway and common dashboards read are
repeated with the prefix `vllm:` and vLLM's labels (`model_name`, `engine`). `replica` numbers an engine's replicas.
"""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from actors.api.statistics import QueueStatistics, ReplicaView, ServiceStatistics, UpstreamStatistics
from actors.service import Service
from engine.messages import EngineStats
from gateway.telemetry.families import Row, counter, gauge, histogram, table
from gateway.telemetry.policy_metrics import policy_families

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_BREAKER_STATES = ("closed", "half_open", "open")
_OUTSTANDING = "Prompt tokens to compute and output tokens allowed."
_QUERIES = "Prompt tokens looked up in the prefix cache."


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
        yield GaugeMetricFamily("penstock:connections", "Open client connections.", value=self._connections())
        ready = self._service.readiness()
        yield GaugeMetricFamily("penstock:ready", "1 if new requests are accepted.", value=float(ready.ready))
        models = {name: each.ready for name, each in ready.models.items()}
        yield gauge("penstock:model_ready", "1 if a rung of the model can serve.", "model", models)


def exposition(service: Service, connections: Callable[[], int]) -> bytes:
    """The text of `/metrics`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServiceCollector(service, connections))
    return generate_latest(registry)


def _engine_families(prefix: str, engines: Mapping[str, tuple[ReplicaView, ...]]) -> Iterator[Metric]:
    replicas = {
        (engine, engine, str(number)): view.stats
        for engine, views in engines.items()
        for number, view in enumerate(views)
    }
    rows: tuple[Row[EngineStats], ...] = (
        (gauge, "num_requests_running", "Sequences in the batch.", lambda it: it.running),
        (gauge, "num_requests_waiting", "Sequences waiting in the engine.", lambda it: it.waiting),
        (gauge, "kv_cache_usage_perc", "Share of the KV blocks that sequences hold; 1 is all.", lambda it: it.kv_usage),
        (gauge, "kv_pool_bytes", "Bytes of the KV pool.", lambda it: it.kv_bytes),
        (gauge, "kv_blocks_total", "KV blocks.", lambda it: it.total_blocks),
        (gauge, "kv_blocks_free", "KV blocks that a new sequence could take.", lambda it: it.free_blocks),
        (gauge, "kv_blocks_host", "Evicted KV blocks kept in host memory.", lambda it: it.host_blocks),
        (gauge, "outstanding_tokens", _OUTSTANDING, lambda it: it.outstanding_tokens),
        (counter, "num_preemptions", "Preemptions of sequences.", lambda it: it.preemptions_total),
        (counter, "prefix_cache_queries", _QUERIES, lambda it: it.prefix_queries_total),
        (counter, "prefix_cache_hits", "Prompt tokens found in the prefix cache.", lambda it: it.prefix_hits_total),
        (counter, "kv_blocks_swapped_out", "KV blocks copied to host memory.", lambda it: it.swapped_out_total),
        (counter, "kv_blocks_swapped_in", "KV blocks copied back from host memory.", lambda it: it.swapped_in_total),
        (counter, "prompt_tokens", "Prompt tokens received.", lambda it: it.prompt_tokens_total),
        (counter, "generation_tokens", "Tokens generated.", lambda it: it.generation_tokens_total),
        (counter, "spec_decode_num_draft_tokens", "Tokens proposed by drafts.", lambda it: it.drafted_tokens_total),
        (counter, "spec_decode_num_accepted_tokens", "Draft tokens accepted.", lambda it: it.accepted_tokens_total),
        (counter, "engine_steps", "Steps of the engine.", lambda it: it.steps_total),
    )
    yield from table(prefix, "engine model_name replica", replicas, rows)


def _latency_families(prefix: str, statistics: ServiceStatistics) -> Iterator[Metric]:
    latency = statistics.latency
    for name, text, values in (
        ("time_to_first_token_seconds", "From arrival to the first content.", latency.ttft),
        ("inter_token_latency_seconds", "Between the tokens of a stream.", latency.itl),
        ("e2e_request_latency_seconds", "From a request's arrival to its end.", latency.e2e),
        ("request_queue_time_seconds", "In the fair queue.", latency.queue_wait),
    ):
        yield histogram(prefix + name, text, "", {(): values})


def _service_families(statistics: ServiceStatistics) -> Iterator[Metric]:
    requests = {(key.route, key.rung, key.outcome, key.why): count for key, count in statistics.requests_total.items()}
    yield counter("penstock:requests", "Requests that ended.", "route rung outcome why", requests)
    yield counter("penstock:refusals", "Requests refused before content.", "code", statistics.refusals_total)
    yield counter("penstock:escalations", "Escalations of cascades.", "route why", statistics.escalations_total)
    fallbacks = statistics.fallbacks_total
    yield counter("penstock:fallbacks", "Fallbacks to the next rung.", "route from_rung why", fallbacks)
    for name, text, value in (
        ("delivered_prompt_tokens", "Prompt tokens of answered requests.", statistics.prompt_tokens_total),
        ("delivered_completion_tokens", "Output tokens that clients received.", statistics.completion_tokens_total),
        ("delivered_reasoning_tokens", "Those of them that were reasoning.", statistics.reasoning_tokens_total),
        ("discarded_tokens", "Output tokens that no client received.", statistics.discarded_tokens_total),
        ("overruns", "Answers ended because they were read too slowly.", statistics.overrun_total),
        ("ledger_settled", "Reservations settled.", statistics.ledger.settled_total),
        ("ledger_commits", "Commits of the ledger.", statistics.ledger.commits_total),
        ("ledger_recovered", "Ledger entries that a crash left open.", statistics.ledger.recovered_total),
        (
            "quarantined_requests",
            "Requests that were quarantined.",
            statistics.quarantine.quarantined_total,
        ),
        ("kept_answers_read_again", "Retries and resumed streams of kept answers.", statistics.kept.attached_total),
        ("kept_answers_continued", "Answers of ended processes that went on.", statistics.kept.continued_total),
        ("kept_store_failures", "Failures of the kept answers' file.", statistics.kept.store_failures_total),
        ("batch_requests_answered", "Requests of batches with an answer.", statistics.batches.answered_total),
        ("batch_requests_failed", "Requests of batches whose result is an error.", statistics.batches.failed_total),
        ("batch_requests_retried", "Requests of batches refused for now.", statistics.batches.retried_total),
    ):
        yield CounterMetricFamily("penstock:" + name, text, value=value)
    for name, text, level in (
        ("requests_in_flight", "Requests in progress.", statistics.in_flight),
        (
            "quarantine_held",
            "Requests that are refused after crashes.",
            statistics.quarantine.quarantined,
        ),
        ("quarantine_suspects", "Requests that run alone after a crash.", statistics.quarantine.suspects),
        ("kept_answers", "Answers that are kept for retries and lost connections.", statistics.kept.answers),
        ("kept_answer_bytes", "Memory of the kept answers.", statistics.kept.used_bytes),
        ("kept_answers_stored", "Kept answers that a restart does not lose.", statistics.kept.stored),
        ("batch_requests_in_flight", "Requests of batches in progress.", statistics.batches.in_flight),
        ("batch_files", "Files of batches.", statistics.batches.files),
        ("batch_stored_bytes", "Bytes of the files and results of batches.", statistics.batches.stored_bytes),
        ("ledger_open", "Ledger entries not closed yet.", statistics.ledger.open),
        ("ledger_pending", "Ledger writes not committed yet.", statistics.ledger.pending),
        ("ledger_failing", "1 while the ledger's file cannot be written.", int(statistics.ledger.failing)),
        (
            "ledger_unwritten_cost",
            "Money reserved by entries of the ledger that are not written.",
            statistics.ledger.unwritten_cost,
        ),
    ):
        yield GaugeMetricFamily("penstock:" + name, text, value=level)
    yield gauge("penstock:batches", "Batches that have not ended.", "status", statistics.batches.batches)
    yield from _queue_families(statistics.queues)
    breakers = {(rung, it): state == it for rung, state in statistics.breakers.items() for it in _BREAKER_STATES}
    yield gauge("penstock:breaker_state", "1 for the current state.", "rung state", breakers)
    yield counter("penstock:engine_restarts", "Restarts of engines.", "engine", statistics.engine_restarts_total)
    ready = {
        (engine, str(number)): view.state == "ready"
        for engine, views in statistics.replicas.items()
        for number, view in enumerate(views)
    }
    yield gauge("penstock:engine_ready", "1 if the replica is ready.", "engine replica", ready)
    ejected = {
        (engine, str(number)): view.ejected_total
        for engine, views in statistics.replicas.items()
        for number, view in enumerate(views)
    }
    text = "How often a replica got no jobs for a while because it was much slower than the others."
    yield counter("penstock:engine_replica_ejections", text, "engine replica", ejected)
    yield from _upstream_families(statistics.upstreams)
    usage: dict[tuple[str, ...], int] = {}
    for key, (_, prompt, completion) in statistics.usage.items():
        usage |= {(*key, "prompt"): prompt, (*key, "completion"): completion}
    yield counter("penstock:usage_tokens", "Settled tokens.", "tenant rung outcome kind", usage)


def _upstream_families(upstreams: Mapping[str, UpstreamStatistics]) -> Iterator[Metric]:
    rows: tuple[Row[UpstreamStatistics], ...] = (
        (counter, "upstream_requests", "Calls sent upstream.", lambda it: it.requests_total),
        (counter, "upstream_tokens", "Output tokens, as reported.", lambda it: it.generation_tokens_total),
        (
            counter,
            "upstream_known_conversations",
            "Calls whose conversation an address had answered before.",
            lambda it: it.known_conversations_total,
        ),
        (gauge, "upstream_running", "Calls in progress.", lambda it: it.running),
    )
    yield from table("penstock:", "upstream", upstreams, rows)
    failures = {
        (name, kind): count for name, upstream in upstreams.items() for kind, count in upstream.failures_total.items()
    }
    yield counter("penstock:upstream_failures", "Calls without a complete answer.", "upstream kind", failures)
    addresses = {(name, url): it for name, upstream in upstreams.items() for url, it in upstream.replicas.items()}
    resting = {labels: replica.rests_for_s for labels, replica in addresses.items()}
    text = "Seconds until an address is used again after a failure."
    yield gauge("penstock:upstream_rests_seconds", text, "upstream url", resting)
    ejected = {labels: replica.ejected_total for labels, replica in addresses.items()}
    text = "How often an address was left out for a while because it did worse than the others."
    yield counter("penstock:upstream_ejections", text, "upstream url", ejected)
    hedges = {(name, it): count for name, upstream in upstreams.items() for it, count in upstream.hedges_total.items()}
    yield counter("penstock:upstream_hedges", "Second calls beside a slow one.", "upstream outcome", hedges)
    ttft = {name: upstream.ttft for name, upstream in upstreams.items()}
    text = "From a call's start to its first content."
    yield histogram("penstock:upstream_time_to_first_token_seconds", text, "upstream", ttft)


def _queue_families(queues: Mapping[str, QueueStatistics]) -> Iterator[Metric]:
    rows: tuple[Row[QueueStatistics], ...] = (
        (gauge, "queue_requests", "Requests in the fair queue.", lambda it: it.requests),
        (gauge, "queue_tokens", "Tokens of the requests in the fair queue.", lambda it: it.tokens),
        (gauge, "queue_inside", "Sequences inside the engine.", lambda it: it.inside),
        (gauge, "queue_expected_wait_seconds", "Expected wait of a new request.", lambda it: it.expected_wait_s),
        (counter, "queue_refused", "Refused because the queue was full.", lambda it: it.refused_total),
        (counter, "queue_expired", "Removed because they waited too long.", lambda it: it.expired_total),
    )
    return table("penstock:", "engine", queues, rows)
