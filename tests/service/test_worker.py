from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.families import Snapshot
from service.worker import Worker

COUNTED: Snapshot = {"layerserve_requests_total": [(("a", "1", "native", "200"), 5.0)]}
GAUGE: Snapshot = {"layerserve_queue_rows": [(("a",), 3.0)]}


def worker(folder: Path, number: int = 0) -> Worker:
    return Worker(number, 8000, folder, is_replacement=False)


def leave(folder: Path, number: int, pid: int, snapshot: Snapshot) -> None:
    (folder / f"{number}.json").write_text(json.dumps({"pid": pid, "series": snapshot}))


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_worker_learns_what_it_was_told(tmp_path: Path) -> None:
    told = Worker(3, 8123, tmp_path, is_replacement=True)
    assert Worker.from_environment(told.environment()) == told


def test_process_that_nobody_told_anything_is_no_worker() -> None:
    assert Worker.from_environment({}) is None


def test_page_adds_up_what_the_workers_left(tmp_path: Path) -> None:
    leave(tmp_path, 1, os.getpid(), {**COUNTED, **GAUGE})
    share = worker(tmp_path).share(lambda: {**COUNTED, **GAUGE})
    assert share.of_all_workers() == {
        "layerserve_requests_total": [(("a", "1", "native", "200"), 10.0)],
        "layerserve_queue_rows": [(("a",), 6.0)],
    }


@pytest.mark.slow
def test_dead_worker_leaves_its_counts_and_no_gauges(tmp_path: Path) -> None:
    leave(tmp_path, 1, dead_pid(), {**COUNTED, **GAUGE})
    assert worker(tmp_path).share(dict).of_all_workers() == COUNTED


@pytest.mark.slow
def test_replacement_goes_on_from_the_counts_of_the_one_before(tmp_path: Path) -> None:
    leave(tmp_path, 0, dead_pid(), {**COUNTED, **GAUGE})
    share = worker(tmp_path).share(lambda: COUNTED)
    for _ in range(2):
        assert share.of_all_workers() == {"layerserve_requests_total": [(("a", "1", "native", "200"), 10.0)]}


def test_what_was_shown_is_there_for_the_next_worker_that_is_asked(tmp_path: Path) -> None:
    shares = [worker(tmp_path, number).share(lambda: COUNTED) for number in range(2)]
    shares[0].of_all_workers()
    assert shares[1].of_all_workers()["layerserve_requests_total"][0][1] == 10.0


def test_infinite_drift_survives_the_exchange(tmp_path: Path) -> None:
    drift: Snapshot = {"layerserve_drift_max_abs_error": [(("a", "2", "1"), float("inf"))]}
    worker(tmp_path, 1).share(lambda: drift).of_all_workers()
    assert worker(tmp_path).share(dict).of_all_workers() == drift


@pytest.mark.parametrize("content", ["", "{", '{"pid": 1}', "[]", "\x00"])
def test_file_cut_short_is_left_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "1.json").write_text(content)
    assert worker(tmp_path).share(lambda: COUNTED).of_all_workers() == COUNTED


def test_full_disk_is_logged_once_and_the_own_metrics_are_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    share = worker(tmp_path / "gone").share(lambda: COUNTED)
    assert [share.of_all_workers() for _ in range(3)] == [COUNTED] * 3
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("The other workers cannot see this one's metrics: ")
