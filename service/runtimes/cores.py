"""How many processor cores this process may keep busy."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def available_cores(cgroups: Path = _CGROUPS) -> int:
    """The cores that the affinity mask and the container's CPU quota leave, 1 at least.

    `os.cpu_count` knows of neither, so a container with two cores on a machine of 64 would start 64 threads.
    """
    visible = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroups)
    return visible if quota is None else max(1, min(visible, math.ceil(quota)))


def _quota(cgroups: Path) -> float | None:
    """The quota in cores, by the files of cgroup v2 or v1; None where there is none."""
    try:
        limit, period = (cgroups / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (cgroups / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroups / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not (limit.isdecimal() and period.isdecimal() and int(period)):  # "max" and -1 are no limit
        return None
    return int(limit) / int(period)
