"""The process above several workers: starts them, replaces one that dies, and passes signals on.

It serves nothing itself, so nothing that happens to a request can end it. Workers are started anew, never forked: a
fork of a process in which TensorFlow runs hangs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from service.server import bind_shared, reserve
from service.settings import Settings
from service.tls import scheme
from service.worker import OF_SUPERVISOR, Worker, leave

_log = logging.getLogger(__name__)
_LISTENING = b"layerserve: listening\n"
_MAX_FAILED_STARTS = 5
_MAX_DELAY_SECONDS = 30.0
_HEALTHY_SECONDS = 10.0
_GRACE_SECONDS = 5.0
_CANNOT_START = 3


def supervise(command: Sequence[str], settings: Settings, *, first_delay: float = 0.2) -> int:
    """Runs `settings.workers` workers until a signal comes; gives the exit code.

    Args:
        command: Starts one worker, given `Worker.environment`.
        settings: Of the service.
        first_delay: Seconds before a worker that died soon is started again; they double each time.
    """
    with (
        reserve(settings) as holder,
        hold_grpc_port(settings),
        tempfile.TemporaryDirectory(prefix="layerserve-") as folder,
    ):
        supervisor = Supervisor(command, settings, holder, Path(folder), first_delay)
        return asyncio.run(supervisor.run())


def hold_grpc_port(settings: Settings) -> AbstractContextManager[object]:
    """Keeps other services from the port for gRPC, on which workers listen only seconds after they were started."""
    return bind_shared(settings, settings.grpc_port) if settings.grpc_port else nullcontext()


class Supervisor:
    """Keeps the workers alive. See `supervise`."""

    def __init__(
        self, command: Sequence[str], settings: Settings, holder: socket.socket, folder: Path, first_delay: float
    ) -> None:
        self._command = command
        self._settings = settings
        self._host, self._port = holder.getsockname()[:2]
        self._folder = folder
        self._first_delay = first_delay
        self._processes: dict[int, Process] = {}
        self._listening: set[int] = set()
        self._has_listened = False
        self._stop_signal: signal.Signals | None = None
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self._code = 0
        self._restarts = 0.0

    async def run(self) -> int:
        """Runs until all workers have ended after a signal, or one cannot be started."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        _log.info("Starting %d workers.", self._settings.workers)
        self._leave_restarts(0.0)
        ended = asyncio.create_task(self._keep_all())
        stopping, at_once = (asyncio.create_task(event.wait()) for event in (self._stopping, self._at_once))
        await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
        patience = self._settings.drain_delay + self._settings.drain_timeout + _GRACE_SECONDS
        await asyncio.wait([ended, at_once], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (stopping, at_once):
            waiting.cancel()
        if not ended.done():
            for process in self._processes.values():
                _signal(process, signal.SIGKILL)
            self._code = self._code or 1
        await ended
        return self._code

    async def _keep_all(self) -> None:
        await asyncio.gather(*(self._keep(number) for number in range(self._settings.workers)))

    async def _keep(self, number: int) -> None:
        """Runs one worker after the other under the same number."""
        failed_starts, soon_dead = 0, 0
        while not self._stopping.is_set():
            began = time.monotonic()
            has_listened, code = await self._run_worker(number)
            if self._stopping.is_set():
                self._note_end(number, code)
                return
            failed_starts = 0 if has_listened else failed_starts + 1
            soon_dead = soon_dead + 1 if time.monotonic() - began < _HEALTHY_SECONDS else 0
            _log.error("Worker %d ended with %s; another takes its place.", number, _described(code))
            self._leave_restarts(self._restarts + 1)
            if failed_starts == _MAX_FAILED_STARTS:
                _log.error("Worker %d failed to start %d times in a row: giving up.", number, failed_starts)
                self._code = _CANNOT_START
                self._stop(signal.SIGTERM)
                return
            delay = min(self._first_delay * 2 ** (soon_dead - 1), _MAX_DELAY_SECONDS) if soon_dead else 0.0
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)

    def _leave_restarts(self, number: float) -> None:
        """Leaves for the workers' page how often one was replaced."""
        self._restarts = number
        try:
            leave(self._folder / OF_SUPERVISOR, {"layerserve_worker_restarts_total": [((), number)]})
        except OSError as error:  # a full disk stops the counting, not the service
            _log.error("The workers cannot see how often one was replaced: %s", error)

    async def _run_worker(self, number: int) -> tuple[bool, int]:
        """One life of a worker: whether it came to listen, and its exit code."""
        worker = Worker(number, self._port, self._folder, is_replacement=bool(self._listening))
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**os.environ, **worker.environment()},
                stdin=PIPE,  # ends with us, which tells a worker to end as well
                stdout=PIPE,
                process_group=0,  # a Ctrl-C is ours to pass on, once
            )
        except OSError as error:  # no memory or no more processes: may pass
            _log.error("Worker %d cannot be started: %s", number, error)
            return False, _CANNOT_START
        self._processes[number] = process
        if self._stop_signal is not None:
            _signal(process, self._stop_signal)
        has_listened = await self._follow(number, process)
        code = await process.wait()
        del self._processes[number]
        self._listening.discard(number)
        return has_listened, code

    async def _follow(self, number: int, process: Process) -> bool:
        """Reads what a worker writes until it ends; whether it said that it listens. All else goes on to stdout."""
        assert process.stdout is not None  # noqa: S101 - asked for above
        while chunk := await process.stdout.read(2**16):
            before, mark, after = chunk.partition(_LISTENING)
            if mark:
                self._listening.add(number)
                self._say_so_once()
            if sys.stdout is not None:  # which it is where a parent has closed it
                with suppress(OSError):  # nobody reads it
                    sys.stdout.buffer.write(before + after)
                    sys.stdout.flush()
        return number in self._listening

    def _say_so_once(self) -> None:
        if not self._has_listened:
            host = f"[{self._host}]" if ":" in self._host else self._host
            _log.info("Listening on %s://%s:%d (API: /docs)", scheme(self._settings), host, self._port)
        self._has_listened = True

    def _stop(self, number: signal.Signals) -> None:
        """Passes the signal on; the second time, ends at once."""
        if self._stop_signal is not None:
            self._code = 128 + number
            self._at_once.set()
            return
        self._stop_signal = number
        self._stopping.set()
        for process in self._processes.values():
            _signal(process, number)

    def _reload(self) -> None:
        for number in self._listening:  # one that is not as far would die of it, and will look at the disk anyway
            _signal(self._processes[number], signal.SIGHUP)

    def _note_end(self, number: int, code: int) -> None:
        """A worker ended as it was told to; one that had no handler yet was ended by the signal itself."""
        if code in {0, -int(self._stop_signal or 0)}:
            return
        _log.error("Worker %d ended with %s.", number, _described(code))
        self._code = self._code or 1


def announce() -> None:
    """Tells the supervisor that this worker listens."""
    os.write(1, _LISTENING)


def end_with_supervisor() -> threading.Event:
    """Makes this worker drain and end when its supervisor is gone, however that ended; gives what is set then."""
    is_gone = threading.Event()

    def wait() -> None:
        while os.read(0, 1):
            pass
        is_gone.set()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="supervisor", daemon=True).start()
    return is_gone


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended, and its keeper is about to notice
        process.send_signal(number)


def _described(code: int) -> str:
    names = {number.value: number.name for number in signal.Signals}
    return names.get(-code, f"signal {-code}") if code < 0 else f"exit code {code}"
