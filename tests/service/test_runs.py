from __future__ import annotations

import time

from service.metrics import Metrics
from service.runs import Runs
from service.statistics import Statistics


def counted() -> tuple[Runs, Metrics, Statistics]:
    metrics, statistics = Metrics(), Statistics()
    return Runs(metrics, statistics), metrics, statistics


def rows_in(metrics: Metrics) -> float:
    return sum(value[-1] for _, value in metrics.snapshot().get("layerserve_batch_rows", []))


def test_runs_are_in_every_page_and_every_reading() -> None:
    runs, metrics, statistics = counted()
    for number in range(1, 80):
        runs.add("demo", 1, 2, 0.5, 0.25, 1)
        assert rows_in(metrics) == 2 * number
        assert statistics.of("demo", 1).rows == 2 * number


def test_run_counts_as_ended_when_it_came_not_when_it_is_read() -> None:
    runs, _, statistics = counted()
    before = time.time()
    runs.add("demo", 1, 1, 0.0, 0.0, 1)
    after = time.time()
    runs.add("other", 1, 1, 0.0, 0.0, 1)
    assert before <= statistics.of("demo", 1).last_run <= after


def test_runs_that_nobody_reads_do_not_gather() -> None:
    runs, _, statistics = counted()
    statistics.catch_up = None
    for _ in range(1000):
        runs.add("demo", 1, 1, 0.0, 0.0, 1)
    assert statistics.of("demo", 1).rows > 900
