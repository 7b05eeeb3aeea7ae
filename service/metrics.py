"""Counting what happens, cheaply enough for the hot path.

At tens of thousands of requests a second a metrics library's lock, label lookup and bucket search would cost more than
decoding a request. So an observation is one `list.extend` of a few floats, and NumPy sorts 512 of them into buckets at
once. Nothing is sampled. `benchmarks/metrics.py` measures the cost of a request.
"""

from __future__ import annotations

import struct
import threading
from collections import Counter
from collections.abc import Callable

import numpy as np
from prometheus_client import ProcessCollector

from service.families import FAMILIES, ROWS, SECONDS, Snapshot, merge

_BLOCK = 512
_KEPT_VERSIONS = 10


class Histograms:
    """Several histograms that are filled together, with one value each. Belongs to one thread.

    Attributes:
        add: Takes a tuple of one value for each histogram, then a weight where they are weighted. It never sorts:
            call `digest_if_long` now and then.
    """

    __slots__ = ("_counts", "_edges", "_is_weighted", "_pending", "_sums", "_width", "add")

    def __init__(self, edges: tuple[float, ...], number: int, *, is_weighted: bool = False) -> None:
        self._edges = np.array(edges)
        self._is_weighted = is_weighted
        self._width = number + is_weighted
        self._counts = np.zeros((number, len(edges) + 1))
        self._sums = np.zeros(number)
        self._pending: list[float] = []
        self.add: Callable[[tuple[float, ...]], None] = self._pending.extend

    def digest_if_long(self) -> None:
        """Sorts what came, once there is enough of it to be worth the calls."""
        if len(self._pending) >= _BLOCK * self._width:
            self._digest()

    def values(self) -> list[list[float]]:
        """Each histogram as `families.Value` has it."""
        self._digest()
        return [[*counts, total] for counts, total in zip(self._counts.tolist(), self._sums.tolist(), strict=True)]

    def _digest(self) -> None:
        # Packing is half the price of np.array(list), which asks every item for its type.
        packed = struct.pack(f"{len(self._pending)}d", *self._pending)
        self._pending.clear()
        rows = np.frombuffer(packed).reshape(-1, self._width)
        number, buckets = self._counts.shape
        values, weights = rows[:, :number], rows[:, number:] if self._is_weighted else np.ones((len(rows), 1))
        places = np.searchsorted(self._edges, values) + np.arange(0, number * buckets, buckets)
        repeated = np.broadcast_to(weights, values.shape).ravel()
        self._counts += np.bincount(places.ravel(), repeated, number * buckets).reshape(number, buckets)
        self._sums += (values * weights).sum(axis=0)


class RequestMetrics:
    """The requests of one protocol to one version. Get it once with `Metrics.requests`, and keep it.

    Attributes:
        succeeded: Takes `(total, decode, encode)` in seconds, of a request that was answered with 200.
    """

    __slots__ = ("_failures", "_seconds", "succeeded")

    def __init__(self) -> None:
        self._failures: Counter[int] = Counter()
        self._seconds = Histograms(SECONDS, 3)
        self.succeeded = self._seconds.add

    def failed(self, status: int) -> None:
        """A request was answered with another status than 200."""
        self._failures[status] += 1

    def digest_if_long(self) -> None:
        """To be called now and then, as `Metrics.on_batch` does after each batch."""
        self._seconds.digest_if_long()

    def snapshot(self, model: str, version: str, protocol: str) -> Snapshot:
        """Its series, under these labels."""
        total, decode, encode = self._seconds.values()
        labels = (model, version, protocol)
        statuses = {status: float(count) for status, count in self._failures.copy().items()}
        if successes := sum(total[:-1]):
            statuses[200] = successes
        return {
            "layerserve_requests_total": [((*labels, str(status)), count) for status, count in statuses.items()],
            "layerserve_request_seconds": [(labels, total)] if successes else [],
            "layerserve_codec_seconds": [((*labels, "decode"), decode), ((*labels, "encode"), encode)]
            if successes
            else [],
        }


class _Version:
    """All that is counted of one version."""

    def __init__(self) -> None:
        self.requests: dict[str, RequestMetrics] = {}
        self.rows = Histograms(ROWS, 1)
        self.phases = Histograms(SECONDS, 2, is_weighted=True)
        self.loads: Counter[str] = Counter()
        self.golden_error: float | None = None
        self.drift: tuple[int, float] | None = None
        self.is_serving = False

    def snapshot(self, model: str, version: str) -> Snapshot:
        labels = (model, version)
        rows, (queue, run) = self.rows.values()[0], self.phases.values()
        own: Snapshot = {
            "layerserve_loads_total": [((*labels, result), float(n)) for result, n in self.loads.copy().items()]
        }
        if sum(rows[:-1]):
            own["layerserve_batch_rows"] = [(labels, rows)]
            own["layerserve_batch_seconds"] = [((*labels, "queue"), queue), ((*labels, "run"), run)]
        if self.golden_error is not None:
            own["layerserve_golden_max_abs_error"] = [(labels, self.golden_error)]
        if self.drift is not None:
            own["layerserve_drift_max_abs_error"] = [((*labels, str(self.drift[0])), self.drift[1])]
        requests = (item.snapshot(*labels, protocol) for protocol, item in list(self.requests.items()))
        return merge([own, *requests])


class Metrics:
    """Everything that one application counts.

    `loaded`, `took_over`, `refused` and `retired` may be called from any thread, all else belongs to the event loop's.
    Of each model the versions that serve and ten others are kept, so that a service which swaps versions for months
    does not grow.

    Attributes:
        catch_up: Called before a snapshot is taken, so that what is still to be counted is.
    """

    def __init__(self) -> None:
        self._versions: dict[tuple[str, int | None], _Version] = {}
        self._lock = threading.Lock()
        self._sources: list[Callable[[], Snapshot]] = []
        self._process = ProcessCollector(registry=None)
        self.catch_up: Callable[[], None] | None = None

    def requests(self, model: str, version: int | None, protocol: str) -> RequestMetrics:
        """Where a protocol counts its requests. For a request without a model that exists: `("", None, protocol)`."""
        requests = self._version(model, version).requests
        if protocol not in requests:
            requests[protocol] = RequestMetrics()
        return requests[protocol]

    def on_batch(
        self, model: str, version: int, rows: int, queue_seconds: float, run_seconds: float, requests: int
    ) -> None:
        """A batch has run: how many rows of how many requests, how long these waited, and how long it took."""
        counted = self._versions.get((model, version)) or self._version(model, version)
        counted.rows.add((rows,))
        counted.phases.add((queue_seconds, run_seconds, requests))
        counted.rows.digest_if_long()
        counted.phases.digest_if_long()
        for item in counted.requests.values():
            item.digest_if_long()

    def loaded(self, model: str, version: int, *, golden_error: float) -> None:
        """A version has been loaded, with its largest difference from its own golden answers."""
        counted = self._version(model, version)
        counted.loads["ok"] += 1
        counted.golden_error, counted.drift, counted.is_serving = golden_error, None, True

    def took_over(self, model: str, version: int, drift: tuple[int, float] | None) -> None:
        """A version has replaced another: which, and the largest difference from that one's golden answers."""
        self._version(model, version).drift = drift

    def retired(self, model: str, version: int) -> None:
        """A version serves no longer."""
        self._version(model, version).is_serving = False

    def refused(self, model: str, version: int) -> None:
        """A version was to be loaded and must not serve."""
        self._version(model, version).loads["refused"] += 1

    def watch(self, source: Callable[[], Snapshot]) -> None:
        """Asks `source` for more series whenever a snapshot is taken."""
        self._sources.append(source)

    def snapshot(self) -> Snapshot:
        """All series as they are now."""
        if self.catch_up:
            self.catch_up()
        versions = list(self._versions.items())
        return merge(
            [
                *(item.snapshot(model, "" if version is None else str(version)) for (model, version), item in versions),
                *(source() for source in self._sources),
                self._of_process(),
                {"layerserve_workers": [((), 1.0)]},
            ]
        )

    def _version(self, model: str, version: int | None) -> _Version:
        with self._lock:
            if (model, version) not in self._versions:
                self._forget_oldest_of(model)
                self._versions[model, version] = _Version()
            return self._versions[model, version]

    def _forget_oldest_of(self, model: str) -> None:
        former = [key for key, item in self._versions.items() if key[0] == model and not item.is_serving]
        for key in former[: max(0, len(former) - _KEPT_VERSIONS + 1)]:
            del self._versions[key]

    def _of_process(self) -> Snapshot:
        """What the system says of this process; nothing where it has no /proc."""
        samples = [sample for family in self._process.collect() for sample in family.samples]
        return {sample.name: [((), sample.value)] for sample in samples if sample.name in FAMILIES}
