"""`:classify` and `:regress` of TensorFlow Serving in OpenAPI's terms, of one model by its signature."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import orjson

from models.manifest import Signature, Tensors, TensorSpec
from service.metadata import ModelMetadata
from service.protocols.tensor_schema import Bodies, Examples, Schema, describe, leaf, nested, one_of, record, rows
from service.protocols.tensors import encode
from service.protocols.tfs_decode import SIGNATURE_NAME
from service.protocols.tfs_encode import encode_classes, encode_values, gives
from service.protocols.tfs_schema import TfsExamplesRequest, taken, takes


def classify_bodies(signature: Signature) -> Bodies | None:
    """What `:classify` takes and gives of one model; None where it has no scores to give."""
    if not gives(signature, "classify"):
        return None
    (spec,) = signature.outputs
    # Generators of clients fail at tuples, so that a pair is of two things of either kind.
    pair = nested(one_of([{"type": "string"}, leaf(spec)]), [2])
    classes = {**nested(pair, spec.shape[1:] or [1]), "description": "Each label with its score, in the model's order."}
    return _bodies(signature, rows(classes))


def regress_bodies(signature: Signature) -> Bodies | None:
    """What `:regress` takes and gives of one model; None where it has no number a row to give."""
    return _bodies(signature, rows(leaf(signature.outputs[0]))) if gives(signature, "regress") else None


def classify_examples(metadata: ModelMetadata) -> Examples:
    """The first golden row with its classes."""
    return Examples(_request(metadata), orjson.loads(encode_classes(_first_answer(metadata), metadata.signature)))


def regress_examples(metadata: ModelMetadata) -> Examples:
    """The first golden row with its number."""
    return Examples(_request(metadata), orjson.loads(encode_values(_first_answer(metadata))))


def _bodies(signature: Signature, results: Schema) -> Bodies | None:
    if not takes(signature):
        return None
    features = {"type": "object", "properties": {spec.name: _feature(spec) for spec in signature.inputs}}
    request: dict[str, Schema] = {
        "signature_name": {"type": "string", "enum": ["", SIGNATURE_NAME]},
        "context": {**features, "description": "Features of all examples, which each may replace."},
        "examples": rows({**features, "description": "All features that `context` has not."}),
    }
    taken_of_each = record(request, optional=["signature_name", "context"])
    return Bodies({**taken_of_each, "description": TfsExamplesRequest.__doc__}, record({"results": results}))


def _feature(spec: TensorSpec) -> Schema:
    """An input of one example: flat, or nested as its shape says; a single value may stand alone or in a list."""
    item, sizes = taken(spec), spec.shape[1:]
    if not sizes:
        forms = [item, nested(item, [1])]
    elif None in sizes:
        forms = [nested(item, sizes), item] if len(sizes) == 1 else [nested(item, sizes)]
    else:
        number = prod(size or 0 for size in sizes)
        forms = [nested(item, [number])]
        forms += [nested(item, sizes)] if len(sizes) > 1 else []
        forms += [item] if number == 1 else []
    return {**one_of(forms), "description": describe(spec)}


def _request(metadata: ModelMetadata) -> dict[str, Any]:
    features = {spec.name: _flat(spec, metadata.golden.inputs[spec.name][:1]) for spec in metadata.signature.inputs}
    return {"examples": [features]}


def _flat(spec: TensorSpec, row: np.ndarray) -> Any:
    """One row as TensorFlow's examples hold it, flat; nested where only that tells its shape."""
    has_shape = None in spec.shape[2:]
    return encode(spec, row if has_shape or row.ndim == 1 else row.reshape(1, -1))[0]


def _first_answer(metadata: ModelMetadata) -> Tensors:
    return {name: values[:1] for name, values in metadata.golden.outputs.items()}
