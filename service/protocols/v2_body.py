"""Bodies of the Open Inference Protocol: JSON with raw tensors behind it, compressed or not, in both directions."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from fastapi import Request, Response

from service.errors import InvalidRequest
from service.protocols.request_body import read_padded
from service.protocols.tensors import describe

HEADER = "inference-header-content-length"
_ALIGNMENT = 16
LEAST_BYTES = 1024  # shorter answers are not worth compressing
_LARGE_BYTES = 256 * 2**10
_LEVEL = 1  # tensors hardly become smaller by more effort


class Body(NamedTuple):
    """What came: the JSON, and the bytes behind it. `is_raw` is a body of bytes alone, for a model of one input."""

    json: memoryview
    tensors: memoryview
    is_raw: bool


async def read_body(request: Request, limit: int) -> Body:
    """Reads a body of at most `limit` bytes, before and after it is decompressed. Its tensors begin aligned.

    Raises:
        InvalidRequest: the header that says how long the JSON is cannot be right, or the body is damaged.
        PayloadTooLarge: there is more.
        UnsupportedMedia: it is compressed by another method than gzip or deflate.
    """
    length = _json_length(request.headers.get(HEADER))
    padding = -(length or 0) % _ALIGNMENT
    data = await read_padded(request, limit, padding)
    content = memoryview(data)[padding:]
    if length is None:
        return Body(content, content[:0], is_raw=False)
    if length > len(content):
        raise InvalidRequest(f"`{HEADER}` must be at most the length of the body, {len(content)}. Received: {length}.")
    return Body(content[:length], content[length:], is_raw=length == 0)


async def answer(request: Request, json: bytes, tensors: Sequence[bytes | memoryview] | None) -> Response:
    """The response of JSON and, where they are not None, raw tensors; compressed where the client says it may be."""
    content = b"".join([json, *tensors]) if tensors else json
    headers = {} if tensors is None else {HEADER: str(len(json))}
    encoding = _accepted(request.headers.get("accept-encoding", ""))
    if encoding and len(content) >= LEAST_BYTES:
        headers |= {"content-encoding": encoding, "vary": "Accept-Encoding"}
        compress = _gzip if encoding == "gzip" else zlib.compress
        is_large = len(content) > _LARGE_BYTES
        content = await asyncio.to_thread(compress, content, _LEVEL) if is_large else compress(content, _LEVEL)
    media_type = "application/json" if tensors is None else "application/octet-stream"
    return Response(content, headers=headers, media_type=media_type)


def _gzip(content: bytes, level: int) -> bytes:
    """Without the time, so that the same answer is the same bytes."""
    return gzip.compress(content, level, mtime=0)


def _json_length(header: str | None) -> int | None:
    if header is None:
        return None
    digits = header.strip(" \t")  # which is no part of a header's value (RFC 9110, 5.5), and the parser leaves it
    if digits.isascii() and digits.isdecimal() and len(digits) < 16:
        return int(digits)
    raise InvalidRequest(f"`{HEADER}` must be a whole number of bytes from 0. Received: {describe(header)}.")


def _accepted(header: str) -> str:
    """The encoding of ours that the client likes best; empty if none, also where it says nothing."""
    best, most = "", 0.0
    for item in header.lower().split(","):
        name, _, parameters = item.partition(";")
        weight = _weight(parameters.replace(" ", ""))
        if name.strip() in {"gzip", "deflate"} and weight > most:
            best, most = name.strip(), weight
    return best


def _weight(parameters: str) -> float:
    if not parameters.startswith("q="):
        return 1.0
    try:
        return float(parameters[2:])
    except ValueError:
        return 0.0
