"""The Open Inference Protocol, version 2, over REST, with Triton's extensions but for memory shared with the client."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from models.manifest import Tensors
from service.engine import Engine
from service.errors import InvalidRequest, NotReady
from service.exchange import Exchange
from service.inference import InferenceRequest, row_count
from service.metadata import ModelMetadata
from service.protocols import v2_models, v2_schema
from service.protocols.application import EngineOf
from service.protocols.hanging_up import ends_with_caller
from service.protocols.predict import TIMEOUT_HEADER, timeout_seconds
from service.protocols.tensors import describe, dump
from service.protocols.v2_body import Body, answer, read_body
from service.protocols.v2_infer import (
    Which,
    check_outputs,
    choose_outputs,
    decode_inputs,
    encode_outputs,
    infer,
    raw_input,
    shortest,
    split_binary,
    which_version,
)
from service.protocols.v2_request import InferMessage, parse_message, read_json
from service.statistics import Statistics
from service.version import VERSION

_LARGE_JSON_BYTES = 256 * 2**10
_LARGE_STRINGS_BYTES = 256 * 2**10
_PROTOCOL = "v2"
_MODEL = "/v2/models/{name}"
_VERSION = _MODEL + "/versions/{version}"

router = APIRouter()


async def statistics_of(request: Request) -> Statistics:
    """The statistics that `create_app` put there."""
    statistics: Statistics = request.app.state.statistics
    return statistics


async def version_of(request: Request) -> str | None:
    """The version in the path, where it has one."""
    version: str | None = request.path_params.get("version")
    return version


StatisticsOf = Annotated[Statistics, Depends(statistics_of)]
VersionOf = Annotated[str | None, Depends(version_of)]


@router.get("/v2", **v2_schema.SERVER)
@router.get("/v2/", include_in_schema=False)
async def server() -> Response:
    """Name, version and extensions of the server."""
    return _json(v2_models.server_metadata(VERSION))


@router.get("/v2/health/live", **v2_schema.LIVE)
async def live() -> Response:
    """Whether the process works at all."""
    return _json({"live": True, "ready": True})


@router.get("/v2/health/ready", **v2_schema.READY)
async def ready(engine: EngineOf) -> Response:
    """Whether this process should get traffic."""
    reason = engine.unready_reason()
    if reason:
        raise NotReady(reason)
    return _json({"live": True, "ready": True})


@router.get("/v2/models", **v2_schema.MODELS)
async def models(engine: EngineOf) -> Response:
    """The names of the models."""
    return _json({"models": [item.name for item in engine.index()]})


@router.get("/v2/models/stats", **v2_schema.STATISTICS)
async def statistics_of_all(engine: EngineOf, statistics: StatisticsOf) -> Response:
    """The statistics of every version that serves."""
    return _json(v2_models.all_statistics(v2_models.serving(engine.index()), statistics))


@router.get(_VERSION, **v2_schema.of_version(v2_schema.MODEL))
@router.get(_MODEL, **v2_schema.MODEL)
async def model(engine: EngineOf, name: str, version: VersionOf) -> Response:
    """A model's versions, inputs and outputs."""
    metadata = engine.metadata(name, *which_version(version))
    return _json(v2_models.model_metadata(metadata, engine.describe(metadata.name)))


@router.get(_VERSION + "/ready", **v2_schema.of_version(v2_schema.MODEL_READY))
@router.get(_MODEL + "/ready", **v2_schema.MODEL_READY)
async def model_ready(engine: EngineOf, name: str, version: VersionOf) -> Response:
    """Whether a model can be asked; any other status than 200 says that it cannot."""
    return _json({"name": engine.metadata(name, *which_version(version)).name, "ready": True})


@router.get(_VERSION + "/config", **v2_schema.of_version(v2_schema.CONFIG))
@router.get(_MODEL + "/config", **v2_schema.CONFIG)
async def config(request: Request, engine: EngineOf, name: str, version: VersionOf) -> Response:
    """A model's configuration, as Triton has it."""
    settings = request.app.state.settings
    metadata = engine.metadata(name, *which_version(version))
    return _json(
        v2_models.model_config(
            metadata, max_batch_size=settings.max_batch_size, max_queue_delay_ms=settings.max_queue_delay_ms
        )
    )


@router.get(_VERSION + "/stats", **v2_schema.of_version(v2_schema.STATISTICS))
@router.get(_MODEL + "/stats", **v2_schema.STATISTICS)
async def statistics_of_one(engine: EngineOf, statistics: StatisticsOf, name: str, version: VersionOf) -> Response:
    """What a version has done."""
    metadata = engine.metadata(name, *which_version(version))
    return _json(v2_models.all_statistics([(metadata.name, metadata.version)], statistics))


@router.post(_VERSION + "/infer", **v2_schema.of_version(v2_schema.INFER))
@router.post(_MODEL + "/infer", **v2_schema.INFER)
async def infer_model(
    request: Request, engine: EngineOf, statistics: StatisticsOf, name: str, version: VersionOf
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
    exchange.rows = row_count(inputs)
    asked = InferenceRequest(inputs, metadata.name, which.version, timeout, which.label)
    with ends_with_caller(request):
        response = await infer(engine, metadata, asked)
    exchange.version = response.version
    began = time.perf_counter()
    outputs = choose_outputs(response, choices)
    head: dict[str, Any] = {"model_name": response.model, "model_version": str(response.version)}
    if message.id is not None:
        head["id"] = message.id
    json, tensors = encode_outputs(head, outputs)
    exchange.encode = time.perf_counter() - began
    return await answer(request, json, tensors)


def _is_slow(metadata: ModelMetadata, body: Body) -> bool:
    """Whether decoding takes a while: numbers in bytes never do, values in JSON and strings may."""
    has_strings = any(spec.dtype == "string" for spec in metadata.signature.inputs)
    return len(body.json) > _LARGE_JSON_BYTES or (has_strings and len(body.tensors) > _LARGE_STRINGS_BYTES)


def _decode(metadata: ModelMetadata, body: Body) -> tuple[InferMessage, Tensors]:
    if body.is_raw:
        tensor = raw_input(metadata, body.tensors)
        message = InferMessage(None, [tensor], None, is_binary=True, timeout=None)
        return message, decode_inputs(metadata.signature, [tensor], [body.tensors])
    message = parse_message(read_json(body.json))
    pieces = split_binary(message.inputs, body.tensors)
    return message, decode_inputs(metadata.signature, message.inputs, pieces)


def _json(content: Any) -> Response:
    return Response(dump(content), media_type="application/json")


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
