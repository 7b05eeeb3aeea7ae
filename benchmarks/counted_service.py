"""`python -m service` that says on SIGUSR1 how many tasks its event loop has: for `benchmarks.faults`.

The count is written into the file that the environment names in LAYERSERVE_BENCHMARK_TASKS.
"""

from __future__ import annotations

import asyncio
import os
import runpy
import signal
from pathlib import Path
from types import FrameType

FILE = "LAYERSERVE_BENCHMARK_TASKS"


def main() -> None:
    file = Path(os.environ.pop(FILE))  # the service refuses names that it does not know

    def write(sig: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python's signature
        file.write_text(f"{len(asyncio.all_tasks())}\n")

    signal.signal(signal.SIGUSR1, write)
    runpy.run_module("service", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
