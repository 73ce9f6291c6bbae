"""The part of `/metrics` that tells which policy decides and what became of the attempts to change it."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from actors.statistics import PolicyStatistics


def live_families(policy: PolicyStatistics) -> Iterator[Metric]:
    """All of it."""
    info = GaugeMetricFamily("penstock:policy_info", "1 for the policy that decides.", labels=("hash",))
    info.add_metric((policy.policy,), 1.0)
    yield info
    yield GaugeMetricFamily("penstock:policy_since_seconds", "When it began to, Unix time.", value=policy.since)
    reloads = CounterMetricFamily("penstock:policy_reloads", "Attempts to change it.", labels=("outcome",))
    for outcome, count in policy.reloads_total.items():
        reloads.add_metric((outcome,), count)
    yield reloads
