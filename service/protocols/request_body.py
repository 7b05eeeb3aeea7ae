"""The body of a request, read within a limit, and unpacked within the same limit."""

from __future__ import annotations

import asyncio
import zlib

from fastapi import Request

from service.errors import InvalidRequest, PayloadTooLarge, UnsupportedMedia

_IDENTITY = "identity"
_MOST_DIGITS = 20  # more than any limit has; Python makes no number of thousands
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


async def read_body(request: Request, limit: int, *, may_be_compressed: bool) -> bytes:
    """The body, unpacked if `Content-Encoding` says gzip or deflate.

    Args:
        request: Whose body has not been read.
        limit: Most bytes that the body may have, both as it came and unpacked.
        may_be_compressed: Whether gzip and deflate are taken.

    Raises:
        PayloadTooLarge: it has more bytes.
        UnsupportedMedia: it is packed in another way, or must not be packed at all.
        InvalidRequest: it cannot be unpacked.
    """
    encoding = _encoding(request)
    if encoding != _IDENTITY and not may_be_compressed:
        raise UnsupportedMedia(f"The body must not be compressed. Received: Content-Encoding: {encoding}.")
    return bytes(await read_padded(request, limit, 0))


async def read_padded(request: Request, limit: int, padding: int) -> bytearray:
    """The same after so many bytes of nothing, compressed or not, for a caller to whom it matters where parts begin."""
    encoding = _encoding(request)
    if encoding == _IDENTITY:
        return await _read(request, limit, padding)
    if encoding not in _WINDOW_BITS:
        raise UnsupportedMedia(
            f"The body must be compressed by gzip or deflate, or not at all. Received: Content-Encoding: {encoding}."
        )
    packed = await _read(request, limit, 0)
    return await asyncio.to_thread(_unpack, packed, encoding, limit, padding)


def _encoding(request: Request) -> str:
    return request.headers.get("content-encoding", "").strip().lower() or _IDENTITY


async def _read(request: Request, limit: int, padding: int) -> bytearray:
    length = request.headers.get("content-length", "").lstrip("0")[:_MOST_DIGITS]
    if length.isdecimal() and int(length) > limit:
        raise _too_large(limit)
    body = bytearray(padding)
    async for chunk in request.stream():
        body += chunk
        if len(body) - padding > limit:
            raise _too_large(limit)
    return body


def _unpack(body: bytearray, encoding: str, limit: int, padding: int) -> bytearray:
    unpacker = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        unpacked = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidRequest(f"The body is not {encoding}, as its Content-Encoding says: {error}.") from error
    if len(unpacked) > limit:
        raise _too_large(limit, " once it is unpacked")
    if not unpacker.eof or unpacker.unused_data:
        problem = "there is more after its end" if unpacker.eof else "it ends too early"
        raise InvalidRequest(f"The body is not {encoding}, as its Content-Encoding says: {problem}.")
    return bytearray(padding) + unpacked


def _too_large(limit: int, when: str = "") -> PayloadTooLarge:
    return PayloadTooLarge(f"The body may have at most {limit} bytes{when}. Send fewer rows at a time.")
