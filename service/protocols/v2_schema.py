"""The Open Inference Protocol in OpenAPI's terms. The bodies are read and written by hand; these describe them."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from service.protocols.schema import TIMEOUT
from service.protocols.tensor_schema import reference
from service.protocols.v2_body import HEADER
from service.protocols.v2_infer_schema import PARAMETERS, Datatype, V2InferResponse


class _Answer(BaseModel):
    model_config = ConfigDict(protected_namespaces=())  # `model_stats` is the protocol's word


class V2Server(_Answer):
    """The server, and which extensions of the protocol it has."""

    name: str
    version: str
    extensions: list[str]


class V2Health(_Answer):
    """A health answer: either key is read by clients, whichever was asked for."""

    live: bool
    ready: bool


class V2Models(_Answer):
    """The names of all models."""

    models: list[str]


class V2Tensor(_Answer):
    """An input or output; -1 is any size, and the first size is the rows."""

    name: str
    datatype: Datatype
    shape: list[int]


class V2Model(_Answer):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[V2Tensor]
    outputs: list[V2Tensor]


class V2ModelReady(_Answer):
    """That a model can be asked."""

    name: str
    ready: bool


class V2ConfiguredTensor(_Answer):
    """An input or output; -1 is any size, and the rows are left out."""

    name: str
    data_type: str
    dims: list[int]


class V2ModelConfig(_Answer):
    """A model's configuration as Triton has it."""

    name: str
    platform: str
    backend: str
    version_policy: dict[str, Any]
    max_batch_size: int
    input: list[V2ConfiguredTensor]
    output: list[V2ConfiguredTensor]
    dynamic_batching: dict[str, int]


class V2Duration(_Answer):
    """How often something happened, and for how many nanoseconds in all."""

    count: int
    ns: int


class V2InferenceStatistics(_Answer):
    """Where the time of a version's requests went."""

    success: V2Duration
    fail: V2Duration
    queue: V2Duration
    compute_input: V2Duration
    compute_infer: V2Duration
    compute_output: V2Duration
    cache_hit: V2Duration
    cache_miss: V2Duration


class V2BatchStatistics(_Answer):
    """The runs of one batch size."""

    batch_size: int
    compute_input: V2Duration
    compute_infer: V2Duration
    compute_output: V2Duration


class V2VersionStatistics(_Answer):
    """What a version has done since the service started."""

    name: str
    version: str
    last_inference: int = Field(description="When the last run ended, in milliseconds since 1970; 0 if there was none.")
    inference_count: int = Field(description="Rows answered.")
    execution_count: int = Field(description="Runs of the model.")
    inference_stats: V2InferenceStatistics
    response_stats: dict[str, Any]
    batch_stats: list[V2BatchStatistics]
    memory_usage: list[Any]


class V2Statistics(_Answer):
    """What versions have done since the service started."""

    model_stats: list[V2VersionStatistics]


class V2Version(_Answer):
    """A version that was asked for; a model of which none was has none."""

    name: str
    version: str | None = None
    state: Literal["LOADING", "READY", "UNAVAILABLE"]
    reason: str = Field(description="Why it is not READY; empty otherwise.")


class V2Error(_Answer):
    """What went wrong, in words."""

    error: str


def _error(description: str) -> dict[str, Any]:
    return {"model": V2Error, "description": description}


_TAGS = ["Open Inference Protocol v2"]
_ANY: dict[int | str, dict[str, Any]] = {"default": _error("Any error.")}
_HEADER = HEADER.title()
_BYTES = "application/octet-stream"
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def _get(answer: type[BaseModel]) -> dict[str, Any]:
    return {"tags": _TAGS, "description": answer.__doc__, "response_model": answer, "responses": _ANY}


def _post(body: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": {"schema": body}}}}


def of_version(route: dict[str, Any]) -> dict[str, Any]:
    """The same route for one version and no other."""
    text = {"type": "string", "description": "A version's number, or its label."}
    version = {"name": "version", "in": "path", "required": True, "schema": text}
    extra = route.get("openapi_extra", {})
    return {**route, "openapi_extra": {**extra, "parameters": [*extra.get("parameters", []), version]}}


SERVER = _get(V2Server)
LIVE = _get(V2Health)
READY = _get(V2Health)
MODELS = _get(V2Models)
MODEL = _get(V2Model)
MODEL_READY = _get(V2ModelReady)
CONFIG = _get(V2ModelConfig)
STATISTICS = _get(V2Statistics)
INFER: dict[str, Any] = {
    "tags": _TAGS,
    "description": "Tensors are in the JSON, or as bytes behind it: then the body is `application/octet-stream`, "
    f"`{_HEADER}` says how many bytes of it are JSON, and each tensor's `binary_data_size` how many are its own.",
    "response_model": V2InferResponse,
    "responses": {
        200: {
            "description": "The outputs; as bytes behind the JSON where the request asks for it.",
            "headers": {
                _HEADER: {"description": "Bytes of JSON, where tensors follow.", "schema": {"type": "integer"}}
            },
            "content": {_BYTES: _BINARY},
        },
        400: _error("The request is not what the model takes; the message says what was expected and what came."),
        404: _error("No such model or version."),
        413: _error("The body is too large, or decompresses to too much."),
        415: _error("The body is compressed by another method than gzip or deflate."),
        422: _error("An output that is to be in the JSON holds Infinity; as bytes it can be had."),
        429: _error("Too many rows wait already; Retry-After says for how many seconds to wait."),
        500: _error("The model or the service failed."),
        501: _error("It asks for shared memory, which is not offered."),
        503: _error("Nothing is loaded yet."),
        504: _error("Not answered within `timeout`, X-Request-Timeout-Ms or the service's own limit."),
        **_ANY,
    },
    "openapi_extra": {
        "parameters": [
            {
                "name": _HEADER,
                "in": "header",
                "description": "Bytes of JSON before the tensors; 0 if the body is the only input's one row.",
                "schema": {"type": "integer", "minimum": 0, "maximum": 10**15 - 1},
            },
            TIMEOUT,
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": reference("V2InferRequest")}, _BYTES: _BINARY},
        },
    },
}
INDEX: dict[str, Any] = {
    "tags": _TAGS,
    "response_model": list[V2Version],
    "responses": _ANY,
    "openapi_extra": _post({"type": "object", "properties": {"ready": {"type": "boolean", "default": False}}}),
}
_DONE: dict[str, Any] = {
    "tags": _TAGS,
    "response_class": Response,
    "responses": {
        200: {"description": "Done."},
        400: _error("The version that should serve cannot; the one before it goes on."),
        404: _error("No such model."),
        **_ANY,
    },
}
LOAD: dict[str, Any] = {
    **_DONE,
    "responses": {**_DONE["responses"], 501: _error("It brings parameters; what is served is what was published.")},
    "openapi_extra": _post({"type": "object", "properties": {"parameters": {"type": "object", "maxProperties": 0}}}),
}
UNLOAD: dict[str, Any] = {
    **_DONE,
    "openapi_extra": _post({"type": "object", "properties": {"parameters": PARAMETERS}}),
}
