"""Tensors and what is known of models to TensorFlow Serving's JSON."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import orjson

from models.manifest import DType, Signature, Tensors, TensorSpec
from service.errors import InvalidRequest
from service.metadata import ModelIndex, ModelMetadata
from service.protocols.datatypes import OF_DTYPE
from service.protocols.tfs_decode import SIGNATURE_NAME, Layout

BYTES_SUFFIX = "_bytes"
_STATES = {"LOADING": "LOADING", "READY": "AVAILABLE"}
_EXPECTED = {
    "classify": "one output Tensor of numbers of shape [batch_size num_classes]",
    "regress": "one output Tensor of numbers of shape [batch_size]",
}


def encode_predict(outputs: Tensors, signature: Signature, layout: Layout) -> bytes:
    """`predictions` or `outputs`; NaN and infinities as the tokens that TensorFlow Serving writes."""
    names = [spec.name for spec in signature.outputs]
    if layout == "column":
        columns = {name: orjson.Fragment(_tensor(name, outputs[name])) for name in names}
        return _dump({"outputs": columns[names[0]] if len(names) == 1 else columns}, orjson.OPT_INDENT_2)
    if len(names) == 1:
        return b'{\n    "predictions": %b\n}' % _tensor(names[0], outputs[names[0]])
    columns_of_rows = [[orjson.Fragment(_tensor(name, row)) for row in outputs[name]] for name in names]
    rows = [_dump(dict(zip(names, row, strict=True))) for row in zip(*columns_of_rows, strict=True)]
    return b'{\n    "predictions": [\n        %b\n    ]\n}' % b",\n        ".join(rows)


def check_output(signature: Signature, verb: str) -> None:
    """Refuses to classify or regress by a model that does not give scores, or a number, a row.

    Raises:
        InvalidRequest: it does not.
    """
    if not gives(signature, verb):
        raise InvalidRequest(f"Expected {_EXPECTED[verb]}. Ask :predict for what this model gives.")


def gives(signature: Signature, verb: str) -> bool:
    """Whether a model gives what `verb` answers with: scores to classify, a number a row to regress."""
    spec, *more = signature.outputs
    fits = len(spec.shape) <= 2 if verb == "classify" else spec.shape[1:] in {(), (1,)}
    return fits and not more and spec.dtype not in {"string", "bool"}


def encode_classes(outputs: Tensors, signature: Signature) -> bytes:
    """`results` of classify: for each row, each label with its score, in the model's order."""
    labels, scores = labels_of(outputs, signature)
    rows = [_dump([[label, _number(score)] for label, score in zip(labels, row, strict=True)]) for row in scores]
    return b'{\n    "results": [\n        %b\n    ]\n}' % b",\n        ".join(rows)


def labels_of(outputs: Tensors, signature: Signature) -> tuple[tuple[str, ...], np.ndarray]:
    """The labels of an output that `check_output` has let pass, and a row of scores for them for each row."""
    (scores,) = outputs.values()
    scores = scores.reshape(len(scores), -1)
    count = scores.shape[1]
    known = signature.labels
    return (known if known is not None and len(known) == count else tuple(map(str, range(count)))), scores


def encode_values(outputs: Tensors) -> bytes:
    """`results` of regress: one number a row."""
    (values,) = outputs.values()
    return b'{\n    "results": %b\n}' % _tensor("", values.reshape(-1))


def statuses(index: ModelIndex, versions: list[int]) -> dict[str, Any]:
    """The state of some of a model's versions, and beside it what KServe v1 calls the readiness of the model."""
    return {
        "model_version_status": [
            {
                "version": str(version),
                "state": _STATES.get(index.statuses[version].state, "END"),
                "status": _status(index.statuses[version].reason),
            }
            for version in versions
        ],
        "name": index.name,
        "ready": any(index.statuses[version].state == "READY" for version in versions),
    }


def signature_document(model: ModelMetadata) -> dict[str, Any]:
    """The signature in TensorFlow's terms, and again as OpenVINO Model Server spells the same keys."""
    spec = {"name": model.name, "signature_name": "", "version": str(model.version)}
    of_tensorflow, of_openvino = (
        {
            SIGNATURE_NAME: {
                "inputs": {spec.name: _tensor_info(spec, shape) for spec in model.signature.inputs},
                "outputs": {spec.name: _tensor_info(spec, shape) for spec in model.signature.outputs},
                "method_name": "tensorflow/serving/predict",
                "defaults": {},
            }
        }
        for shape in ("tensor_shape", "tensorShape")
    )
    return {
        "model_spec": spec,
        "modelSpec": spec,
        "metadata": {"signature_def": {"signature_def": of_tensorflow, "signatureDef": of_openvino}},
    }


def dump(document: dict[str, Any]) -> bytes:
    """A document as TensorFlow Serving prints it, over several lines."""
    return _dump(document, orjson.OPT_INDENT_2)


def _status(reason: str) -> dict[str, str]:
    return {"error_code": "FAILED_PRECONDITION" if reason else "OK", "error_message": reason}


def _tensor_info(spec: TensorSpec, shape: str) -> dict[str, Any]:
    dims = [{"size": str(-1 if size is None else size), "name": ""} for size in spec.shape]
    # A nullable int8 input holds true, false and null, and so takes booleans on the wire.
    dtype: DType = "bool" if spec.nullable and spec.dtype == "int8" else spec.dtype
    return {
        "dtype": OF_DTYPE[dtype].tensorflow,
        shape: {"dim": dims, "unknown_rank": False},
        "name": f"{spec.name}:0",
    }


def _number(value: Any) -> Any:
    return orjson.Fragment(_tensor("", np.asarray(value)))


def _tensor(name: str, values: Any) -> bytes:
    array = np.asarray(values)
    if array.dtype.kind == "U":
        nested = array.tolist()
        return _dump(_with_base64(nested) if name.endswith(BYTES_SUFFIX) else nested)
    text = _dump(np.ascontiguousarray(array) if array.ndim else array[()])
    if array.dtype.kind != "f" or b"null" not in text:
        return text
    # orjson writes null for each number that is not finite, and there is nothing else in it that could be null.
    parts = text.split(b"null")
    strangers = array[~np.isfinite(array)].ravel().tolist()
    tokens = [b"NaN" if value != value else b"Infinity" if value > 0 else b"-Infinity" for value in strangers]  # noqa: PLR0124
    return b"".join(part + token for part, token in zip(parts, [*tokens, b""], strict=True))


def _with_base64(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_base64(item) for item in value]
    return {"b64": base64.b64encode(value.encode()).decode()}


def _dump(content: Any, option: int = 0) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | option)
