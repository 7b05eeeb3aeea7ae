"""What the head of a request for the fast lane says, and heads that have been read before."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from service.errors import UnsupportedMedia
from service.protocols.bodies import JSON, BodyKind, kind_of_answer, kind_of_body
from service.protocols.predict import TIMEOUT_HEADER, Target, parse_url
from service.protocols.ways import Way

TIMEOUT = TIMEOUT_HEADER.lower().encode()
ID = b"x-request-id"
DECLINED = frozenset({b"content-encoding", b"transfer-encoding", b"expect", b"upgrade"})
"""Headers of a request that the lane leaves to the application."""
_TYPE, _LENGTH, _ACCEPT = b"content-type", b"content-length", b"accept"
_READ = DECLINED | {_TYPE, _LENGTH, _ACCEPT, TIMEOUT, ID}
_JSON = JSON.encode()
_MOST_DIGITS = 18  # of the length of a body; Python makes no number of thousands of zeros


class Head(NamedTuple):
    """What the head of a request says; `length` is that of the body.

    `kind` and `answer` are the forms of the body and of the answer; None is JSON. `way` is how the lane answers another
    protocol's; then `json_length` is that of the JSON before the tensors, and `packs` whether the answer may be
    compressed.
    """

    url: bytes
    target: Target
    labels: bool
    timeout: str | None
    length: int
    keep_alive: bool
    kind: BodyKind | None = None
    answer: BodyKind | None = None
    way: Way | None = None
    json_length: int = 0
    packs: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the request asks for nothing but predictions, in JSON or as tensors."""
        return not (self.labels or self.timeout is not None or self.kind or self.answer)

    @property
    def media_type(self) -> bytes:
        """Of the answer, as FastAPI writes it."""
        if self.answer is None:
            return _JSON
        charset = "; charset=utf-8" if self.answer.media_type.startswith("text/") else ""
        return (self.answer.media_type + charset).encode()


def read_head(url: bytes, headers: Iterable[tuple[bytes, bytes]], *, keep_alive: bool) -> Head | None:
    """The head of a `POST` by HTTP/1.1; None where only the application can answer it."""
    asked = parse_url(url)
    if asked is None:
        return None
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _READ:
            if name in found or name in DECLINED:
                return None
            found[name] = value
    try:
        kind = kind_of_body(found.get(_TYPE, _JSON).decode("latin-1"))
    except UnsupportedMedia:  # which the application will tell
        return None
    length = found.get(_LENGTH, b"0")
    if len(length) > _MOST_DIGITS:
        return None
    answer = kind_of_answer(found.get(_ACCEPT, b"*/*").decode("latin-1"))
    timeout = found[TIMEOUT].decode("latin-1") if TIMEOUT in found else None
    return Head(url, *asked, timeout, int(length), keep_alive, kind, answer)


class Heads:
    """Heads that have been parsed before: a client sends the same one over and over, but for the length of its bodies.

    `get` takes the text of a head, and `find`, which takes longer, one that may differ in that.
    """

    _MOST, _LONGEST = 1024, 2048
    _LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,15})\r\n", re.IGNORECASE)

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}
        self._without_length: dict[bytes, Head] = {}
        self.get = self._heads.get

    def find(self, text: bytes, most_bytes: int) -> Head | None:
        """The head of a body of at most so many bytes, if one has come that says all else in the same way."""
        found = self._LENGTH.search(text)
        known = found and self._without_length.get(_without(text, found))
        if not found or not known or int(found[1]) > most_bytes:
            return None
        head = known._replace(length=int(found[1]))
        self._keep(self._heads, text, head)
        return head

    def add(self, text: bytes, head: Head) -> None:
        """Keeps a head, from the first letter of `POST` to the empty line, if it may stand for all such text.

        A line that ends in a bare LF may be where the parser sees the end.
        """
        if len(text) > self._LONGEST or not text.startswith(b"POST ") or text.count(b"\n") != text.count(b"\r\n"):
            return
        self._keep(self._heads, text, head)
        if found := self._LENGTH.search(text):
            self._keep(self._without_length, _without(text, found), head)

    def _keep(self, heads: dict[bytes, Head], key: bytes, head: Head) -> None:
        if len(heads) >= self._MOST:
            heads.clear()
        heads[key] = head


def _without(text: bytes, found: re.Match[bytes]) -> bytes:
    return text[: found.start(1)] + text[found.end(1) :]
