"""What the service is measured against: `python -m benchmarks.servers limit|empty|fastapi --port 9000`.

`limit` is an asyncio protocol that answers a constant, which shows what the load generator can do; `empty` is uvicorn
with an ASGI application that answers `{}`; `fastapi` is a plain FastAPI route that runs the digits model by LiteRT.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
import uvloop
from fastapi import FastAPI, Request

EMPTY = b"{}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["limit", "empty", "fastapi"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", type=Path, help="a model.tflite, for fastapi")
    options = parser.parse_args()
    if options.kind == "limit":
        uvloop.run(constant(options.port))
        return
    app = empty if options.kind == "empty" else plain(options.model)
    uvicorn.run(app, port=options.port, log_level="warning", access_log=False)


async def constant(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Constant, "127.0.0.1", port)
    await server.serve_forever()


class Constant(asyncio.Protocol):
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n" + EMPTY

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        if data:
            self.transport.write(self.answer)


async def empty(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": EMPTY})


def plain(model: Path) -> FastAPI:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - the others do without

    interpreter = Interpreter(str(model), num_threads=1)
    interpreter.allocate_tensors()
    given, answered = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    app = FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        instances = np.array(json.loads(await request.body())["instances"], np.float32)
        if tuple(interpreter.get_input_details()[0]["shape"]) != instances.shape:
            interpreter.resize_tensor_input(given, instances.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(given, instances)
        interpreter.invoke()
        return {"predictions": interpreter.get_tensor(answered).tolist()}

    return app


if __name__ == "__main__":
    main()
