"""Metrics of the policy in force, its reloads, shadows, adapters and supervision."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from actors.api.statistics import ServiceStatistics
from policies.rollout.shadow import ShadowView


def adapter_families(statistics: ServiceStatistics) -> Iterator[Metric]:
    """Use and memory of adapters, by version."""
    labels = ("engine", "adapter", "version")
    running = GaugeMetricFamily("penstock:adapter_running", "Running sequences with the adapter.", labels=labels)
    size = GaugeMetricFamily("penstock:adapter_memory_bytes", "Bytes of the adapter's weights.", labels=labels)
    for view in statistics.adapters:
        names = (view.engine, view.name, str(view.version))
        running.add_metric(names, view.running)
        if view.current:
            size.add_metric(names, view.memory_bytes)
    yield running
    yield size


def supervision_families(statistics: ServiceStatistics) -> Iterator[Metric]:
    """What the supervisors have done."""
    restarts = CounterMetricFamily("penstock:actor_restarts", "Actors started again.", labels=("actor",))
    for actor, count in statistics.actor_restarts_total.items():
        restarts.add_metric((actor,), count)
    yield restarts
    down = GaugeMetricFamily("penstock:backend_down", "1 if it is marked down.", labels=("backend",))
    for backend, is_down in statistics.backends_down.items():
        down.add_metric((backend,), float(is_down))
    yield down
    off = GaugeMetricFamily("penstock:auxiliary_off", "1 if it has failed too often.", labels=("auxiliary",))
    for auxiliary, is_off in statistics.auxiliaries_off.items():
        off.add_metric((auxiliary,), float(is_off))
    yield off


def live_families(statistics: ServiceStatistics) -> Iterator[Metric]:
    """Policy, reloads and shadows."""
    policy = statistics.policy
    info = GaugeMetricFamily("penstock:policy_info", "1 for the policy in force.", labels=("hash",))
    info.add_metric((policy.policy,), 1.0)
    yield info
    yield GaugeMetricFamily(
        "penstock:policy_since_seconds", "Unix time since when the policy is in force.", value=policy.since
    )
    reloads = CounterMetricFamily("penstock:policy_reloads", "Attempts to reload the policy.", labels=("outcome",))
    for outcome, count in policy.reloads_total.items():
        reloads.add_metric((outcome,), count)
    yield reloads
    yield from _shadow_families(statistics.shadows)


def _shadow_families(shadows: Mapping[str, ShadowView]) -> Iterator[Metric]:
    running = GaugeMetricFamily("penstock:shadow_running", "Shadow copies in progress.", labels=("shadow",))
    copies = CounterMetricFamily("penstock:shadow_copies", "Shadow copies that ended.", labels=("shadow", "outcome"))
    dropped = CounterMetricFamily("penstock:shadow_dropped", "Shadow copies not made.", labels=("shadow", "why"))
    compared = CounterMetricFamily("penstock:shadow_compared", "Pairs of answers compared.", labels=("shadow", "same"))
    tokens = CounterMetricFamily("penstock:shadow_tokens", "Output tokens of compared pairs.", labels=("shadow", "of"))
    seconds = CounterMetricFamily("penstock:shadow_seconds", "Seconds of compared pairs.", labels=("shadow", "of"))
    for name, view in shadows.items():
        running.add_metric((name,), view.running)
        for outcome, count in (("answered", view.answered), ("failed", view.failed), ("cut", view.cut)):
            copies.add_metric((name, outcome), count)
        for why, count in view.dropped.items():
            dropped.add_metric((name, why), count)
        for same, count in (("any", view.compared), ("text", view.same_text), ("length", view.same_length)):
            compared.add_metric((name, same), count)
        for of, count, took in (
            ("copy", view.tokens, view.seconds),
            ("original", view.original_tokens, view.original_seconds),
        ):
            tokens.add_metric((name, of), count)
            seconds.add_metric((name, of), took)
    yield from (running, copies, dropped, compared, tokens, seconds)
