"""A client of the Open Inference Protocol in few lines, that shares no code with the service: bytes out, arrays in."""

from __future__ import annotations

import json
import struct
from typing import Any

import httpx
import numpy as np

HEADER = "Inference-Header-Content-Length"
DATATYPES = {
    "bool": "BOOL",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
NUMPY = {datatype: object if dtype == "string" else dtype for dtype, datatype in DATATYPES.items()}


def tensor(name: str, values: np.ndarray, **changes: Any) -> dict[str, Any]:
    """An input as JSON has it, but for its values."""
    dtype = "string" if values.dtype.kind in "UO" else values.dtype.name
    return {"name": name, "shape": list(values.shape), "datatype": DATATYPES[dtype], **changes}


def as_json(name: str, values: np.ndarray, **changes: Any) -> dict[str, Any]:
    return tensor(name, values, data=values.ravel().tolist(), **changes)


def pack(values: np.ndarray) -> bytes:
    if values.dtype.kind not in "UO":
        return values.astype(values.dtype.newbyteorder("<")).tobytes()
    texts = [text if isinstance(text, bytes) else text.encode() for text in values.ravel().tolist()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def unpack(data: bytes, datatype: str) -> list[Any]:
    if datatype != "BYTES":
        return np.frombuffer(data, np.dtype(NUMPY[datatype]).newbyteorder("<")).tolist()
    found = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        found.append(data[4 : 4 + length].decode())
        data = data[4 + length :]
    return found


def binary_body(inputs: dict[str, np.ndarray], **content: Any) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request whose tensors are all binary."""
    packed = {name: pack(values) for name, values in inputs.items()}
    described = [
        tensor(name, values, parameters={"binary_data_size": len(packed[name])}) for name, values in inputs.items()
    ]
    text = json.dumps({"inputs": described, **content}).encode()
    return text + b"".join(packed.values()), {HEADER: str(len(text))}


def arrays(response: httpx.Response) -> dict[str, np.ndarray]:
    """The outputs of an answer, binary or not."""
    assert response.status_code == 200, response.text
    content = response.content
    length = int(response.headers.get(HEADER, len(content)))
    document, rest = json.loads(content[:length]), content[length:]
    found = {}
    for output in document["outputs"]:
        values = output.get("data")
        if values is None:
            size = output["parameters"]["binary_data_size"]
            values, rest = unpack(rest[:size], output["datatype"]), rest[size:]
        found[output["name"]] = np.array(values, NUMPY[output["datatype"]]).reshape(output["shape"])
    assert rest == b""
    return found
