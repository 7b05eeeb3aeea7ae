"""`python -m service`: serves what is published."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress

from fastapi import FastAPI

from models.command_line import guarded, parse
from service.app import create_app
from service.launch import launch
from service.settings import Settings
from service.worker import Worker


def _make_app(settings: Settings, worker: Worker | None) -> FastAPI:
    return create_app(settings, worker=worker)


if __name__ == "__main__":
    _settings = parse(Settings)
    _code = guarded(lambda: launch(_settings, _make_app), prog="python -m service")
    logging.shutdown()
    if sys.stderr is not None:  # which it is where a parent has closed it
        with suppress(OSError):
            sys.stderr.flush()
    os._exit(_code)  # requests have ended; the interpreter's own way out would wait for a model that is still loading
