"""What the log looks like: one event a line, for eyes or for machines, each with the id of its request.

A client chooses part of what is logged, so no line break of its may start a line: control characters are escaped, and
the lines of a traceback are indented.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request that is being answered; empty outside of any."""

_LINE_BREAKS = [*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029]
_ESCAPES = {code: repr(chr(code))[1:-1] for code in _LINE_BREAKS}


def configure(
    level: str, style: Literal["console", "json"], *, worker: int | None = None, stream: TextIO | None = None
) -> None:
    """Makes every logger of the process write to `stream`, each line with the number of the worker if there is one.

    The default is the standard error of this moment: while a thread imports Keras, `models.quiet` holds back what is
    written to the descriptor, and the lines of the others would be lost.
    """
    if stream is None and sys.stderr is not None:  # which it is where a parent has closed it
        stream = os.fdopen(os.dup(sys.stderr.fileno()), "w", errors="backslashreplace")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(worker) if style == "json" else ConsoleFormatter(worker))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class ConsoleFormatter(logging.Formatter):
    """`2025-01-02 03:04:05,678 INFO service.engine: message [request id]`, then the traceback, indented."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {'' if worker is None else f'worker {worker} '}%(name)s: ")

    def format(self, record: logging.LogRecord) -> str:
        """The event as text."""
        record.asctime = self.formatTime(record)
        request_id = REQUEST_ID.get()
        line = self.formatMessage(record) + _escaped(record.getMessage().rstrip())
        lines = [f"{line} [{request_id}]" if request_id else line]
        lines += [f"    {_escaped(part)}" for part in _traceback(self, record).split("\n") if part]
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request_id, exception, and the fields of an access line."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """The event as JSON."""
        event: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage().rstrip(),
            **self._worker,
        }
        if request_id := REQUEST_ID.get():
            event["request_id"] = request_id
        event |= getattr(record, "fields", {})
        if exception := _traceback(self, record):
            event["exception"] = exception
        return json.dumps(event)  # the standard library's, since a path may hold lone surrogates, which orjson refuses


@contextmanager
def request_id(value: str) -> Iterator[None]:
    """Gives every line that is logged in the block this id."""
    token = REQUEST_ID.set(value)
    try:
        yield
    finally:
        REQUEST_ID.reset(token)


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)
