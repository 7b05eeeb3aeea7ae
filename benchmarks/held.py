"""What the process of a service holds: the tasks of its event loop, sockets, threads, memory."""

from __future__ import annotations

import re
import signal
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from benchmarks.service_process import Service, open_sockets


@dataclass(frozen=True)
class Held:
    """At one moment."""

    tasks: int
    sockets: int
    threads: int
    memory_mib: float
    failures: int
    """Answers of 500 since it has started."""


def count_held(service: Service, tasks_file: Path) -> Held:
    """Counts; the service is `benchmarks.counted_service`, which writes into the file."""
    process = Path("/proc", str(service.process.pid))
    tasks_file.unlink(missing_ok=True)
    service.process.send_signal(signal.SIGUSR1)
    while not tasks_file.exists() or not tasks_file.read_text().endswith("\n"):
        time.sleep(0.02)
    sockets = len(open_sockets(service.process.pid))
    threads = len(list((process / "task").iterdir()))
    with urllib.request.urlopen(f"{service.url}/metrics", timeout=30) as page:
        failures = re.findall(r'^layerserve_requests_total\{.*status="500".*\} (\d+)', page.read().decode(), re.M)
    tasks = int(tasks_file.read_text())
    return Held(tasks, sockets, threads, service.memory_mib(), sum(map(int, failures)))
