"""How long the service takes to be ready, and how much memory it has then: `python -m benchmarks.startup`.

Starts `python -m service` on a free port several times for each runtime, asks for `/health/ready` until that says yes,
and prints the median wall and processor seconds since the process began, and its resident memory. On a busy machine
the processor's seconds say more. `--python` takes another interpreter, such as that of an environment without
TensorFlow: `pip install --require-hashes -r requirements/slim.txt`. Linux only, for it reads `/proc`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.service_process import Service, cpu_seconds, running


@dataclass(frozen=True)
class Start:
    """One start: seconds from the process's begin to ready, processor seconds until then, and MB resident."""

    wall: float
    processor: float
    memory_mb: float
    runtime: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="folder of the published versions")
    parser.add_argument("--runtimes", nargs="+", default=["auto", "keras"], help="values of --runtime to measure")
    parser.add_argument("--python", default=sys.executable, help="interpreter that runs the service")
    parser.add_argument("--times", type=int, default=5, help="starts for each runtime (default 5)")
    options = parser.parse_args()
    print(f"{'--runtime':<16}{'served by':<14}{'wall s':>8}{'processor s':>13}{'memory MB':>11}")
    for runtime in options.runtimes:
        starts = [start(options.python, options.artifacts, runtime) for _ in range(options.times)]
        figures = [
            statistics.median(figure)
            for figure in zip(*((each.wall, each.processor, each.memory_mb) for each in starts), strict=True)
        ]
        served = ", ".join(sorted({each.runtime for each in starts}))
        print(f"{runtime:<16}{served:<14}{figures[0]:>8.2f}{figures[1]:>13.2f}{figures[2]:>11.0f}")


def start(python: str, artifacts: Path, runtime: str) -> Start:
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--artifacts", str(artifacts), "--runtime", runtime, "--log-level", "error")
        begin = time.perf_counter()
        with running(*flags, log=Path(folder) / "log", python=python) as service:
            wall, processor = time.perf_counter() - begin, cpu_seconds(service.process.pid)
            return Start(wall, processor, service.memory_mib(), served_by(service))


def served_by(service: Service) -> str:
    """The runtimes of all models that serve."""
    names = [model["name"] for model in service.get("/models")["models"]]
    return ", ".join(sorted({str(service.get(f"/models/{name}").get("runtime")) for name in names}))


if __name__ == "__main__":
    main()
