"""Our own HTTP protocol: `POST /predict` with JSON rows, and what a client wants to know of the models."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from functools import partial
from time import perf_counter
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from service.errors import NotReady
from service.exchange import Exchange
from service.inference import row_count
from service.metadata import ModelIndex
from service.protocols import schema
from service.protocols.answers import answer_tensors, example
from service.protocols.application import EngineOf
from service.protocols.bodies import kind_of_answer, kind_of_body
from service.protocols.hanging_up import ends_with_caller
from service.protocols.json_rows import LARGE_BODY_BYTES
from service.protocols.predict import JSON, PROTOCOL, TIMEOUT_HEADER, Predictor, Target, timeout_seconds
from service.protocols.request_body import read_body
from service.protocols.tensors import dump

router = APIRouter()


async def predictor_of(request: Request) -> Predictor:
    """The predictor that `create_app` put there."""
    predictor: Predictor = request.app.state.predictor
    return predictor


PredictorOf = Annotated[Predictor, Depends(predictor_of)]
Labels = Annotated[bool, Query(description="Answer each row with its likeliest label and that label's probability.")]


@router.post("/predict", **schema.PREDICT)
async def predict(request: Request, predictor: PredictorOf, labels: Labels = False) -> Response:
    """Asks the default model."""
    return await _predict(request, predictor, None, None, labels=labels)


@router.post("/models/{name}/predict", **schema.PREDICT)
async def predict_model(request: Request, predictor: PredictorOf, name: str, labels: Labels = False) -> Response:
    """Asks a model by name."""
    return await _predict(request, predictor, name, None, labels=labels)


@router.post("/models/{name}/versions/{version}/predict", **schema.PREDICT)
async def predict_version(
    request: Request, predictor: PredictorOf, name: str, version: str, labels: Labels = False
) -> Response:
    """Asks one version of a model, and no other."""
    return await _predict(request, predictor, name, version, labels=labels)


@router.post("/models/{name}/labels/{label}/predict", **schema.PREDICT)
async def predict_label(
    request: Request, predictor: PredictorOf, name: str, label: str, labels: Labels = False
) -> Response:
    """Asks the version that has a label."""
    return await _predict(request, predictor, name, None, label, labels=labels)


@router.get("/models", **schema.MODELS)
async def models(engine: EngineOf) -> Response:
    """The models, with the version that serves and the state of those that were asked for."""
    return _json({"models": [_index(item) for item in engine.index()], "default": engine.default_model()})


@router.get("/models/{name}", **schema.MODEL)
async def model(engine: EngineOf, name: str) -> Response:
    """A model's signature, metrics and versions, and a request that works as it stands, with its answer."""
    index = _index(engine.describe(name))
    if index["version"] is None:
        return _json(index)
    metadata = engine.metadata(name)
    details = {
        "runtime": metadata.runtime,
        "runtimes": [_trial(asdict(trial)) for trial in metadata.runtimes],
        "created_at": metadata.created_at,
        "metrics": metadata.metrics,
        "signature": metadata.signature.model_dump(mode="json"),
        "example": example(metadata),
    }
    return _json(index | details)


@router.get("/health/live", **schema.LIVE)
async def live() -> Response:
    """Whether the process works at all."""
    return _json({"status": "alive"})


@router.get("/health/ready", **schema.READY)
async def ready(engine: EngineOf) -> Response:
    """Whether this process should get traffic."""
    reason = engine.unready_reason()
    if reason:
        raise NotReady(reason)
    return _json({"status": "ready"})


async def _predict(
    request: Request,
    predictor: Predictor,
    name: str | None,
    version: str | None,
    label: str | None = None,
    *,
    labels: bool,
) -> Response:
    exchange = Exchange.of(request.scope)
    exchange.protocol = PROTOCOL
    kind = kind_of_body(request.headers.get("content-type", JSON))
    answer_kind = kind_of_answer(request.headers.get("accept", JSON))
    limit = request.app.state.settings.max_body_bytes
    body = await read_body(request, limit, may_be_compressed=False)
    exchange.received = perf_counter()
    timeout = timeout_seconds(request.headers.get(TIMEOUT_HEADER))
    target = Target(name, version, label)
    plan = predictor.plan(target)
    exchange.model, exchange.version = plan.name, plan.version
    plan.check_answer(answer_kind, labels=labels)
    decode = partial(plan.decode_kind, kind, limit) if kind else plan.decode
    is_quick = len(body) <= LARGE_BODY_BYTES if kind else plan.is_quick(body)
    inputs = decode(body) if is_quick else await asyncio.to_thread(decode, body)
    exchange.decode = perf_counter() - exchange.received
    exchange.rows = row_count(inputs)
    with ends_with_caller(request):
        response = await plan.infer(inputs, target, timeout)
    exchange.version = response.version
    encoder = plan.encoder_for(response)
    began = perf_counter()
    if answer_kind:
        answer = answer_kind.encode(answer_tensors(response, labels=labels))
    else:
        answer = encoder.encode(response.outputs, labels=labels)
    exchange.encode = perf_counter() - began
    return Response(answer, headers=encoder.headers, media_type=answer_kind.media_type if answer_kind else JSON)


def _index(item: ModelIndex) -> dict[str, Any]:
    versions = [
        {"version": version, "state": status.state, "reason": status.reason}
        for version, status in item.statuses.items()
    ]
    about = {"name": item.name, "version": item.version, "labels": item.labels, "problem": item.problem}
    return about | {"versions": versions}


def _trial(trial: dict[str, Any]) -> dict[str, Any]:
    """What was found of a runtime, with keys as JSON has them."""
    times = trial["microseconds"]
    return trial | {"microseconds": times and {str(rows): time for rows, time in times.items()}}


def _json(content: Any) -> Response:
    return Response(dump(content), media_type=JSON)
