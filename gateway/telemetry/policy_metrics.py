"""Metrics of budgets, cascades' targets and experiments."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from actors.api.statistics import ServiceStatistics


def policy_families(statistics: ServiceStatistics) -> Iterator[Metric]:
    """Budgets, targets, experiments and notices."""
    costs = CounterMetricFamily("penstock:cost", "Money spent, by [prices].", labels=("tenant", "rung"))
    for labels, money in statistics.costs.items():
        costs.add_metric(labels, money)
    yield costs
    used = GaugeMetricFamily("penstock:budget_used_ratio", "Share of the budget spent or reserved.", labels=("tenant",))
    for tenant, view in statistics.budgets.items():
        used.add_metric((tenant,), view.used)
    yield used
    yield from _cascade_families(statistics)
    yield from _experiment_families(statistics)
    notices = CounterMetricFamily(
        "penstock:policy_notices", "Notices logged by the policy.", labels=("event", "subject")
    )
    for labels, count in statistics.notices_total.items():
        notices.add_metric(labels, count)
    yield notices


def _cascade_families(statistics: ServiceStatistics) -> Iterator[Metric]:
    threshold = GaugeMetricFamily(
        "penstock:cascade_threshold", "Current threshold of the statistic.", labels=("cascade",)
    )
    target = GaugeMetricFamily(
        "penstock:cascade_large_share_target", "Target share of the large stage.", labels=("cascade",)
    )
    share = GaugeMetricFamily("penstock:cascade_large_share", "Share answered by the large stage.", labels=("cascade",))
    drifted = GaugeMetricFamily("penstock:cascade_drifted", "1 if the share is off its target.", labels=("cascade",))
    spent = GaugeMetricFamily("penstock:cascade_spent_today", "Money spent today, by [prices].", labels=("cascade",))
    for name, view in statistics.cascades.items():
        threshold.add_metric((name,), view.threshold)
        if view.share is not None:
            target.add_metric((name,), view.share.target)
            share.add_metric((name,), view.share.realised)
            drifted.add_metric((name,), float(view.share.drifted))
        if view.spent_today is not None:
            spent.add_metric((name,), view.spent_today)
    yield from (threshold, target, share, drifted, spent)


def _experiment_families(statistics: ServiceStatistics) -> Iterator[Metric]:
    requests = CounterMetricFamily("penstock:experiment_requests", "Answers by arm.", labels=("experiment", "arm"))
    bad = CounterMetricFamily(
        "penstock:experiment_bad", "Answers that count against their arm.", labels=("experiment", "arm", "metric")
    )
    over = GaugeMetricFamily("penstock:experiment_rolled_back", "1 if it was rolled back.", labels=("experiment",))
    ratio = GaugeMetricFamily(
        "penstock:experiment_sample_ratio_off",
        "1 if the split differs from the configured one.",
        labels=("experiment",),
    )
    for name, view in statistics.experiments.items():
        over.add_metric((name,), float(view.rolled_back))
        ratio.add_metric((name,), float(view.sample_ratio_off))
        for arm, figures in view.arms.items():
            requests.add_metric((name, arm), figures.requests)
            for metric, (count, _) in figures.metrics.items():
                bad.add_metric((name, arm, metric), count)
    yield from (requests, bad, over, ratio)
