"""One of several processes that serve the same models on the same port, and the metrics that they share.

Each worker leaves its snapshot in a private folder every second, and before each page that it shows, and the process
above them its own beside it; whichever worker is asked for `/metrics` adds up what lies there. A counter never goes
back: what a worker has shown it has written, and the one that replaces a dead worker goes on from the counts which that
one left.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from service.families import Snapshot, counted, merge

_VARIABLE = "_LAYERSERVE_WORKER"
_INTERVAL_SECONDS = 1.0
OF_SUPERVISOR = "supervisor.json"
"""What the process above the workers leaves beside theirs."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worker:
    """What a worker is told by the process that started it.

    Attributes:
        number: From 0; the one that replaces a dead worker has the same.
        port: To listen on, together with the others.
        folder: Where the workers leave their snapshots.
        is_replacement: Whether others answer already, so that it need not listen before it has loaded its models.
    """

    number: int
    port: int
    folder: Path
    is_replacement: bool

    @staticmethod
    def from_environment(environment: Mapping[str, str]) -> Worker | None:
        """This process as a worker; None where it was started by itself."""
        text = environment.get(_VARIABLE)
        if text is None:
            return None
        told = json.loads(text)
        return Worker(told["number"], told["port"], Path(told["folder"]), told["is_replacement"])

    def environment(self) -> dict[str, str]:
        """What `from_environment` understands."""
        told = {
            "number": self.number,
            "port": self.port,
            "folder": str(self.folder),
            "is_replacement": self.is_replacement,
        }
        return {_VARIABLE: json.dumps(told)}

    def forget(self) -> None:
        """Removes what it has left, once it ends and the process above is gone; the last worker removes the folder."""
        for name in (f"{self.number}.json", f"{self.number}.partial", OF_SUPERVISOR):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    def share(self, take: Callable[[], Snapshot]) -> Share:
        """Begins to share what `take` gives."""
        return Share(self, take)


class Share:
    """The metrics of all workers, as one of them sees them."""

    def __init__(self, worker: Worker, take: Callable[[], Snapshot]) -> None:
        self._folder = worker.folder
        self._file = worker.folder / f"{worker.number}.json"
        self._take = take
        self._inherited = counted(_read(self._file)) if self._file.exists() else {}
        self._is_written = True

    def of_all_workers(self) -> Snapshot:
        """The sum of what they counted, and the gauges of those that are alive."""
        own = self._write()
        return merge([own, *(_read(file) for file in self._folder.glob("*.json") if file != self._file)])

    @asynccontextmanager
    async def kept_up_to_date(self) -> AsyncIterator[None]:
        """Writes a snapshot now and every second."""
        task = asyncio.create_task(self._keep_writing())
        try:
            yield
        finally:
            task.cancel()
            self._write()

    async def _keep_writing(self) -> None:
        while True:
            try:
                self._write()
            except Exception:  # whatever a snapshot ran into, the next may succeed
                _log.exception("The metrics could not be shared.")
            await asyncio.sleep(_INTERVAL_SECONDS)

    def _write(self) -> Snapshot:
        own = merge([self._inherited, self._take()])
        try:
            leave(self._file, own)
        except OSError as error:  # a full disk stops the sharing, not the service
            if self._is_written:
                _log.error("The other workers cannot see this one's metrics: %s", error)
            self._is_written = False
        else:
            self._is_written = True
        return own


def leave(file: Path, snapshot: Snapshot) -> None:
    """Leaves what this process counted for the others, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps({"pid": os.getpid(), "series": snapshot}))  # orjson has no infinity
    partial.replace(file)


def _read(file: Path) -> Snapshot:
    """What a worker left; of a dead one only what it counted."""
    with suppress(OSError, ValueError, KeyError, TypeError):  # gone, or cut short by a full disk
        left = json.loads(file.read_text())
        return left["series"] if _is_alive(left["pid"]) else counted(left["series"])
    return {}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
