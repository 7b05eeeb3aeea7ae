"""Inference of the Open Inference Protocol in OpenAPI's terms, of any model and of one by its signature."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from models.manifest import Signature, Tensors, TensorSpec, null_of
from service.metadata import ModelMetadata
from service.protocols.datatypes import BFLOAT16, OF_DTYPE, OF_V2
from service.protocols.tensor_schema import Bodies, Examples, Schema, describe, nested, number_or_text, one_of, record
from service.protocols.v2_infer import has_classes
from service.protocols.v2_request import LARGEST_SIZE, MAX_NDIM

Datatype = Annotated[str, Field(json_schema_extra={"enum": list(OF_V2)})]


class V2OutputTensor(BaseModel):
    """An output. Its values are flat by rows, or behind the JSON where `parameters` says how many bytes they are."""

    name: str
    datatype: Datatype
    shape: list[int]
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class V2InferResponse(BaseModel):
    """The answer of a version."""

    model_config = ConfigDict(protected_namespaces=())  # `model_name` is the protocol's word

    model_name: str
    model_version: str
    id: str | None = Field(None, description="That of the request.")
    outputs: list[V2OutputTensor]


_SIZES = {"type": "array", "maxItems": MAX_NDIM, "items": {"type": "integer", "minimum": 0, "maximum": LARGEST_SIZE}}
PARAMETERS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_REQUEST_PARAMETERS = {
    **PARAMETERS,
    "properties": {
        "binary_data_output": {"type": "boolean", "description": "Answer with all outputs as bytes."},
        "timeout": {"type": "integer", "minimum": 0, "description": "Microseconds in which to answer; 0 is no limit."},
    },
}
_OUTPUT_PARAMETERS = {
    **PARAMETERS,
    "properties": {
        "binary_data": {"type": "boolean", "description": "Answer with it as bytes."},
        "classification": {"type": "integer", "minimum": 0, "description": "Only the so many largest values of a row."},
    },
}
_TEXT = {"type": "string", "minLength": 1}
_INPUT = {
    "type": "object",
    "required": ["name", "datatype", "shape", "data"],
    "properties": {
        "name": _TEXT,
        "datatype": {"type": "string", "enum": [*OF_V2, BFLOAT16]},
        "shape": {**_SIZES, "description": "The first size is the rows."},
        "data": {"type": "array", "items": {}, "description": "Flat by rows, or nested as `shape` says."},
        "parameters": PARAMETERS,
    },
}
_REQUEST = {
    "description": "Inputs with their values, and what is wanted of the outputs.",
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": _REQUEST_PARAMETERS,
        "inputs": {"type": "array", "items": _INPUT},
        "outputs": {
            "type": "array",
            "description": "The outputs that are wanted; all without it.",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": _TEXT, "parameters": _OUTPUT_PARAMETERS},
            },
        },
    },
}

REQUESTS: dict[str, Schema] = {"V2InferRequest": _REQUEST}
"""Schemas of requests by their names in the document; FastAPI adds those of answers by itself."""


def bodies(signature: Signature) -> Bodies:
    """What an inference takes and gives of one model, as JSON."""
    inputs = [_input(spec) for spec in signature.inputs]
    outputs = [output for spec in signature.outputs for output in _outputs(spec)]
    # No enum: generators of clients make names of its values, and fail where `A` and `a` are two outputs.
    names = one_of([_only(spec.name) for spec in signature.outputs])
    choice = record({"name": names, "parameters": _OUTPUT_PARAMETERS}, optional=["parameters"])
    request: dict[str, Schema] = {
        "id": {"type": "string"},
        "parameters": _REQUEST_PARAMETERS,
        "inputs": {"type": "array", "items": one_of(inputs), "minItems": len(inputs), "maxItems": len(inputs)},
        "outputs": {"type": "array", "items": choice, "description": "The outputs that are wanted; all without it."},
    }
    response: dict[str, Schema] = {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": one_of(outputs)},
    }
    return Bodies(record(request, optional=["id", "parameters", "outputs"]), record(response, optional=["id"]))


def examples(metadata: ModelMetadata) -> Examples:
    """The first golden row with its answer."""
    signature, golden = metadata.signature, metadata.golden
    answer = {"model_name": metadata.name, "model_version": str(metadata.version)}
    outputs = _example(signature.outputs, golden.outputs)
    return Examples({"inputs": _example(signature.inputs, golden.inputs)}, {**answer, "outputs": outputs})


def _example(specs: tuple[TensorSpec, ...], tensors: Tensors) -> list[dict[str, Any]]:
    """The first row of each tensor, flat."""
    return [
        {
            "name": spec.name,
            "datatype": OF_DTYPE[spec.dtype].v2,
            "shape": list(tensors[spec.name][:1].shape),
            # By NumPy's numbers and not Python's, which would show digits that no answer has.
            "data": [_with_null(spec, item) for item in tensors[spec.name][:1].ravel()],
        }
        for spec in specs
    ]


def _with_null(spec: TensorSpec, item: Any) -> Any:
    return None if spec.nullable and (item == null_of(spec.dtype) or item != item) else item  # noqa: PLR0124 - NaN


def _input(spec: TensorSpec) -> Schema:
    item = number_or_text(spec.dtype)
    if spec.nullable:
        item["type"] = [item["type"], "null"]
    forms = [nested(item, [None])]
    if len(spec.shape) > 1:
        forms.append(nested(item, spec.shape))
    tensor = {**_head(spec, OF_DTYPE[spec.dtype].v2), "data": one_of(forms), "parameters": PARAMETERS}
    return {**record(tensor, optional=["parameters"]), "description": f"{describe(spec)}, flat or nested"}


def _outputs(spec: TensorSpec) -> list[Schema]:
    """The output as it is, and as its classes where it has some."""
    item = number_or_text(spec.dtype)
    if spec.dtype.startswith("float"):
        item["type"] = ["number", "null"]  # null is NaN
    found = [
        {
            **record({**_head(spec, OF_DTYPE[spec.dtype].v2), "data": nested(item, [None])}),
            "description": f"{describe(spec)}, flat",
        }
    ]
    if has_classes(spec):
        texts = nested({"type": "string"}, [None])
        classes = record({**_head(spec, "BYTES", ndim=2), "data": texts})
        found.append({**classes, "description": "What the parameter `classification` gives: `value:index:label`"})
    return found


def _head(spec: TensorSpec, datatype: str, ndim: int | None = None) -> dict[str, Schema]:
    ndim = ndim or len(spec.shape)
    shape = {**_SIZES, "minItems": ndim, "maxItems": ndim}
    return {"name": _only(spec.name), "datatype": _only(datatype), "shape": shape}


def _only(text: str) -> Schema:
    return {"type": "string", "const": text}
