"""Messages of the Open Inference Protocol over gRPC, as the documents and tensors that the REST door has too."""

from __future__ import annotations

from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as messages

from service.errors import InvalidRequest
from service.protocols.datatypes import BFLOAT16
from service.protocols.tensors import describe
from service.protocols.v2_infer import OutputTensor
from service.protocols.v2_tensors import to_bytes

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_RAW_ONLY = ("FP16", BFLOAT16)


def document_of(request: Any) -> dict[str, Any]:
    """A `ModelInferRequest` as the same request in JSON. Raw tensors have their sizes in it, all others their values.

    Raises:
        InvalidRequest: tensors are partly raw, or in a field of another datatype.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidRequest(
            f"`raw_input_contents` must hold all {len(request.inputs)} inputs or none. Received: {len(raw)}."
        )
    inputs = [_input(item, raw[index] if raw else None) for index, item in enumerate(request.inputs)]
    document: dict[str, Any] = {"inputs": inputs, "parameters": _parameters(request.parameters)}
    if request.id:
        document["id"] = request.id
    if request.outputs:
        document["outputs"] = [
            {"name": item.name, "parameters": _parameters(item.parameters)} for item in request.outputs
        ]
    return document


def response_of(model: str, version: int, identity: str, outputs: list[OutputTensor], *, is_raw: bool) -> Any:
    """A `ModelInferResponse`, its tensors raw or typed; all raw where one has a datatype without a type."""
    response = messages.ModelInferResponse(model_name=model, model_version=str(version), id=identity)
    is_raw = is_raw or any(output.describe()["datatype"] in _RAW_ONLY for output in outputs)
    for output in outputs:
        item = response.outputs.add(**output.describe())
        if is_raw:
            response.raw_output_contents.append(bytes(to_bytes(output.dtype, output.values)))
        else:
            getattr(item.contents, _CONTENTS[item.datatype]).extend(_values(output))
    return response


def _input(item: Any, raw: bytes | None) -> dict[str, Any]:
    content: dict[str, Any] = {
        "name": item.name,
        "datatype": item.datatype,
        "shape": list(item.shape),
        "parameters": _parameters(item.parameters),
    }
    filled = [field.name for field, _ in item.contents.ListFields()]
    if raw is not None:
        if filled:
            raise InvalidRequest(f"Input {describe(item.name)} must be in `contents` or raw, not both.")
        content["parameters"]["binary_data_size"] = len(raw)
        return content
    if item.datatype in _RAW_ONLY:
        raise InvalidRequest(f"Input {describe(item.name)} must be raw: `contents` cannot carry {item.datatype}.")
    field = _CONTENTS.get(item.datatype, "")
    if filled and filled != [field]:
        raise InvalidRequest(
            f"Input {describe(item.name)} of datatype {describe(item.datatype)} must be in "
            f"`{field or 'contents'}`. Received: {', '.join(filled)}."
        )
    content["data"] = _texts(item) if field == "bytes_contents" else list(getattr(item.contents, field, ()))
    return content


def _texts(item: Any) -> list[str]:
    try:
        return [text.decode() for text in item.contents.bytes_contents]
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"Input {describe(item.name)} must hold strings in UTF-8.") from error


def _parameters(parameters: Any) -> dict[str, Any]:
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in parameters.items()}
    return {name: getattr(parameters[name], kind) for name, kind in chosen.items() if kind}


def _values(output: OutputTensor) -> list[Any]:
    values: list[Any] = np.asarray(output.values).ravel().tolist()
    return [text.encode() for text in values] if output.dtype == "string" else values
