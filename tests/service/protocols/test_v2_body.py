from __future__ import annotations

import gzip

import numpy as np
import pytest
from starlette.requests import Request
from starlette.types import Message

from service.protocols.v2_body import HEADER, Body, answer, read_body


async def read(content: bytes, json_length: int | str, *headers: tuple[bytes, bytes]) -> Body:
    """What is read of a body that comes in chunks of 1000 bytes."""
    chunks = [content[start : start + 1000] for start in range(0, len(content), 1000)]

    async def receive() -> Message:
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    lengths = [(HEADER.encode(), str(json_length).encode())]
    return await read_body(Request({"type": "http", "headers": [*lengths, *headers]}, receive), limit=10_000)


@pytest.mark.anyio
@pytest.mark.parametrize("json_length", [0, 1, 16, 83])
@pytest.mark.parametrize("is_compressed", [False, True])
async def test_tensors_begin_aligned_whatever_is_before_them(json_length: int, is_compressed: bool) -> None:
    content = b"j" * json_length + b"t" * 4096
    body = (
        await read(gzip.compress(content), json_length, (b"content-encoding", b"gzip"))
        if is_compressed
        else await read(content, json_length)
    )
    assert (bytes(body.json), bytes(body.tensors)) == (content[:json_length], b"t" * 4096)
    assert np.frombuffer(body.tensors, np.uint8).ctypes.data % 16 == 0
    assert body.is_raw == (json_length == 0)


@pytest.mark.anyio
async def test_white_space_around_the_length_of_the_json_is_no_part_of_it() -> None:
    assert bytes((await read(b"{}tensor", " 2\t ")).json) == b"{}"


@pytest.mark.anyio
async def test_compressed_answer_does_not_tell_the_time() -> None:
    request = Request({"type": "http", "headers": [(b"accept-encoding", b"gzip")]})
    body = bytes((await answer(request, b"[0.5]" * 1000, None)).body)
    assert gzip.decompress(body) == b"[0.5]" * 1000
    assert body[4:8] == bytes(4)  # where gzip writes the seconds since 1970
