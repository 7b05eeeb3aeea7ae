from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest

from models.quiet import quiet_import
from service import logs

Style = Literal["console", "json"]


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(style: Style, message: str, *, worker: int | None = None, error: Exception | None = None) -> str:
    stream = io.StringIO()
    logs.configure("info", style, worker=worker, stream=stream)
    logging.getLogger("service.test").info("%s", message, exc_info=error)
    logging.getLogger("service.test").debug("nobody asked for this")
    return stream.getvalue()


def raised(message: str) -> Exception:
    try:
        raise RuntimeError(message)
    except RuntimeError as error:
        return error


def test_console_line_is_time_level_logger_and_message() -> None:
    line = written("console", "all is well")
    assert line[23:] == " INFO service.test: all is well\n"


@pytest.mark.parametrize("break_", ["\n", "\r", "\x1b[2K", "\x85", "\u2028", "\x00"])
def test_message_of_a_client_starts_no_line_of_its_own(break_: str) -> None:
    line = written("console", f"model{break_}2025-01-01 ERROR forged")
    assert len(line.splitlines()) == 1
    assert not set(line[:-1]) & set(map(chr, range(32)))


def test_umlauts_stay_as_they_are() -> None:
    assert "Łódź" in written("console", "Łódź")


def test_lines_of_a_traceback_are_indented() -> None:
    lines = written("console", "it failed", error=raised("bad\n2025-01-01 ERROR forged")).splitlines()
    assert lines[1] == "    Traceback (most recent call last):"
    assert lines[-1] == "    2025-01-01 ERROR forged"
    assert all(line.startswith("    ") for line in lines[1:])


def test_json_line_is_one_object_with_its_traceback() -> None:
    text = written("json", "it\nfailed", worker=3, error=raised("bad\nvalue"))
    event = json.loads(text)
    assert text.count("\n") == 1
    assert (event["level"], event["logger"], event["message"]) == ("info", "service.test", "it\nfailed")
    assert event["worker"] == 3
    assert event["exception"].endswith("RuntimeError: bad\nvalue")


def test_json_line_takes_half_a_surrogate() -> None:
    assert json.loads(written("json", "\ud800"))["message"] == "\ud800"


@pytest.mark.parametrize("style", ["console", "json"])
def test_line_of_a_request_has_its_id(style: Style) -> None:
    token = logs.REQUEST_ID.set("abc-1")
    try:
        line = written(style, "all is well")
    finally:
        logs.REQUEST_ID.reset(token)
    assert line.endswith("all is well [abc-1]\n") if style == "console" else json.loads(line)["request_id"] == "abc-1"


def test_console_line_of_a_worker_has_its_number() -> None:
    assert " INFO worker 2 service.test: " in written("console", "all is well", worker=2)


def test_line_is_seen_while_another_thread_imports_keras(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "console")
    with quiet_import():
        logging.getLogger("service").info("Listening")
    assert capfd.readouterr().err.endswith("INFO service: Listening\n")
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.stream.close()
