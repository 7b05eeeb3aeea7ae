"""The metrics that there are: one table of names, and what they hold as plain data that processes can exchange."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

SECONDS = tuple(float(f"{base}e{power}") for power in range(-6, 2) for base in (1, 2.5, 5))[2:-2]
"""Upper bounds of the histograms of time: 1, 2.5 and 5 of each decade, from 5 microseconds to 10 seconds."""
ROWS = tuple(float(2**power) for power in range(13))
"""Upper bounds of the histogram of batch sizes: 1, 2, 4 and so on to 4096."""

Kind = Literal["counter", "gauge", "info", "histogram"]
Value = float | list[float]
"""One number; of a histogram the observations in each bucket, those beyond the last, and the sum of all."""
Snapshot = dict[str, list[tuple[tuple[str, ...], Value]]]
"""The series of each metric: label values, and the value. JSON gives it back as lists, which `merge` takes too."""


@dataclass(frozen=True)
class Family:
    """A metric: its labels, and how the values of several worker processes become one."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    merge: Literal["sum", "min", "max"] = "sum"
    edges: tuple[float, ...] = ()


_FAMILIES = (
    Family(
        "layerserve_requests_total",
        "counter",
        "Inference requests answered. Without a model: those that named none that is served.",
        ("model", "version", "protocol", "status"),
    ),
    Family(
        "layerserve_request_seconds",
        "histogram",
        "From a request's last byte to its answer, where the status is 200.",
        ("model", "version", "protocol"),
        edges=SECONDS,
    ),
    Family(
        "layerserve_codec_seconds",
        "histogram",
        "The part of that which went into decoding the body, and into encoding the answer.",
        ("model", "version", "protocol", "phase"),
        edges=SECONDS,
    ),
    Family(
        "layerserve_batch_seconds",
        "histogram",
        "The part in the queue, of the first request in a batch, and in its run; counted for each of its requests.",
        ("model", "version", "phase"),
        edges=SECONDS,
    ),
    Family("layerserve_batch_rows", "histogram", "Rows that ran together.", ("model", "version"), edges=ROWS),
    Family("layerserve_queue_rows", "gauge", "Rows that wait to be run.", ("model", "version")),
    Family(
        "layerserve_model_info", "info", "The version served, and what runs it.", ("model", "version", "runtime"), "max"
    ),
    Family("layerserve_model_ready", "gauge", "1 where a version of the model serves.", ("model",), "min"),
    Family("layerserve_ready", "gauge", "1 where every worker should get traffic, as /health/ready.", (), "min"),
    Family("layerserve_workers", "gauge", "Worker processes that are alive."),
    Family("layerserve_worker_restarts_total", "counter", "Workers that ended unasked, and whose place another took."),
    Family(
        "layerserve_loads_total",
        "counter",
        "Versions loaded, and those refused: checksums, loading or golden answers failed.",
        ("model", "version", "result"),
    ),
    Family(
        "layerserve_golden_max_abs_error",
        "gauge",
        "Largest difference of the loaded version's answers from its golden ones, in units of the output.",
        ("model", "version"),
        "max",
    ),
    Family(
        "layerserve_drift_max_abs_error",
        "gauge",
        "Largest difference of a version's answers from the golden ones of the version it replaced.",
        ("model", "version", "replaced"),
        "max",
    ),
    Family("process_cpu_seconds_total", "counter", "Processor time of all workers."),
    Family("process_resident_memory_bytes", "gauge", "Resident memory of all workers."),
    Family("process_virtual_memory_bytes", "gauge", "Virtual memory of all workers."),
    Family("process_open_fds", "gauge", "Open file descriptors of all workers."),
    Family("process_max_fds", "gauge", "File descriptors that one worker may open.", (), "min"),
    Family("process_start_time_seconds", "gauge", "When the oldest worker started, in Unix time.", (), "min"),
)
FAMILIES = {family.name: family for family in _FAMILIES}


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """What several processes counted, as if one had."""
    merged: dict[str, dict[tuple[str, ...], Value]] = {name: {} for name in FAMILIES}
    for snapshot in snapshots:
        for name in FAMILIES.keys() & snapshot.keys():
            series, how = merged[name], FAMILIES[name].merge
            for labels, value in snapshot[name]:
                key = tuple(labels)
                series[key] = _combine(how, series[key], value) if key in series else value
    return {name: list(series.items()) for name, series in merged.items() if series}


def counted(snapshot: Snapshot) -> Snapshot:
    """What stays true when the process that counted it has ended: its counters and histograms."""
    return {name: series for name, series in snapshot.items() if FAMILIES[name].kind in {"counter", "histogram"}}


def _combine(how: Literal["sum", "min", "max"], first: Value, second: Value) -> Value:
    if isinstance(first, list) and isinstance(second, list):
        return [left + right for left, right in zip(first, second, strict=True)]
    assert not isinstance(first, list)  # noqa: S101 - a family holds numbers or histograms, not both
    assert not isinstance(second, list)  # noqa: S101
    return {"sum": first + second, "min": min(first, second), "max": max(first, second)}[how]
