from __future__ import annotations

import pytest

from service.statistics import Duration, Statistics


def test_runs_of_a_version_add_up() -> None:
    statistics = Statistics()
    statistics.on_batch("demo", 1, 3, 0.5, 0.25, 2, ended=7.5)
    statistics.on_batch("demo", 1, 3, 0.0, 0.25, 1, ended=7.5)
    found = statistics.of("demo", 1)
    assert (found.rows, found.runs, found.last_run > 0) == (6, 2, True)
    assert (found.queued, found.computed) == (Duration(3, 1.0), Duration(3, 0.75))
    assert found.sizes == {3: Duration(2, 0.5)}


def test_versions_are_counted_apart() -> None:
    statistics = Statistics()
    statistics.on_batch("demo", 1, 1, 0.0, 0.0, 1, ended=7.5)
    assert statistics.of("demo", 2).runs == statistics.of("other", 1).runs == 0


@pytest.mark.parametrize("most", [1024])
def test_sizes_that_are_kept_are_limited_and_rows_are_not(most: int) -> None:
    statistics = Statistics()
    for rows in range(1, most + 11):
        statistics.on_batch("demo", 1, rows, 0.0, 0.0, 1, ended=7.5)
    statistics.on_batch("demo", 1, 1, 0.0, 0.0, 1, ended=7.5)
    found = statistics.of("demo", 1)
    assert (len(found.sizes), found.sizes[1].count, found.runs) == (most, 2, most + 11)


def test_versions_that_ran_long_ago_are_forgotten() -> None:
    statistics = Statistics()
    for version in range(1, 301):
        statistics.on_batch("demo", version, 1, 0.0, 0.0, 1, ended=1000.0 + (version != 1) * version)
        statistics.on_batch("demo", 1, 1, 0.0, 0.0, 1, ended=1000.0 + version)
    kept = [version for version in range(300, 0, -1) if statistics.of("demo", version).runs]
    assert kept == [*range(300, 45, -1), 1]
