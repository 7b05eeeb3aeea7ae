"""Short words for long values and errors."""

from __future__ import annotations

import re
from typing import Any

_WRAPPER = re.compile(r"Exception encountered when calling [^\n]*\(\)\.\s*")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def words(text: str, limit: int = 300) -> str:
    """A text on one line, without colours, cut to a readable length."""
    line = " ".join(_ANSI.sub("", text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def told(error: BaseException, limit: int = 300) -> str:
    """An error's class and text; of those that Keras wraps, what was raised inside."""
    return f"{type(error).__name__}: {words(innermost(str(error)), limit)}"


def innermost(text: str) -> str:
    """What was raised inside, of an error that Keras wraps into its own."""
    text = text.rpartition("Exception encountered:")[2] or text
    return _WRAPPER.sub("", text).partition("Arguments received by")[0]


def shown(value: Any) -> str:
    """A value's repr on one short line."""
    return words(repr(value), 60)
