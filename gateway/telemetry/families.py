"""Metric families of the Prometheus client, made from numbers by the values of their labels."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from actors.api.statistics import Histogram

T = TypeVar("T")
ByLabels = Mapping[Any, T]
"""By the value of the only label, or by the values of all labels."""
Row = tuple[Callable[[str, str, str, ByLabels[float]], Metric], str, str, Callable[[T], float]]
"""(`gauge` or `counter`, name, text, a view's figure)"""


def gauge(name: str, text: str, labels: str, values: ByLabels[float]) -> Metric:
    """`labels`: their names, separated by spaces."""
    return _filled(GaugeMetricFamily(name, text, labels=labels.split()), values)


def counter(name: str, text: str, labels: str, values: ByLabels[float]) -> Metric:
    """As `gauge`; `_total` is appended to the name."""
    return _filled(CounterMetricFamily(name, text, labels=labels.split()), values)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: ByLabels[float]) -> Metric:
    for key, value in values.items():
        family.add_metric(_label_values(key), value)
    return family


def table(prefix: str, labels: str, views: ByLabels[T], rows: Sequence[Row[T]]) -> Iterator[Metric]:
    """A family for each row: a gauge or a counter of one figure of every view."""
    for make, name, text, figure in rows:
        yield make(prefix + name, text, labels, {key: figure(view) for key, view in views.items()})


def histogram(name: str, text: str, labels: str, values: ByLabels[Histogram]) -> Metric:
    """As `gauge`."""
    family = HistogramMetricFamily(name, text, labels=labels.split())
    for key, value in values.items():
        family.add_metric(_label_values(key), buckets=list(_buckets(value)), sum_value=value.sum)
    return family


def _label_values(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key


def _buckets(value: Histogram) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip((*map(repr, value.bounds), "+Inf"), value.counts, strict=True):
        total += count
        yield bound, total
