"""From settings to a running service: one process, or a supervisor and its workers."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable

from fastapi import FastAPI

from service import logs, supervisor
from service.memory import overlook_what_is_loaded
from service.server import Server, bind_shared, check_grpc_port, listen
from service.settings import Settings
from service.tls import check_tls, scheme
from service.worker import Worker

_log = logging.getLogger(__name__)

MakeApp = Callable[[Settings, Worker | None], FastAPI]


def launch(settings: Settings, make_app: MakeApp) -> int:
    """Serves until a signal comes; gives the exit code.

    Args:
        settings: Of the service.
        make_app: Makes the application, in each worker where there are several.

    Raises:
        OSError: the address cannot be had.
    """
    worker = Worker.from_environment(os.environ)
    logs.configure(settings.log_level, settings.log_format, worker=worker.number if worker else None)
    if worker is not None:
        return _serve_as(worker, settings, make_app)
    check_tls(settings)
    check_grpc_port(settings)
    if settings.workers > 1:
        return supervisor.supervise([sys.executable, *sys.orig_argv[1:]], settings)
    listener = listen(settings)
    host, port = listener.getsockname()[:2]
    url = f"{scheme(settings)}://{f'[{host}]' if ':' in host else host}:{port}"
    server = Server(
        make_app(settings, None), settings, on_started=lambda: _log.info("Listening on %s (API: /docs)", url)
    )
    return _run(server, listener)


def _serve_as(worker: Worker, settings: Settings, make_app: MakeApp) -> int:
    is_alone = supervisor.end_with_supervisor()
    try:
        listener = bind_shared(settings, worker.port)
        app = make_app(settings, worker)
        return _run(Server(app, settings, on_started=supervisor.announce, is_worker=True), listener)
    finally:
        if is_alone.is_set():
            worker.forget()


def _run(server: Server, listener: socket.socket) -> int:
    overlook_what_is_loaded()  # before there is a model, which is to be collected one day
    server.run(sockets=[listener])
    return int(server.has_left) if server.started else 3
