"""`python -m service`: serves what is published."""

from __future__ import annotations

import logging
import os
import sys

from models.command_line import guarded, parse
from service.app import create_app
from service.server import Server, listen
from service.settings import Settings

_log = logging.getLogger("service")


def serve(settings: Settings) -> int:
    """Serves until a signal comes; gives the exit code."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    listener = listen(settings)
    server = Server(create_app(settings), settings)
    server.run(sockets=[listener])
    return 0 if server.started else 3


if __name__ == "__main__":
    _settings = parse(Settings)
    _code = guarded(lambda: serve(_settings), prog="python -m service")
    logging.shutdown()
    sys.stderr.flush()
    os._exit(_code)  # requests have ended; the interpreter's own way out would wait for a model that is still loading
