"""What counting costs: `python -m benchmarks.metrics`.

In one process, without a server: nanoseconds of processor time a one-row request for all that `service.metrics` does
on the hot path (one `succeeded` a request, one `on_batch` a batch), for batches of 1, 16 and 64 requests; the same with
the four readings of the clock that a request needs; and the same observations made with prometheus_client's own
counters and histograms, without the clock. Then what a page costs.
"""

from __future__ import annotations

import timeit
from time import perf_counter, process_time

from prometheus_client import CollectorRegistry, Counter, Histogram

from service.exposition import render
from service.families import ROWS, SECONDS
from service.metrics import Metrics

_REQUESTS = 200_000
_AT_FULL_SPEED = 70_000


def main() -> None:
    print(f"{'requests a batch':>16}  {'ours':>6}  {'with clock':>10}  {'library':>8}  {'of a core at 70,000/s':>21}")
    for batch in (1, 16, 64):
        ours, timed, library = (_time(subject, batch) for subject in (Ours(), Timed(), Library()))
        share = timed * _AT_FULL_SPEED
        print(f"{batch:>16}  {ours * 1e9:>6.0f}  {timed * 1e9:>10.0f}  {library * 1e9:>8.0f}  {share:>21.2%}")
    metrics = _twenty_versions()
    snapshot = min(timeit.repeat(metrics.snapshot, timer=process_time, number=5, repeat=5)) / 5
    taken = metrics.snapshot()
    page = min(timeit.repeat(lambda: render(taken, ""), timer=process_time, number=5, repeat=5)) / 5
    size = len(render(taken, "")[0]) / 1e3
    print(f"20 versions: a snapshot {snapshot * 1e3:.1f} ms, a page of {size:.0f} kB {page * 1e3:.1f} ms")


class Ours:
    def __init__(self) -> None:
        metrics = Metrics()
        self.succeeded = metrics.requests("digits", 1, "native").succeeded
        self.on_batch = metrics.on_batch

    def run(self, batch: int) -> None:
        for _ in range(batch):
            self.succeeded((3.1e-4, 2e-6, 1e-6))
        self.on_batch("digits", 1, batch, 1e-4, 2e-4, batch)


class Timed(Ours):
    """With the clock: when the body is there, decoded, run, and encoded."""

    def run(self, batch: int) -> None:
        for _ in range(batch):
            received, decoded, answered, encoded = perf_counter(), perf_counter(), perf_counter(), perf_counter()
            self.succeeded((encoded - received, decoded - received, encoded - answered))
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


def _time(subject: Ours | Timed | Library, batch: int) -> float:
    number = _REQUESTS // batch
    return min(timeit.repeat(lambda: subject.run(batch), timer=process_time, number=number, repeat=5)) / (
        number * batch
    )


def _twenty_versions() -> Metrics:
    metrics = Metrics()
    for version in range(20):
        metrics.loaded("digits", version, golden_error=0.0)
        metrics.requests("digits", version, "native").succeeded((3.1e-4, 2e-6, 1e-6))
        metrics.on_batch("digits", version, 1, 1e-4, 2e-4, 1)
    return metrics


if __name__ == "__main__":
    main()
