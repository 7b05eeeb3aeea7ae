"""From a snapshot to the page that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


class SnapshotCollector(Collector):
    """Gives the client library the series of a snapshot."""

    def __init__(self, take: Callable[[], Snapshot]) -> None:
        self._take = take

    def collect(self) -> Iterator[Metric]:
        """Takes a snapshot; called by the library when a page is asked for."""
        for name, series in self._take().items():
            yield _metric(FAMILIES[name], series)

    def describe(self) -> Iterator[Metric]:
        """The metrics without series, so that registering takes no snapshot."""
        return (_metric(family, []) for family in FAMILIES.values())


def registry(take: Callable[[], Snapshot]) -> CollectorRegistry:
    """A registry of its own for each application."""
    own = CollectorRegistry()
    own.register(SnapshotCollector(take))
    return own


def render(source: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The page and its content type: OpenMetrics where `accept` asks for it, else Prometheus's text format."""
    encoder, content_type = choose_encoder(accept)
    return encoder(source), content_type


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
