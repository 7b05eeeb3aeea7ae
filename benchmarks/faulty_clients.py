"""Clients that misbehave, one function each: they send half a request, or garbage, or do not read, or leave."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

from benchmarks import load

Fault = Callable[[int, bytes, random.Random], Awaitable[None]]
"""Called with a port, a sound request, and where chance comes from. What the server does to it raises nothing."""

_PATIENCE_SECONDS = 3.0
_LITTLE = 4096


async def leave_amid_request(port: int, request: bytes, chance: random.Random) -> None:
    """Sends a part and resets the connection."""
    with suppress(OSError):
        await _send(port, request[: chance.randrange(1, len(request))], chance)


async def leave_amid_answer(port: int, request: bytes, chance: random.Random) -> None:
    """Sends several whole requests and resets the connection."""
    with suppress(OSError):
        await _send(port, request * chance.randrange(1, 20), chance)


async def send_half(port: int, request: bytes, chance: random.Random) -> None:
    """Sends a part and then nothing, until the server has had enough."""
    await _talk(port, [request[: chance.randrange(1, len(request))]], chance)


async def drip(port: int, request: bytes, chance: random.Random) -> None:
    """Sends a request a few bytes at a time."""
    size = chance.randrange(1, 40)
    await _talk(port, [request[place : place + size] for place in range(0, len(request), size)], chance)


async def send_garbage(port: int, request: bytes, chance: random.Random) -> None:
    """Sends random bytes, with a sound request before or behind them."""
    garbage = chance.randbytes(chance.randrange(1, 5000))
    await _talk(port, [garbage, request] if chance.random() < 0.5 else [request + garbage], chance)


async def send_mutated(port: int, request: bytes, chance: random.Random) -> None:
    """Sends a request with a few other bytes in it."""
    changed = bytearray(request)
    for _ in range(chance.randrange(1, 6)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    await _talk(port, [bytes(changed)], chance)


async def send_nonsense(port: int, request: bytes, chance: random.Random) -> None:  # noqa: ARG001 - sends others
    """Sends requests that are sound HTTP and nothing that the model takes."""
    bodies = (b"", b"{}", b"[" * 2000, b'{"instances":[]}', b'{"instances":[[1,2]]}', b'{"instances":[["x"]]}',
              b'{"instances":' + b"[" + b"9" * 9000 + b"]}", b"\xff\xfe", b'{"instances":[[NaN]]}')  # fmt: skip
    paths = ("/predict", "/models/digits/predict", "/v2/models/digits/infer", "/v1/models/digits:predict", "/nowhere")
    requests = [load.request(chance.choice(paths), (load.JSON,), chance.choice(bodies)) for _ in range(10)]
    await _talk(port, requests, chance)


async def flood(port: int, request: bytes, chance: random.Random) -> None:
    """Sends hundreds of requests at once, reads for a while, and leaves."""
    await _talk(port, [request * chance.randrange(100, 400)], chance)


async def read_nothing(port: int, request: bytes, chance: random.Random) -> None:
    """Sends requests as long as the server takes them, into a socket with room for few answers."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LITTLE)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    with suppress(OSError, TimeoutError), client:
        await loop.sock_connect(client, ("127.0.0.1", port))
        async with asyncio.timeout(_PATIENCE_SECONDS * chance.random()):
            for _ in range(500):
                await loop.sock_sendall(client, request)
            await asyncio.Event().wait()


async def read_slowly(port: int, request: bytes, chance: random.Random) -> None:
    """Sends many requests and reads a few bytes of the answers at a time."""
    with suppress(OSError, TimeoutError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_LITTLE)
        try:
            writer.write(request * 200)
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while await reader.read(chance.randrange(1, 300)):
                    await asyncio.sleep(0.005)
        finally:
            _reset(writer)


CLIENTS: tuple[Fault, ...] = (
    leave_amid_request,
    leave_amid_answer,
    send_half,
    drip,
    send_garbage,
    send_mutated,
    send_nonsense,
    flood,
    read_nothing,
    read_slowly,
)


async def _send(port: int, data: bytes, chance: random.Random) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await asyncio.sleep(chance.choice((0.0, 0.001, 0.05)))
    _reset(writer)


async def _talk(port: int, parts: list[bytes], chance: random.Random) -> None:
    """Sends parts one after the other, and reads until the server closes or patience ends."""
    with suppress(OSError, TimeoutError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        reading = asyncio.create_task(_read_all(reader))
        try:
            async with asyncio.timeout(chance.uniform(0.05, _PATIENCE_SECONDS)):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
                await reading
        finally:
            reading.cancel()
            _reset(writer) if chance.random() < 0.5 else writer.close()


async def _read_all(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await reader.read(65536):
            pass


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes as a process does that is killed with unread data: by RST."""
    with suppress(OSError):
        client = writer.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
