"""`python -m service` with fake runtimes instead of Keras: a real process that starts at once."""

from __future__ import annotations

import sys

from models.command_line import parse
from service.app import create_app
from service.launch import launch
from service.settings import Settings
from tests.service.fakes import FakeRuntimes

if __name__ == "__main__":
    sys.exit(launch(parse(Settings), lambda s, worker: create_app(s, load_runtime=FakeRuntimes().load, worker=worker)))
