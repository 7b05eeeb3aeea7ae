"""Our own HTTP protocol: `POST /predict` with JSON rows, and what a client wants to know of the models."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from models.manifest import Signature, Tensors, TensorSpec
from service.engine import Engine, ModelIndex, ModelMetadata
from service.errors import InvalidRequest, NotFound, NotReady, ServiceError
from service.inference import InferenceRequest, InferenceResponse
from service.protocols import schema
from service.protocols.bodies import kind_of_answer, kind_of_body
from service.protocols.hanging_up import ends_with_caller
from service.protocols.request_body import read_body
from service.protocols.tensors import decode, describe, encode

_LONGEST_EXAMPLE = 1000
_LARGE_BODY_BYTES = 256 * 2**10
_JSON = "application/json"
_TIMEOUT_HEADER = "X-Request-Timeout-Ms"
_LONGEST_TIMEOUT_MS = 10**9

router = APIRouter()


def engine_of(request: Request) -> Engine:
    """The engine that `create_app` put there."""
    engine: Engine = request.app.state.engine
    return engine


EngineOf = Annotated[Engine, Depends(engine_of)]
Labels = Annotated[bool, Query(description="Answer each row with its likeliest label and that label's probability.")]


@router.post("/predict", **schema.PREDICT)
async def predict(request: Request, engine: EngineOf, labels: Labels = False) -> Response:
    """Asks the default model."""
    return await _predict(request, engine, None, None, labels=labels)


@router.post("/models/{name}/predict", **schema.PREDICT)
async def predict_model(request: Request, engine: EngineOf, name: str, labels: Labels = False) -> Response:
    """Asks a model by name."""
    return await _predict(request, engine, name, None, labels=labels)


@router.post("/models/{name}/versions/{version}/predict", **schema.PREDICT)
async def predict_version(
    request: Request, engine: EngineOf, name: str, version: str, labels: Labels = False
) -> Response:
    """Asks one version of a model, and no other."""
    return await _predict(request, engine, name, version, labels=labels)


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


def example(metadata: ModelMetadata) -> dict[str, Any]:
    """A request that works as it stands, the first golden row, with the answer that the trained model gave."""
    return {"request": _example_request(metadata), "response": orjson.loads(_dump(_example_response(metadata)))}


def _example_request(metadata: ModelMetadata) -> Any:
    specs = metadata.signature.inputs
    columns = [encode(spec, metadata.golden.inputs[spec.name][:1]) for spec in specs]
    return orjson.loads(_dump({"instances": _join(columns, specs)}))


def _example_response(metadata: ModelMetadata) -> dict[str, Any]:
    outputs = {name: values[:1] for name, values in metadata.golden.outputs.items()}
    response = InferenceResponse(outputs, metadata.signature, metadata.name, metadata.version, metadata.runtime)
    return _answer(response, labels=False)


async def _predict(
    request: Request, engine: Engine, name: str | None, version: str | None, *, labels: bool
) -> Response:
    kind = kind_of_body(request.headers.get("content-type", _JSON))
    answer_kind = kind_of_answer(request.headers.get("accept", _JSON))
    limit = request.app.state.settings.max_body_bytes
    body = await read_body(request, limit, may_be_compressed=False)
    timeout = timeout_seconds(request.headers.get(_TIMEOUT_HEADER))
    metadata = engine.metadata(name, _version_number(engine, name, version))
    signature = metadata.signature
    if labels:
        _check_labels(metadata.name, signature)
    elif answer_kind:
        answer_kind.check(signature.outputs)
    if kind:
        kind.check(signature.inputs)
    decode_body = partial(kind.decode, body, signature, limit) if kind else partial(_decode, body, signature)
    try:
        if len(body) > _LARGE_BODY_BYTES:  # so that health checks and small requests are answered meanwhile
            inputs = await asyncio.to_thread(decode_body)
        else:
            inputs = decode_body()
        inference = InferenceRequest(inputs, metadata.name, metadata.version if version else None, timeout)
        with ends_with_caller(request):
            response = await engine.infer(inference)
    except InvalidRequest as error:
        raise InvalidRequest(f"{error} {_hint(metadata)}") from error
    headers = {
        "x-model-name": response.model,
        "x-model-version": str(response.version),
        "x-runtime": response.runtime,
    }
    if answer_kind:
        content = answer_kind.encode(_answer_tensors(response, labels=labels))
        return Response(content, headers=headers, media_type=answer_kind.media_type)
    return _json(_answer(response, labels=labels), headers)


def timeout_seconds(header: str | None) -> float | None:
    """What the header `X-Request-Timeout-Ms` asks for; None where it is not there.

    Raises:
        InvalidRequest: it is no number that it may be.
    """
    if header is None:
        return None
    if header.isascii() and header.isdecimal() and len(header) < 11 and 1 <= int(header) <= _LONGEST_TIMEOUT_MS:
        return int(header) / 1e3
    raise InvalidRequest(
        f"`{_TIMEOUT_HEADER}` must be a whole number of milliseconds from 1 to {_LONGEST_TIMEOUT_MS}. "
        f"Received: {describe(header)}."
    )


def _version_number(engine: Engine, name: str | None, version: str | None) -> int | None:
    if version is None:
        return None
    if version.isdecimal() and len(version) < 10 and int(version) > 0:
        return int(version)
    raise NotFound(f"A version is a number. Received: {version}. Served: {engine.metadata(name).version}.")


def _decode(body: bytes, signature: Signature) -> Tensors:
    instances = _instances(body)
    columns = _columns(instances, [spec.name for spec in signature.inputs])
    return {spec.name: decode(spec, columns[spec.name]) for spec in signature.inputs}


def _instances(body: bytes) -> list[Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        is_not_finite = error.doc[error.pos :].lstrip("-").startswith(("NaN", "Infinity"))
        reason = "NaN and Infinity are not JSON numbers" if is_not_finite else str(error)
        raise InvalidRequest(f"The body is not JSON: {reason}.") from error
    if not isinstance(document, dict) or document.keys() != {"instances"}:
        raise InvalidRequest(f"The body must be an object with the one key `instances`. Received: {_found(document)}.")
    instances = document["instances"]
    if not isinstance(instances, list) or not instances:
        raise InvalidRequest(f"`instances` must be a list of at least one row. Received: {describe(instances)}.")
    return instances


def _columns(instances: list[Any], names: list[str]) -> dict[str, list[Any]]:
    """The rows of each input. A row is an object of all inputs; with a single input its value alone will do."""
    if len(names) == 1 and not isinstance(instances[0], dict):
        return {names[0]: instances}
    wanted = set(names)
    for row, instance in enumerate(instances):
        if not isinstance(instance, dict) or instance.keys() != wanted:
            raise InvalidRequest(
                f"Each row must be an object with the keys {', '.join(names)}. Row {row} is {_found(instance)}."
            )
    return {name: [instance[name] for instance in instances] for name in names}


def _found(value: Any) -> str:
    """What came instead of an object with the right keys; cut, so that an answer stays short."""
    if not isinstance(value, dict) or not value:
        return "an empty object" if value == {} else describe(value)
    keys = ", ".join(sorted(value))
    return f"an object with the keys {keys if len(keys) <= _LONGEST_EXAMPLE else keys[:_LONGEST_EXAMPLE] + '…'}"


def _answer(response: InferenceResponse, *, labels: bool) -> dict[str, Any]:
    for name, values in response.outputs.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ServiceError(f"The model answered with NaN or Infinity in `{name}`, which JSON cannot carry.")
    rows = _labelled(response) if labels else _rows(response.outputs, response.signature.outputs)
    return {"predictions": rows, "model": response.model, "version": response.version}


def _labelled(response: InferenceResponse) -> list[dict[str, Any]]:
    labels = _check_labels(response.model, response.signature)
    probabilities = response.outputs[response.signature.outputs[0].name]
    best = probabilities.argmax(axis=1)
    return [{"label": labels[index], "probability": row[index]} for index, row in zip(best, probabilities, strict=True)]


def _answer_tensors(response: InferenceResponse, *, labels: bool) -> Tensors:
    """What an answer other than JSON holds: the outputs in the signature's order, or label and probability."""
    signature, outputs = response.signature, response.outputs
    if not labels:
        return {spec.name: outputs[spec.name] for spec in signature.outputs}
    names = np.array(_check_labels(response.model, signature))
    probabilities = outputs[signature.outputs[0].name]
    return {"label": names[probabilities.argmax(axis=1)], "probability": probabilities.max(axis=1)}


def _check_labels(name: str, signature: Signature) -> tuple[str, ...]:
    labels = signature.labels
    if labels is None or [spec.shape for spec in signature.outputs] != [(None, len(labels))]:
        raise InvalidRequest(f"`{name}` is no classifier with labels. Ask without ?labels=true.")
    return labels


def _rows(tensors: Tensors, specs: tuple[TensorSpec, ...]) -> list[Any]:
    return _join([_column(tensors[spec.name], spec) for spec in specs], specs)


def _join(columns: list[Any], specs: tuple[TensorSpec, ...]) -> list[Any]:
    """From a column for each tensor to a value, or an object of all of them, for each row."""
    if len(columns) == 1:
        return list(columns[0])
    names = [spec.name for spec in specs]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _column(values: np.ndarray, spec: TensorSpec) -> Any:
    """One value a row, as orjson takes it: no strings of NumPy, and no memory order but C's."""
    return values.tolist() if spec.dtype == "string" else np.ascontiguousarray(values)


def _hint(metadata: ModelMetadata) -> str:
    request = _dump(_example_request(metadata)).decode()
    if len(request) <= _LONGEST_EXAMPLE:
        return f"A request that works: {request}"
    return f"GET /models/{metadata.name} shows a request that works."


def _index(item: ModelIndex) -> dict[str, Any]:
    versions = [
        {"version": version, "state": status.state, "reason": status.reason}
        for version, status in item.statuses.items()
    ]
    return {"name": item.name, "version": item.version, "problem": item.problem, "versions": versions}


def _trial(trial: dict[str, Any]) -> dict[str, Any]:
    """What was found of a runtime, with keys as JSON has them."""
    times = trial["microseconds"]
    return trial | {"microseconds": times and {str(rows): time for rows, time in times.items()}}


def _json(content: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(_dump(content), headers=headers, media_type=_JSON)


def _dump(content: Any) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
