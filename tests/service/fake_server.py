"""`python -m service` with fake runtimes instead of Keras: a real process that starts at once."""

from __future__ import annotations

import logging
import sys

from models.command_line import parse
from service.app import create_app
from service.server import Server, listen
from service.settings import Settings
from tests.service.fakes import FakeRuntimes

if __name__ == "__main__":
    settings = parse(Settings)
    logging.basicConfig(level="INFO", stream=sys.stderr)
    Server(create_app(settings, load_runtime=FakeRuntimes().load), settings).run(sockets=[listen(settings)])
