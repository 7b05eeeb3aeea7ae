"""How long the service takes to be ready, and how much memory it has then: `python -m benchmarks.startup`.

Starts `python -m service` on a free port several times for each runtime, asks for `/health/ready` until that says yes,
and prints the median wall and processor seconds since the process began, and its resident memory. On a busy machine
the processor's seconds say more. `--python` takes another interpreter, such as that of an environment without
TensorFlow: `pip install --require-hashes -r requirements/slim.txt`. Linux only, for it reads `/proc`.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 0.005
_GIVE_UP_SECONDS = 120.0


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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [python, "-m", "service", "--artifacts", str(artifacts), "--port", str(port), "--runtime", runtime]
    begin = time.perf_counter()
    process = subprocess.Popen([*command, "--log-level", "error"])
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}/health/ready", begin + _GIVE_UP_SECONDS)
        wall = time.perf_counter() - begin
        folder = Path("/proc", str(process.pid))
        user, system = (folder / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        served = served_by(f"http://127.0.0.1:{port}/models")
    finally:
        process.terminate()
        process.wait()
    processor = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return Start(wall, processor, int(status["VmRSS"].split()[0]) / 1024, served)


def wait_until_ready(process: subprocess.Popen[bytes], url: str, deadline: float) -> None:
    while time.perf_counter() < deadline:
        if process.poll() is not None:
            raise SystemExit("The service ended before it was ready.")
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(_POLL_SECONDS)
        else:
            return
    raise SystemExit(f"The service was not ready within {_GIVE_UP_SECONDS:g} s.")


def served_by(url: str) -> str:
    """The runtimes of all models that serve."""

    def get(address: str) -> dict[str, object]:
        with urllib.request.urlopen(address, timeout=5) as answer:
            found: dict[str, object] = json.load(answer)
            return found

    models = get(url)["models"]
    assert isinstance(models, list)
    return ", ".join(sorted({str(get(f"{url}/{model['name']}").get("runtime")) for model in models}))


if __name__ == "__main__":
    main()
