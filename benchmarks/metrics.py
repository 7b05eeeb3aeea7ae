"""What counting costs: `python -m benchmarks.metrics`.

In one process, without a server: nanoseconds a one-row request for all that `service.metrics` does on the hot path (one
`succeeded` a request, one `on_batch` a batch), for batches of 1, 16 and 64 requests, against the same observations made
with prometheus_client's own counters and histograms. Then what a page costs.
"""

from __future__ import annotations

import timeit

from prometheus_client import CollectorRegistry, Counter, Histogram

from service.exposition import registry, render
from service.families import ROWS, SECONDS
from service.metrics import Metrics

_REQUESTS = 200_000
_AT_FULL_SPEED = 70_000


def main() -> None:
    print(f"{'requests a batch':>16}  {'ours ns':>8}  {'library ns':>10}  {'of a core at 70,000/s':>21}")
    for batch in (1, 16, 64):
        ours, library = _time(Ours(), batch), _time(Library(), batch)
        print(f"{batch:>16}  {ours * 1e9:>8.0f}  {library * 1e9:>10.0f}  {ours * _AT_FULL_SPEED:>21.2%}")
    clock = min(timeit.repeat("clock()", "from time import perf_counter as clock", number=100_000, repeat=5)) / 1e5
    print(f"reading the clock once: {clock * 1e9:.0f} ns")
    page = registry(_twenty_versions().snapshot)
    seconds = min(timeit.repeat(lambda: render(page, ""), number=5, repeat=5)) / 5
    print(f"a page of 20 versions: {seconds * 1e3:.1f} ms, {len(render(page, '')[0]) / 1e3:.0f} kB")


class Ours:
    def __init__(self) -> None:
        metrics = Metrics()
        self.succeeded = metrics.requests("digits", 1, "native").succeeded
        self.on_batch = metrics.on_batch

    def run(self, batch: int) -> None:
        for _ in range(batch):
            self.succeeded((3.1e-4, 2e-6, 1e-6))
        self.on_batch("digits", 1, batch, 1e-4, 2e-4, batch)


class Library:
    """The same metrics as the library would have them, with the label lookups done beforehand."""

    def __init__(self) -> None:
        own = CollectorRegistry()
        self.requests = Counter("requests", "-", ["model", "version", "protocol", "status"], registry=own).labels(
            "digits", "1", "native", "200"
        )
        names = ("total", "decode", "encode", "queue", "run")
        self.seconds = [
            Histogram(name, "-", ["model", "version"], registry=own, buckets=SECONDS).labels("digits", "1")
            for name in names
        ]
        self.rows = Histogram("rows", "-", ["model", "version"], registry=own, buckets=ROWS).labels("digits", "1")

    def run(self, batch: int) -> None:
        for _ in range(batch):
            self.requests.inc()
            for histogram, value in zip(self.seconds, (3.1e-4, 2e-6, 1e-6, 1e-4, 2e-4), strict=True):
                histogram.observe(value)
        self.rows.observe(batch)


def _time(subject: Ours | Library, batch: int) -> float:
    number = _REQUESTS // batch
    return min(timeit.repeat(lambda: subject.run(batch), number=number, repeat=3)) / (number * batch)


def _twenty_versions() -> Metrics:
    metrics = Metrics()
    for version in range(20):
        metrics.loaded("digits", version, golden_error=0.0, drift=None)
        metrics.requests("digits", version, "native").succeeded((3.1e-4, 2e-6, 1e-6))
        metrics.on_batch("digits", version, 1, 1e-4, 2e-4, 1)
    return metrics


if __name__ == "__main__":
    main()
