from __future__ import annotations

import orjson

from service.families import Snapshot, counted, merge

FIRST: Snapshot = {
    "layerserve_queue_rows": [(("a",), 3.0)],
    "layerserve_ready": [((), 1.0)],
    "layerserve_golden_max_abs_error": [(("a", "1"), 0.25)],
    "layerserve_batch_rows": [(("a", "1"), [1.0, 2.0, 9.0])],
}
SECOND: Snapshot = {
    "layerserve_queue_rows": [(("a",), 4.0), (("b",), 1.0)],
    "layerserve_ready": [((), 0.0)],
    "layerserve_golden_max_abs_error": [(("a", "1"), 0.5)],
    "layerserve_batch_rows": [(("a", "1"), [10.0, 0.0, 1.0])],
}
MERGED: Snapshot = {
    "layerserve_batch_rows": [(("a", "1"), [11.0, 2.0, 10.0])],
    "layerserve_queue_rows": [(("a",), 7.0), (("b",), 1.0)],
    "layerserve_ready": [((), 0.0)],
    "layerserve_golden_max_abs_error": [(("a", "1"), 0.5)],
}


def test_workers_become_one_by_sum_minimum_or_maximum() -> None:
    assert merge([FIRST, SECOND]) == MERGED


def test_snapshot_that_went_through_json_merges_as_before() -> None:
    assert merge([FIRST, orjson.loads(orjson.dumps(SECOND))]) == MERGED


def test_merging_leaves_the_parts_as_they_were() -> None:
    merge([FIRST, SECOND])
    assert FIRST["layerserve_batch_rows"] == [(("a", "1"), [1.0, 2.0, 9.0])]


def test_metric_of_a_newer_worker_that_nobody_knows_is_left_out() -> None:
    assert merge([{"layerserve_unheard_of": [((), 1.0)]}]) == {}


def test_what_a_dead_worker_counted_stays_and_its_gauges_go() -> None:
    assert counted(MERGED).keys() == {"layerserve_batch_rows"}
