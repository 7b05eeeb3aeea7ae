"""TensorFlow Serving's API in OpenAPI's terms. The bodies are read and written by hand; these classes describe them."""

from __future__ import annotations

from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from models.manifest import Signature, TensorSpec
from service.metadata import ModelMetadata
from service.protocols.answers import example_request
from service.protocols.tensor_schema import (
    Bodies,
    Examples,
    Schema,
    describe,
    leaf,
    nested,
    one_of,
    record,
    reference,
    rows,
    value,
)
from service.protocols.tfs_decode import SIGNATURE_NAME
from service.protocols.tfs_encode import BYTES_SUFFIX, encode_predict


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class TfsPredictRequest(BaseModel):
    """Rows by row in `instances` or by column in `inputs`: one of the two."""

    signature_name: Literal["", "serving_default"] = ""
    instances: list[Any] | None = Field(None, min_length=1, description="A value, or an object of all inputs, a row.")
    inputs: Any = Field(None, description="All rows of the one input, or an object of them for each input.")


class TfsPredictResponse(BaseModel):
    """`predictions` answers `instances`, `outputs` answers `inputs`. NaN and Infinity are written as such tokens."""

    predictions: list[Any] | None = None
    outputs: Any = None


class TfsExamplesRequest(BaseModel):
    """Examples as flat features."""

    signature_name: Literal["", "serving_default"] = ""
    context: dict[str, Any] = Field(default={}, description="Features of all examples, which each may replace.")
    examples: list[dict[str, Any]] = Field(min_length=1, description="A value or a flat list for each input.")


class TfsResults(BaseModel):
    """One result an example: `[[label, score], ...]` of classify, a number of regress."""

    results: list[Any]


class TfsStatus(_Open):
    """The state of a model's versions as TensorFlow Serving has it, and its readiness as KServe has it."""

    model_version_status: list[dict[str, Any]]
    name: str
    ready: bool


class TfsMetadata(_Open):
    """The signature of a version."""

    model_spec: dict[str, Any]
    metadata: dict[str, Any]


class TfsError(BaseModel):
    """What went wrong, in TensorFlow Serving's words where it has any."""

    error: str


class KServeModels(BaseModel):
    """The names of all models."""

    models: list[str]


class KServeAlive(BaseModel):
    """That the process works."""

    status: Literal["alive"]


_BASE64 = record({"b64": {"type": "string", "contentEncoding": "base64"}})
_TAGS = ["TensorFlow Serving and KServe v1"]
_ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": TfsError, "description": "Any error."}}
_INFER_ERRORS = {
    501: {"model": TfsError, "description": "An input is of half precision, which TensorFlow Serving's JSON lacks."},
    **_ERRORS,
}
_WHERE = {"": [], "/versions/{version}": ["version"], "/labels/{label}": ["label"]}


def _parameters(names: list[str]) -> list[dict[str, Any]]:
    schemas = {"version": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}}
    return [
        {"name": name, "in": "path", "required": True, "schema": schemas.get(name, {"type": "string"})}
        for name in names
    ]


def _post(path: str, names: list[str], summary: str, request: type[BaseModel], response: type[BaseModel]) -> Any:
    body = {"required": True, "content": {"application/json": {"schema": reference(request.__name__)}}}
    return path, {
        "methods": ["POST"],
        "tags": _TAGS,
        "summary": summary,
        "description": request.__doc__,
        "response_model": response,
        "responses": _INFER_ERRORS,
        "openapi_extra": {"parameters": _parameters(names), "requestBody": body},
    }


def _get(path: str, names: list[str], summary: str, response: type[BaseModel]) -> Any:
    return path, {
        "methods": ["GET"],
        "tags": _TAGS,
        "summary": summary,
        "description": response.__doc__,
        "response_model": response,
        "responses": _ERRORS,
        "openapi_extra": {"parameters": _parameters(names)},
    }


def _routes() -> list[tuple[str, dict[str, Any]]]:
    found = [_get("/v1/models", [], "Models", KServeModels)]
    for where, which in _WHERE.items():
        model, names = f"/v1/models/{{name}}{where}", ["name", *which]
        found += [
            _post(f"{model}:predict", names, "Predict", TfsPredictRequest, TfsPredictResponse),
            _post(f"{model}:classify", names, "Classify", TfsExamplesRequest, TfsResults),
            _post(f"{model}:regress", names, "Regress", TfsExamplesRequest, TfsResults),
            _get(model, names, "Status", TfsStatus),
            _get(f"{model}/metadata", names, "Signature", TfsMetadata),
        ]
    return found


ROUTES = _routes()
REQUESTS = {request.__name__: request.model_json_schema() for request in (TfsPredictRequest, TfsExamplesRequest)}
"""Schemas of requests by their names in the document; FastAPI adds those of answers by itself."""
ALIVE: dict[str, Any] = {
    "methods": ["GET"],
    "tags": _TAGS,
    "summary": "Alive",
    "response_model": KServeAlive,
    "responses": {307: {"description": "To the documentation, for browsers."}},
}


def bodies(signature: Signature) -> Bodies | None:
    """What `:predict` takes and gives of one model; None where it takes nothing, as TensorFlow Serving does not."""
    if not takes(signature):
        return None
    request: dict[str, Schema] = {
        "signature_name": {"type": "string", "enum": ["", SIGNATURE_NAME]},
        "instances": _instances(signature),
        "inputs": _inputs(signature),
    }
    response = {"predictions": _predictions(signature), "outputs": _outputs(signature)}
    # A choice between two objects would say more, but generators of clients make two classes of it, or fail.
    return Bodies(
        {**record(request, optional=request), "description": TfsPredictRequest.__doc__},
        {**record(response, optional=response), "maxProperties": 1, "description": TfsPredictResponse.__doc__},
    )


def takes(signature: Signature) -> bool:
    """Whether TensorFlow Serving's JSON has all of a model's inputs: it has none of half precision."""
    return all(spec.dtype != "float16" for spec in signature.inputs)


def examples(metadata: ModelMetadata) -> Examples:
    """The first golden row, by row, with its answer."""
    outputs = {name: values[:1] for name, values in metadata.golden.outputs.items()}
    answer = orjson.loads(encode_predict(outputs, metadata.signature, "row"))
    return Examples(example_request(metadata), answer)


def _instances(signature: Signature) -> Schema:
    inputs = {spec.name: value(spec, taken(spec)) for spec in signature.inputs}
    named = rows(record(inputs))
    return named if len(inputs) > 1 else one_of([*map(rows, inputs.values()), named])


def _inputs(signature: Signature) -> Schema:
    inputs = {spec.name: _column(spec, taken(spec)) for spec in signature.inputs}
    return record(inputs) if len(inputs) > 1 else one_of([*inputs.values(), record(inputs)])


def _predictions(signature: Signature) -> Schema:
    outputs = {spec.name: value(spec, _given(spec)) for spec in signature.outputs}
    return rows(record(outputs) if len(outputs) > 1 else outputs.popitem()[1])


def _outputs(signature: Signature) -> Schema:
    outputs = {spec.name: _column(spec, _given(spec)) for spec in signature.outputs}
    return record(outputs) if len(outputs) > 1 else outputs.popitem()[1]


def _column(spec: TensorSpec, item: Schema) -> Schema:
    """All rows of a tensor."""
    return {**rows(nested(item, spec.shape[1:])), "description": describe(spec)}


def taken(spec: TensorSpec) -> Schema:
    """One value of an input."""
    return one_of([leaf(spec), _BASE64]) if spec.dtype == "string" else leaf(spec)


def _given(spec: TensorSpec) -> Schema:
    """One value of an output."""
    is_base64 = spec.dtype == "string" and spec.name.endswith(BYTES_SUFFIX)
    return _BASE64 if is_base64 else leaf(spec)
