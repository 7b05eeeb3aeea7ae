"""The body of a request, read within a limit, and unpacked within the same limit."""

from __future__ import annotations

import zlib

from fastapi import Request

from service.errors import InvalidRequest, PayloadTooLarge, UnsupportedMedia

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
    encoding = request.headers.get("content-encoding", "identity").strip().lower() or "identity"
    if encoding != "identity" and not may_be_compressed:
        raise UnsupportedMedia(f"The body must not be compressed. Received: Content-Encoding: {encoding}.")
    if encoding != "identity" and encoding not in _WINDOW_BITS:
        raise UnsupportedMedia(
            f"The body may be compressed by gzip or deflate. Received: Content-Encoding: {encoding}."
        )
    body = await _read(request, limit)
    return body if encoding == "identity" else _unpack(body, encoding, limit)


async def _read(request: Request, limit: int) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _unpack(body: bytes, encoding: str, limit: int) -> bytes:
    unpacker = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        unpacked = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidRequest(f"The body is not {encoding}, as its Content-Encoding says: {error}.") from error
    if len(unpacked) > limit:
        raise _too_large(limit)
    if not unpacker.eof or unpacker.unused_data:
        problem = "there is more after its end" if unpacker.eof else "it ends too early"
        raise InvalidRequest(f"The body is not {encoding}, as its Content-Encoding says: {problem}.")
    return unpacked


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body may have at most {limit} bytes. Send fewer rows at a time.")
