"""TensorFlow Serving's REST API under `/v1`, and KServe's v1 where it differs: one door for the clients of both.

The paths are matched as TensorFlow Serving matches them: in any case, before names are decoded, and a path under `/v1`
that means nothing to it is a malformed request. The routes further down say the same to OpenAPI.
"""

from __future__ import annotations

import asyncio
import re
from time import perf_counter
from typing import Any
from urllib.parse import quote, unquote

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from models.manifest import Signature, Tensors
from service.engine import Engine
from service.errors import InvalidRequest, NotFound
from service.exchange import Exchange
from service.inference import InferenceRequest, InferenceResponse, row_count
from service.protocols import tfs_schema
from service.protocols.application import engine_of
from service.protocols.hanging_up import ends_with_caller
from service.protocols.predict import TIMEOUT_HEADER, timeout_seconds
from service.protocols.request_body import read_body
from service.protocols.tfs_decode import Layout, decode_examples, decode_predict, parse
from service.protocols.tfs_encode import check_output, dump, encode_classes, encode_predict, encode_values
from service.protocols.tfs_target import Target, metadata_of, statuses_of

PROTOCOL = "tfs"
_LARGE_BODY_BYTES = 256 * 2**10
_WHICH = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_VERBS = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_WHICH}:(?P<verb>classify|regress|predict)", re.ASCII | re.IGNORECASE
)
_QUESTIONS = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+){_WHICH}(?P<metadata>/metadata)?)?", re.ASCII | re.IGNORECASE)

router = APIRouter()


def target_of(found: re.Match[str]) -> Target:
    """What a path asks for that one of the patterns above has matched."""
    digits, label = found["version"], found["label"]
    if digits and len(digits) > 18:
        raise InvalidRequest(f"Failed to convert version: {digits} to numeric.")
    return Target(unquote(found["name"]), int(digits or 0) or None, None if label is None else unquote(label))


async def answer(request: Request) -> Response:
    """Answers any request under `/v1`."""
    path = (
        request.scope.get("raw_path", quote(request.scope["path"], "/:").encode()).partition(b"?")[0].decode("latin-1")
    )
    engine = engine_of(request)
    if request.method == "POST" and (found := _VERBS.fullmatch(path)):
        return await _infer(request, engine, target_of(found).resolved(engine), found["verb"].lower())
    if request.method in {"GET", "HEAD"} and (found := _QUESTIONS.fullmatch(path)):
        if found["name"] is None:
            return _json({"models": [index.name for index in engine.index()]})
        target = target_of(found).resolved(engine)
        return _json(metadata_of(engine, target) if found["metadata"] else statuses_of(engine, target))
    raise InvalidRequest(f"Malformed request: {request.method} {path}")


async def alive(request: Request) -> Response:
    """KServe's question whether the process works at all; a browser is shown the documentation instead."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("docs")
    return _json({"status": "alive"})


async def _infer(request: Request, engine: Engine, target: Target, verb: str) -> Response:
    exchange = Exchange.of(request.scope)
    exchange.protocol = PROTOCOL
    body = await read_body(request, request.app.state.settings.max_body_bytes, may_be_compressed=True)
    exchange.received = perf_counter()
    timeout = timeout_seconds(request.headers.get(TIMEOUT_HEADER))
    try:
        metadata = engine.metadata(target.name, target.version)
        exchange.model, exchange.version = metadata.name, metadata.version
        if len(body) > _LARGE_BODY_BYTES:  # so that health checks and small requests are answered meanwhile
            inputs, layout = await asyncio.to_thread(_decode, body, metadata.signature, verb)
        else:
            inputs, layout = _decode(body, metadata.signature, verb)
        exchange.decode = perf_counter() - exchange.received
        exchange.rows = row_count(inputs)
        with ends_with_caller(request):
            response = await engine.infer(InferenceRequest(inputs, target.name, target.version, timeout))
    except NotFound as error:
        raise target.not_found() from error
    exchange.version = response.version
    began = perf_counter()
    answer = _encode(response, verb, layout)
    exchange.encode = perf_counter() - began
    return Response(answer, media_type="application/json")


def _decode(body: bytes, signature: Signature, verb: str) -> tuple[Tensors, Layout]:
    if verb != "predict":
        check_output(signature, verb)
    document = parse(body)
    if verb == "predict":
        return decode_predict(document, signature)
    return decode_examples(document, signature), "row"


def _encode(response: InferenceResponse, verb: str, layout: Layout) -> bytes:
    if verb == "predict":
        return encode_predict(response.outputs, response.signature, layout)
    if verb == "classify":
        return encode_classes(response.outputs, response.signature)
    return encode_values(response.outputs)


def _json(document: dict[str, Any]) -> Response:
    return Response(dump(document), media_type="application/json")


_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

router.add_api_route("/", alive, **tfs_schema.ALIVE)
for _path, _described in tfs_schema.ROUTES:
    router.add_api_route(_path, answer, **_described)
for _prefix in ("/v1", "/V1"):
    router.add_api_route(_prefix + "/{path:path}", answer, methods=_METHODS, include_in_schema=False)
