from __future__ import annotations

from pathlib import Path

import pytest

from service.runtimes.cores import available_cores


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))


@pytest.mark.parametrize(
    ("text", "cores"),
    [("200000 100000\n", 2), ("150000 100000\n", 2), ("10000 100000\n", 1), ("max 100000\n", 8), ("9900000 100000", 8)],
)
def test_quota_of_cgroup_2_limits_the_cores(tmp_path: Path, text: str, cores: int) -> None:
    write(tmp_path, "cpu.max", text)
    assert available_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("300000", 3), ("-1", 8)])
def test_quota_of_cgroup_1_limits_the_cores(tmp_path: Path, quota: str, cores: int) -> None:
    write(tmp_path, "cpu/cpu.cfs_quota_us", f"{quota}\n")
    write(tmp_path, "cpu/cpu.cfs_period_us", "100000\n")
    assert available_cores(tmp_path) == cores


def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "none") == 8


def test_nonsense_is_no_quota(tmp_path: Path) -> None:
    write(tmp_path, "cpu.max", "nonsense")
    assert available_cores(tmp_path) == 8
