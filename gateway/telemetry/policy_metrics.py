"""Metrics of the policy in force, of what it decides, and of what the supervisors did."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from actors.api.statistics import ServiceStatistics
from gateway.telemetry.families import counter, gauge
from policies.rollout.rollout_state import CascadeView, ExperimentView
from policies.rollout.shadow import ShadowView


def policy_families(statistics: ServiceStatistics) -> Iterator[Metric]:
    """Costs, budgets, cascades' targets, experiments, notices, reloads, shadows, adapters and supervision."""
    yield counter("penstock:cost", "Money spent, by [prices].", "tenant rung", statistics.costs)
    used = {tenant: view.used for tenant, view in statistics.budgets.items()}
    yield gauge("penstock:budget_used_ratio", "Share of the budget spent or reserved.", "tenant", used)
    yield from _cascade_families(statistics.cascades)
    yield from _experiment_families(statistics.experiments)
    notices = statistics.notices_total
    yield counter("penstock:policy_notices", "Notices logged by the policy.", "event subject", notices)
    policy = statistics.policy
    yield gauge("penstock:policy_info", "1 for the policy in force.", "hash", {policy.policy: 1.0})
    yield GaugeMetricFamily(
        "penstock:policy_since_seconds", "Unix time since when the policy is in force.", value=policy.since
    )
    yield counter("penstock:policy_reloads", "Attempts to reload the policy.", "outcome", policy.reloads_total)
    yield from _shadow_families(statistics.shadows)
    adapters = {(view.engine, view.name, str(view.version)): view for view in statistics.adapters}
    running = {key: view.running for key, view in adapters.items()}
    yield gauge("penstock:adapter_running", "Running sequences with the adapter.", "engine adapter version", running)
    sizes = {key: view.memory_bytes for key, view in adapters.items() if view.current}
    yield gauge("penstock:adapter_memory_bytes", "Bytes of the adapter's weights.", "engine adapter version", sizes)
    yield counter("penstock:actor_restarts", "Actors started again.", "actor", statistics.actor_restarts_total)
    yield gauge("penstock:backend_down", "1 if it is marked down.", "backend", statistics.backends_down)
    off = statistics.auxiliaries_off
    yield gauge("penstock:auxiliary_off", "1 if it has failed too often.", "auxiliary", off)


def _cascade_families(cascades: Mapping[str, CascadeView]) -> Iterator[Metric]:
    thresholds = {name: view.threshold for name, view in cascades.items()}
    yield gauge("penstock:cascade_threshold", "Current threshold of the statistic.", "cascade", thresholds)
    shares = {name: view.share for name, view in cascades.items() if view.share is not None}
    targets = {name: share.target for name, share in shares.items()}
    yield gauge("penstock:cascade_large_share_target", "Target share of the large stage.", "cascade", targets)
    realised = {name: share.realised for name, share in shares.items()}
    yield gauge("penstock:cascade_large_share", "Share answered by the large stage.", "cascade", realised)
    drifted = {name: share.drifted for name, share in shares.items()}
    yield gauge("penstock:cascade_drifted", "1 if the share is off its target.", "cascade", drifted)
    spent = {name: view.spent_today for name, view in cascades.items() if view.spent_today is not None}
    yield gauge("penstock:cascade_spent_today", "Money spent today, by [prices].", "cascade", spent)


def _experiment_families(experiments: Mapping[str, ExperimentView]) -> Iterator[Metric]:
    arms = {(name, arm): figures for name, view in experiments.items() for arm, figures in view.arms.items()}
    requests = {key: figures.requests for key, figures in arms.items()}
    yield counter("penstock:experiment_requests", "Answers by arm.", "experiment arm", requests)
    bad = {(*key, metric): count for key, figures in arms.items() for metric, (count, _) in figures.metrics.items()}
    text = "Answers that count against their arm."
    yield counter("penstock:experiment_bad", text, "experiment arm metric", bad)
    rolled_back = {name: view.rolled_back for name, view in experiments.items()}
    yield gauge("penstock:experiment_rolled_back", "1 if it was rolled back.", "experiment", rolled_back)
    off = {name: view.sample_ratio_off for name, view in experiments.items()}
    text = "1 if the split differs from the configured one."
    yield gauge("penstock:experiment_sample_ratio_off", text, "experiment", off)


def _shadow_families(shadows: Mapping[str, ShadowView]) -> Iterator[Metric]:
    running: dict[str, int] = {}
    copies: dict[tuple[str, ...], int] = {}
    dropped: dict[tuple[str, ...], int] = {}
    compared: dict[tuple[str, ...], int] = {}
    tokens: dict[tuple[str, ...], int] = {}
    seconds: dict[tuple[str, ...], float] = {}
    for name, view in shadows.items():
        running[name] = view.running
        copies |= {(name, "answered"): view.answered, (name, "failed"): view.failed, (name, "cut"): view.cut}
        dropped |= {(name, why): count for why, count in view.dropped.items()}
        compared |= {(name, "any"): view.compared, (name, "text"): view.same_text, (name, "length"): view.same_length}
        tokens |= {(name, "copy"): view.tokens, (name, "original"): view.original_tokens}
        seconds |= {(name, "copy"): view.seconds, (name, "original"): view.original_seconds}
    yield gauge("penstock:shadow_running", "Shadow copies in progress.", "shadow", running)
    yield counter("penstock:shadow_copies", "Shadow copies that ended.", "shadow outcome", copies)
    yield counter("penstock:shadow_dropped", "Shadow copies not made.", "shadow why", dropped)
    yield counter("penstock:shadow_compared", "Pairs of answers compared.", "shadow same", compared)
    yield counter("penstock:shadow_tokens", "Output tokens of compared pairs.", "shadow of", tokens)
    yield counter("penstock:shadow_seconds", "Seconds of compared pairs.", "shadow of", seconds)
