"""The Open Inference Protocol, version 2, over REST, with Triton's extensions but for memory shared with the client."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response

from models.manifest import Tensors
from service.engine import Engine
from service.errors import InvalidRequest, NotReady
from service.exchange import Exchange
from service.inference import InferenceRequest
from service.metadata import ModelMetadata
from service.protocols import v2_models
from service.protocols.application import EngineOf
from service.protocols.hanging_up import ends_with_caller
from service.protocols.predict import TIMEOUT_HEADER, timeout_seconds
from service.protocols.tensors import describe
from service.protocols.v2_body import Body, answer, read_body
from service.protocols.v2_infer import (
    OutputTensor,
    Which,
    check_outputs,
    choose_outputs,
    decode_inputs,
    infer,
    raw_input,
    shortest,
    split_binary,
    which_version,
)
from service.protocols.v2_request import InferMessage, parse_message, read_json
from service.protocols.v2_tensors import to_bytes, to_json
from service.statistics import Statistics
from service.version import VERSION

_LARGE_JSON_BYTES = 256 * 2**10
_LARGE_STRINGS_BYTES = 256 * 2**10
_PROTOCOL = "v2"
_MODEL = "/v2/models/{name}"
_VERSION = _MODEL + "/versions/{version}"

# The document of the service is for its own clients: those of this protocol have its specification.
router = APIRouter(include_in_schema=False)


def statistics_of(request: Request) -> Statistics:
    """The statistics that `create_app` put there."""
    statistics: Statistics = request.app.state.statistics
    return statistics


StatisticsOf = Annotated[Statistics, Depends(statistics_of)]


@router.get("/v2")
@router.get("/v2/")
async def server() -> Response:
    """Name, version and extensions of the server."""
    return _json(v2_models.server_metadata(VERSION))


@router.get("/v2/health/live")
async def live() -> Response:
    """Whether the process works at all."""
    return _json({"live": True, "ready": True})


@router.get("/v2/health/ready")
async def ready(engine: EngineOf) -> Response:
    """Whether this process should get traffic."""
    reason = engine.unready_reason()
    if reason:
        raise NotReady(reason)
    return _json({"live": True, "ready": True})


@router.get("/v2/models")
async def models(engine: EngineOf) -> Response:
    """The names of the models."""
    return _json({"models": [item.name for item in engine.index()]})


@router.get("/v2/models/stats")
async def statistics_of_all(engine: EngineOf, statistics: StatisticsOf) -> Response:
    """The statistics of every version that serves."""
    return _json(v2_models.all_statistics(v2_models.serving(engine.index()), statistics))


@router.get(_MODEL)
@router.get(_VERSION)
async def model(engine: EngineOf, name: str, version: str | None = None) -> Response:
    """A model's versions, inputs and outputs."""
    metadata = engine.metadata(name, *which_version(version))
    return _json(v2_models.model_metadata(metadata, engine.describe(metadata.name)))


@router.get(_MODEL + "/ready")
@router.get(_VERSION + "/ready")
async def model_ready(engine: EngineOf, name: str, version: str | None = None) -> Response:
    """Whether a model can be asked; any other status than 200 says that it cannot."""
    return _json({"name": engine.metadata(name, *which_version(version)).name, "ready": True})


@router.get(_MODEL + "/config")
@router.get(_VERSION + "/config")
async def config(request: Request, engine: EngineOf, name: str, version: str | None = None) -> Response:
    """A model's configuration, as Triton has it."""
    settings = request.app.state.settings
    metadata = engine.metadata(name, *which_version(version))
    return _json(
        v2_models.model_config(
            metadata, max_batch_size=settings.max_batch_size, max_queue_delay_ms=settings.max_queue_delay_ms
        )
    )


@router.get(_MODEL + "/stats")
@router.get(_VERSION + "/stats")
async def statistics_of_one(
    engine: EngineOf, statistics: StatisticsOf, name: str, version: str | None = None
) -> Response:
    """What a version has done."""
    metadata = engine.metadata(name, *which_version(version))
    return _json(v2_models.all_statistics([(metadata.name, metadata.version)], statistics))


@router.post(_MODEL + "/infer")
@router.post(_VERSION + "/infer")
async def infer_model(
    request: Request, engine: EngineOf, statistics: StatisticsOf, name: str, version: str | None = None
) -> Response:
    """Asks a model."""
    exchange = Exchange.of(request.scope)
    exchange.protocol = _PROTOCOL
    which = which_version(version)
    body = await read_body(request, request.app.state.settings.max_body_bytes)
    exchange.received = time.perf_counter()
    metadata = engine.metadata(name, *which)
    exchange.model, exchange.version = metadata.name, metadata.version
    counted = statistics.of(metadata.name, metadata.version)
    try:
        response = await _infer(request, engine, metadata, which, body, exchange)
    except Exception:
        counted.failed.add(time.perf_counter() - exchange.received)
        raise
    counted.decoded.add(exchange.decode)
    counted.encoded.add(exchange.encode)
    return response


async def _infer(
    request: Request, engine: Engine, metadata: ModelMetadata, which: Which, body: Body, exchange: Exchange
) -> Response:
    if _is_slow(metadata, body):  # so that health checks and small requests are answered meanwhile
        message, inputs = await asyncio.to_thread(_decode, metadata, body)
    else:
        message, inputs = _decode(metadata, body)
    choices = check_outputs(metadata.signature, message)
    timeout = shortest(message.timeout, timeout_seconds(request.headers.get(TIMEOUT_HEADER)))
    exchange.decode = time.perf_counter() - exchange.received
    exchange.rows = len(next(iter(inputs.values()), ()))
    asked = InferenceRequest(inputs, metadata.name, which.version, timeout, which.label)
    with ends_with_caller(request):
        response = await infer(engine, metadata, asked)
    exchange.version = response.version
    began = time.perf_counter()
    outputs = choose_outputs(response, choices)
    head: dict[str, Any] = {"model_name": response.model, "model_version": str(response.version)}
    if message.id is not None:
        head["id"] = message.id
    json, tensors = _encode(head, outputs)
    exchange.encode = time.perf_counter() - began
    return await answer(request, json, tensors)


def _is_slow(metadata: ModelMetadata, body: Body) -> bool:
    """Whether decoding takes a while: numbers in bytes never do, values in JSON and strings may."""
    has_strings = any(spec.dtype == "string" for spec in metadata.signature.inputs)
    return len(body.json) > _LARGE_JSON_BYTES or (has_strings and len(body.tensors) > _LARGE_STRINGS_BYTES)


def _decode(metadata: ModelMetadata, body: Body) -> tuple[InferMessage, Tensors]:
    if body.is_raw:
        tensor = raw_input(metadata, len(body.tensors))
        message = InferMessage(None, [tensor], None, is_binary=True, timeout=None)
    else:
        message = parse_message(read_json(body.json))
    pieces = split_binary(message.inputs, body.tensors)
    return message, decode_inputs(metadata.signature, message.inputs, pieces)


def _encode(head: dict[str, Any], outputs: list[OutputTensor]) -> tuple[bytes, list[bytes | memoryview] | None]:
    """The JSON, and the raw tensors behind it; None where no output is to be raw."""
    described = []
    tensors: list[bytes | memoryview] = []
    for output in outputs:
        content = output.describe()
        if output.is_binary:
            tensors.append(to_bytes(output.dtype, output.values))
            content["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            content["data"] = to_json(output.name, output.dtype, output.values)
        described.append(content)
    json = _dump({**head, "outputs": described})
    return json, tensors if any(output.is_binary for output in outputs) else None


def _json(content: Any) -> Response:
    return Response(_dump(content), media_type="application/json")


def _dump(content: Any) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


async def json_object(request: Request) -> dict[str, Any]:
    """A small body that may be empty, as the object that it must be.

    Raises:
        InvalidRequest: it is something else.
    """
    body = await read_body(request, request.app.state.settings.max_body_bytes)
    content = read_json(body.json) if len(body.json) else {}
    if not isinstance(content, dict):
        raise InvalidRequest(f"The body must be an object. Received: {describe(content)}.")
    return content
