"""TensorFlow Serving's API in OpenAPI's terms. The bodies are read and written by hand; these classes describe them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


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


_TAGS = ["TensorFlow Serving and KServe v1"]
_ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": TfsError, "description": "Any error."}}
_WHERE = {"": [], "/versions/{version}": ["version"], "/labels/{label}": ["label"]}


def _parameters(names: list[str]) -> list[dict[str, Any]]:
    schemas = {"version": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}}
    return [
        {"name": name, "in": "path", "required": True, "schema": schemas.get(name, {"type": "string"})}
        for name in names
    ]


def _post(path: str, names: list[str], summary: str, request: type[BaseModel], response: type[BaseModel]) -> Any:
    body = {"required": True, "content": {"application/json": {"schema": request.model_json_schema()}}}
    return path, {
        "methods": ["POST"],
        "tags": _TAGS,
        "summary": summary,
        "description": request.__doc__,
        "response_model": response,
        "responses": _ERRORS,
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
ALIVE: dict[str, Any] = {
    "methods": ["GET"],
    "tags": _TAGS,
    "summary": "Alive",
    "response_model": KServeAlive,
    "responses": {307: {"description": "To the documentation, for browsers."}},
}
