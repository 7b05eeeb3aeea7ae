"""From a snapshot to the page that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from service.families import FAMILIES, Family, Snapshot, Value


def render(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """The page and its content type: OpenMetrics where `accept` asks for it, else Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(_Collector(snapshot))
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


class _Collector(Collector):
    """Gives the client library the series of a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        return (_metric(FAMILIES[name], series) for name, series in self._snapshot.items())


def _metric(family: Family, series: list[tuple[tuple[str, ...], Value]]) -> Metric:
    name, text, labels = family.name, family.help, family.labels
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(name, text, labels=labels)
        for values, found in series:
            assert isinstance(found, list)  # noqa: S101 - see `families.Value`
            bounds = [*map(str, family.edges), "+Inf"]
            buckets = list(zip(bounds, accumulate(found[:-1]), strict=True))
            histogram.add_metric(values, buckets=buckets, sum_value=found[-1])
        return histogram
    if family.kind == "info":
        info = InfoMetricFamily(name.removesuffix("_info"), text, labels=labels)
        for values, _ in series:
            info.add_metric(values, {})
        return info
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    numbers = kind(name, text, labels=labels)
    for values, found in series:
        assert not isinstance(found, list)  # noqa: S101
        numbers.add_metric(values, found)
    return numbers
