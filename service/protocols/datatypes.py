"""One table of data types: ours, those of the Open Inference Protocol, TensorFlow's, and NumPy's on the wire."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from models.manifest import DType

DT = Literal[
    "DT_BOOL", "DT_INT8", "DT_INT16", "DT_INT32", "DT_INT64", "DT_UINT8", "DT_UINT16", "DT_UINT32", "DT_UINT64",
    "DT_HALF", "DT_FLOAT", "DT_DOUBLE", "DT_STRING",
]  # fmt: skip


class Datatype(NamedTuple):
    """One data type by all of its names.

    Attributes:
        dtype: Of a signature.
        v2: Of the Open Inference Protocol.
        tensorflow: Of TensorFlow's protocol buffers.
        wire: Of binary tensors, whose bytes are in little-endian order; None for strings, which have no fixed size.
    """

    dtype: DType
    v2: str
    tensorflow: DT
    wire: np.dtype[Any] | None


DATATYPES = (
    Datatype("bool", "BOOL", "DT_BOOL", np.dtype("?")),
    Datatype("int8", "INT8", "DT_INT8", np.dtype("i1")),
    Datatype("int16", "INT16", "DT_INT16", np.dtype("<i2")),
    Datatype("int32", "INT32", "DT_INT32", np.dtype("<i4")),
    Datatype("int64", "INT64", "DT_INT64", np.dtype("<i8")),
    Datatype("uint8", "UINT8", "DT_UINT8", np.dtype("u1")),
    Datatype("uint16", "UINT16", "DT_UINT16", np.dtype("<u2")),
    Datatype("uint32", "UINT32", "DT_UINT32", np.dtype("<u4")),
    Datatype("uint64", "UINT64", "DT_UINT64", np.dtype("<u8")),
    Datatype("float16", "FP16", "DT_HALF", np.dtype("<f2")),
    Datatype("float32", "FP32", "DT_FLOAT", np.dtype("<f4")),
    Datatype("float64", "FP64", "DT_DOUBLE", np.dtype("<f8")),
    Datatype("string", "BYTES", "DT_STRING", None),
)

OF_DTYPE = {item.dtype: item for item in DATATYPES}
OF_V2 = {item.v2: item for item in DATATYPES}
BFLOAT16 = "BF16"
"""The v2 datatype that no signature has: it is float32 without the last 16 bits, and is taken where float32 is."""


def widen_bfloat16(values: np.ndarray) -> np.ndarray:
    """The float32 numbers, exactly, of bfloat16's bits as uint16."""
    return (values.astype(np.uint32) << 16).view(np.float32)
