"""The native protocol in OpenAPI's terms. The bodies are read and written by hand; these classes describe them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from models.manifest import Signature
from service.metadata import ModelMetadata
from service.protocols.answers import example, has_labels
from service.protocols.bodies import KINDS
from service.protocols.tensor_schema import Bodies, Examples, Schema, one_of, record, reference, rows, value


class PredictRequest(BaseModel):
    """Rows to predict."""

    instances: list[Any] = Field(
        min_length=1,
        description="One row a list entry: the input's value, or an object with a value for each named input.",
    )


class PredictResponse(BaseModel):
    """One prediction a row, in the rows' order."""

    predictions: list[Any] = Field(
        description="The output's value, or an object with a value for each named output. A classifier's value is "
        "the list of class probabilities, or with ?labels=true an object with `label` and `probability`."
    )
    model: str
    version: int


class ErrorResponse(BaseModel):
    """What went wrong, in words."""

    error: str


class VersionState(BaseModel):
    """A version that was asked for."""

    version: int
    state: Literal["LOADING", "READY", "UNAVAILABLE"]
    reason: str = Field(description="Why it is UNAVAILABLE; empty otherwise.")


class ModelSummary(BaseModel):
    """A model, served or not."""

    name: str
    version: int | None = Field(description="The version that serves; null where none does.")
    problem: str = Field(description="Why the desired version does not serve; empty where all is well.")
    versions: list[VersionState]
    labels: dict[str, int] = Field(description="The version that answers under each label.")


class ModelList(BaseModel):
    """All models."""

    models: list[ModelSummary]
    default: str | None = Field(description="The model that POST /predict asks.")


class Example(BaseModel):
    """A request that works as it stands, with the answer that the trained model gave."""

    request: PredictRequest
    response: PredictResponse


class RuntimeTrial(BaseModel):
    """What was found of a runtime when the version was loaded."""

    runtime: str
    is_chosen: bool
    agrees: bool | None = Field(description="Whether it answers the golden rows as the reference did; null: not tried.")
    max_abs_error: float | None = Field(description="Largest error in a golden answer.")
    microseconds: dict[int, float] | None = Field(description="Median time of a call, by the rows in it.")
    threads: int | None = Field(description="Given to the inside of a call.")
    reason: str = Field(description="Why it is not chosen; empty for the one that is.")


class ModelDetails(ModelSummary):
    """A model. What describes the version that serves is left out where none does."""

    runtime: str | None = None
    runtimes: list[RuntimeTrial] | None = None
    created_at: str | None = None
    metrics: dict[str, float] | None = None
    signature: Signature | None = None
    example: Example | None = None


class Status(BaseModel):
    """A health answer."""

    status: Literal["alive", "ready"]


def _error(description: str) -> dict[str, Any]:
    return {"model": ErrorResponse, "description": description}


_LABELS_SHOWN = 20

# Keeps FastAPI from documenting a 422 in a form of its own; a parameter that is not of its type is a 400 here.
_ANY_OTHER = {"default": _error("Any other error, in the same form.")}

REQUESTS = {"PredictRequest": PredictRequest.model_json_schema()}
"""Schemas of requests by their names in the document; FastAPI adds those of answers by itself."""

# What the same path takes and gives by media type.
_OTHER_BODIES: dict[str, Any] = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in KINDS}

TIMEOUT = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "description": "Milliseconds in which to answer, else 504; at most the service's own limit.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 10**9},
}
PREDICT: dict[str, Any] = {
    "tags": ["predict"],
    "response_model": PredictResponse,
    "responses": {
        200: {"description": "The predictions, in the form that Accept names, else in JSON.", "content": _OTHER_BODIES},
        400: _error("The body is not what the model takes; the message says what was expected and what came."),
        404: _error("No such model or version; the message lists those that exist."),
        413: _error("The body is too large."),
        415: _error("The body is of a type that nothing here reads."),
        422: _error("The model answers with NaN or Infinity; other forms than JSON carry them."),
        429: _error("Too many rows wait already; Retry-After says for how many seconds to wait."),
        500: _error("The model or the service failed."),
        503: _error("Nothing is loaded yet."),
        504: _error("Not answered within X-Request-Timeout-Ms or the service's own limit."),
        **_ANY_OTHER,
    },
    "openapi_extra": {
        "parameters": [TIMEOUT],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": reference("PredictRequest")}, **_OTHER_BODIES},
        },
    },
}
MODELS: dict[str, Any] = {"tags": ["models"], "response_model": ModelList}
MODEL: dict[str, Any] = {
    "tags": ["models"],
    "response_model": ModelDetails,
    "responses": {404: _error("No such model; the message lists those that exist."), **_ANY_OTHER},
}
LIVE: dict[str, Any] = {"tags": ["health"], "response_model": Status}
READY: dict[str, Any] = {
    "tags": ["health"],
    "response_model": Status,
    "responses": {503: _error("Not ready; the message says why.")},
}


def bodies(signature: Signature) -> Bodies:
    """What a prediction takes and gives of one model, as JSON."""
    inputs = {spec.name: value(spec) for spec in signature.inputs}
    outputs = {spec.name: value(spec) for spec in signature.outputs}
    instances = [rows(record(inputs))]
    if len(inputs) == 1:
        instances = [*map(rows, inputs.values()), *instances]
    predictions = [rows(record(outputs) if len(outputs) > 1 else outputs.popitem()[1])]
    if has_labels(signature):
        predictions.append(rows(_labelled(signature)))
    answer = {"predictions": one_of(predictions), "model": {"type": "string"}, "version": {"type": "integer"}}
    return Bodies(record({"instances": one_of(instances)}), record(answer))


def examples(metadata: ModelMetadata) -> Examples:
    """The first golden row with its answer."""
    return Examples(**example(metadata))


def _labelled(signature: Signature) -> Schema:
    """A row's answer to `?labels=true`."""
    labels = signature.labels or ()
    more = ", …" if len(labels) > _LABELS_SHOWN else ""
    # No enum: generators of clients make names of its values, and fail where `A` and `a` are two labels.
    label = {"type": "string", "description": f"One of {', '.join(labels[:_LABELS_SHOWN])}{more}"}
    return record({"label": label, "probability": {"type": "number"}})
