"""What the service is measured against: `python -m benchmarks.servers KIND --port 9000`.

`limit` is an asyncio protocol that answers a constant, which shows what the load generator can do; `empty` is uvicorn
with an ASGI application that answers `{}`; the others are a plain FastAPI route that runs a published version by
LiteRT, by a traced function of the Keras model, or by its `predict`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
import uvloop
from fastapi import FastAPI, Request

EMPTY = b"{}"
Run = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["limit", "empty", *MODELS])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--version", type=Path, help="the folder of a version with one input and one output")
    options = parser.parse_args()
    if options.kind == "limit":
        uvloop.run(constant(options.port))
        return
    app = empty if options.kind == "empty" else route(MODELS[options.kind](options.version))
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


def route(run: Run) -> FastAPI:
    app = FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        instances = json.loads(await request.body()).get("instances")
        return {"predictions": run(np.array(instances, np.float32)).tolist() if instances else []}

    return app


def litert(version: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - the others do without

    interpreter = Interpreter(str(version / "model.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    given, answered = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(rows: np.ndarray) -> np.ndarray:
        if tuple(interpreter.get_input_details()[0]["shape"]) != rows.shape:
            interpreter.resize_tensor_input(given, rows.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(given, rows)
        interpreter.invoke()
        answer: np.ndarray = interpreter.get_tensor(answered)
        return answer

    return run


def traced(version: Path) -> Run:
    import tensorflow as tf  # noqa: PLC0415

    from models.loading import load_model  # noqa: PLC0415

    model = load_model(version / "model.keras")
    spec = tf.TensorSpec(model.inputs[0].shape, tf.float32)
    function = tf.function(lambda rows: model(rows, training=False), input_signature=[spec]).get_concrete_function()
    return lambda rows: function(tf.constant(rows)).numpy()


def predict(version: Path) -> Run:
    from models.loading import load_model  # noqa: PLC0415

    model = load_model(version / "model.keras")
    return lambda rows: model.predict(rows, verbose=0)


MODELS: dict[str, Callable[[Path], Run]] = {"litert": litert, "traced": traced, "predict": predict}


if __name__ == "__main__":
    main()
