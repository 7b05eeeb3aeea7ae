"""Counts of what each version has done since the service started, for those who ask for them by request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

_MOST_SIZES = 1024
_MOST_VERSIONS = 256


@dataclass(slots=True)
class Duration:
    """How often something happened, and for how many seconds in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Counts it `count` times more, of `seconds` each."""
        self.count += count
        self.seconds += seconds * count


@dataclass(slots=True)
class VersionStatistics:
    """Of one version.

    Attributes:
        rows: Answered.
        runs: Of the runtime that answered.
        last_run: When the last one ended, in seconds since 1970; 0 if there was none.
        queued: For each request of each run, as long as the run's first request waited.
        computed: For each request of each run, as long as the run took.
        failed, decoded, encoded: Requests of the doors that report them.
        sizes: The runs by how many rows they had; at most 1024 sizes are kept.
    """

    rows: int = 0
    runs: int = 0
    last_run: float = 0.0
    queued: Duration = field(default_factory=Duration)
    computed: Duration = field(default_factory=Duration)
    failed: Duration = field(default_factory=Duration)
    decoded: Duration = field(default_factory=Duration)
    encoded: Duration = field(default_factory=Duration)
    sizes: dict[int, Duration] = field(default_factory=dict)


class Statistics:
    """Of the 256 versions that ran last. Belongs to the event loop.

    Attributes:
        catch_up: Called before figures are read, so that what is still to be counted is.
    """

    def __init__(self) -> None:
        self.catch_up: Callable[[], None] | None = None
        self._versions: dict[tuple[str, int], VersionStatistics] = {}

    def of(self, model: str, version: int) -> VersionStatistics:
        """Of one version, to be read or added to."""
        if self.catch_up:
            self.catch_up()
        return self._of(model, version)

    def on_batch(
        self, model: str, version: int, rows: int, waited: float, ran: float, requests: int, *, ended: float
    ) -> None:
        """Counts a run, which ended so many seconds after 1970; see `service.queues.OnBatch` for the rest."""
        found = self._of(model, version)
        found.rows += rows
        found.runs += 1
        found.last_run = ended
        found.queued.add(waited, requests)
        found.computed.add(ran, requests)
        size = found.sizes.get(rows)
        if size is None and len(found.sizes) < _MOST_SIZES:
            size = found.sizes[rows] = Duration()
        if size is not None:
            size.add(ran)

    def _of(self, model: str, version: int) -> VersionStatistics:
        found = self._versions.get((model, version))
        if found is None:
            if len(self._versions) >= _MOST_VERSIONS:  # so that a service which swaps versions for months does not grow
                del self._versions[min(self._versions, key=lambda key: self._versions[key].last_run)]
            found = self._versions[model, version] = VersionStatistics()
        return found
