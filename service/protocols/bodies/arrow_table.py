"""Arrow's IPC stream: a column for each input, with lists of one length where a row has several values.

Streams may be compressed by LZ4 or Zstandard, within the limit on what they become. The same limit holds for types
whose rows take few bytes or none, and become more here; where it could not, they are refused.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pyarrow as pa

from models.manifest import Signature, Tensors, TensorSpec, null_of
from service.errors import InvalidRequest
from service.protocols.bodies.fitting import check_filled, check_names, fit
from service.protocols.tensors import decode as decode_values

_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_VERSION_5 = 4
_NOT_COMPRESSED = -1
"""Stands for the length of a buffer that compression would not have made smaller."""
_MAX_NDIM = 64
_MAX_TEXT_BYTES = 256 * 2**20
_NULL_BYTES = 8
"""What a null counts for in a column that has none of its own."""
_VIEW_BYTES = 16
"""Of each string in an array of views; its length is in the first four."""
_VIEWS = (pa.types.is_string_view, pa.types.is_binary_view)
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


def decode(body: bytes, signature: Signature, limit: int) -> Tensors:
    """The column of each input, of at most `limit` bytes where they are compressed."""
    try:
        _check_unpacked(body, limit)
        table = pa.ipc.open_stream(pa.py_buffer(body)).read_all()
        table.validate(full=True)  # that its offsets stay within its bytes, and its text is UTF-8
        check_names([spec.name for spec in signature.inputs], table.column_names)
        return {spec.name: _column(spec, table.column(spec.name).combine_chunks(), limit) for spec in signature.inputs}
    except (pa.ArrowException, OSError, ValueError, KeyError, struct.error) as error:
        message = str(error).partition("\n")[0][:200]
        raise InvalidRequest(f"The body is not a sound Arrow IPC stream: {message}.") from error


def encode(tensors: Tensors) -> bytes:
    """A record batch with a column for each output, of lists of fixed length where a row has several values."""
    batch = pa.record_batch({name: _array(values) for name, values in tensors.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _array(values: np.ndarray) -> Any:
    contiguous = np.ascontiguousarray(values).reshape(-1)
    # From an array of strings, pyarrow would take each only up to its first NUL.
    flat = pa.array(contiguous.tolist(), pa.string()) if contiguous.dtype.kind == "U" else pa.array(contiguous)
    for size in reversed(values.shape[1:]):
        flat = pa.FixedSizeListArray.from_arrays(flat, size)
    return flat


def _column(spec: TensorSpec, column: Any, limit: int) -> np.ndarray:
    sizes = [len(column)]
    while _is_list(column.type) and len(sizes) < _MAX_NDIM:
        if column.null_count:
            raise InvalidRequest(f"Input `{spec.name}` must hold no null in place of a list.")
        sizes.append(_length(spec, column))
        column = column.flatten()
    check_filled(spec, tuple(sizes))
    if column.null_count and not spec.nullable:
        raise InvalidRequest(f"Input `{spec.name}` must hold no null.")
    return _values(spec, column, limit).reshape(sizes)


def _is_list(kind: Any) -> bool:
    return any(is_it(kind) for is_it in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def _length(spec: TensorSpec, column: Any) -> int:
    """The one length of all lists of a column."""
    if pa.types.is_fixed_size_list(column.type):
        return int(column.type.list_size)
    lengths = np.unique(np.diff(column.offsets.to_numpy()))
    if len(lengths) > 1:
        raise InvalidRequest(f"Input `{spec.name}` must hold rows of one shape. Received: lists of several lengths.")
    return int(lengths[0]) if len(lengths) else 0


def _values(spec: TensorSpec, column: Any, limit: int) -> np.ndarray:
    kind = column.type
    if pa.types.is_null(kind):  # as pandas and Polars write a column without any value
        _check_bytes(spec, len(column) * _NULL_BYTES, limit)
        return np.full(len(column), null_of(spec.dtype), spec.numpy_dtype)
    if _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
        return _texts(spec, column, limit)
    if pa.types.is_boolean(kind) and spec.nullable and spec.dtype == "int8":
        column = column.cast(pa.int8())
    elif not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise InvalidRequest(f"Input `{spec.name}` must be {spec.dtype}. Received: {kind}.")
    if not column.null_count:
        return fit(spec, column.to_numpy(zero_copy_only=False))
    is_null = column.is_null().to_numpy(zero_copy_only=False)
    filler = False if pa.types.is_boolean(column.type) else 0
    values = fit(spec, column.fill_null(filler).to_numpy(zero_copy_only=False))
    return np.where(is_null, np.array(null_of(spec.dtype), values.dtype), values)


def _texts(spec: TensorSpec, column: Any, limit: int) -> np.ndarray:
    if spec.dtype != "string":
        raise InvalidRequest(f"Input `{spec.name}` must be {spec.dtype}. Received: string.")
    if pa.types.is_dictionary(column.type):
        known = _plain_text(spec, column.dictionary, limit)
        longest = max((len(text or "") for text in known.to_pylist()), default=0)
        if longest * len(column) * 4 > _MAX_TEXT_BYTES:
            raise InvalidRequest(
                f"Input `{spec.name}` is too large: {len(column)} strings of up to {longest} characters."
            )
        column = pa.DictionaryArray.from_arrays(column.indices, known).dictionary_decode()
    else:
        column = _plain_text(spec, column, limit)
    return decode_values(spec, column.to_pylist()) if len(column) else np.empty(0, np.str_)


def _is_text(kind: Any) -> bool:
    return any(is_it(kind) for is_it in (*_VIEWS, *_TEXTS))


def _plain_text(spec: TensorSpec, column: Any, limit: int) -> Any:
    """Text of any of Arrow's types as one of them; bytes must be UTF-8."""
    if any(is_view(column.type) for is_view in _VIEWS):  # which may all be of the same bytes
        begin, end = column.offset * _VIEW_BYTES, (column.offset + len(column)) * _VIEW_BYTES
        lengths = np.frombuffer(column.buffers()[1] or b"", np.int32)[begin // 4 : end // 4 : _VIEW_BYTES // 4]
        _check_bytes(spec, int(lengths.sum(dtype=np.int64)), limit)
    return column.cast(pa.large_string())


def _check_bytes(spec: TensorSpec, number: int, limit: int) -> None:
    if number > limit:
        raise InvalidRequest(f"Input `{spec.name}` may have at most {limit} bytes. Received: {number}.")


def _check_unpacked(body: bytes, limit: int) -> None:
    """Checks what compressed batches will be unpacked to, which pyarrow would allocate whatever it is."""
    messages = pa.ipc.MessageReader.open_stream(pa.py_buffer(body))
    total = sum(_unpacked_bytes(item.metadata.to_pybytes(), item.body) for item in messages)
    if total > limit:
        raise InvalidRequest(f"The body may be unpacked to at most {limit} bytes. Received: {total}.")


def _unpacked_bytes(metadata: bytes, body: Any) -> int:
    """What the compressed buffers of a message say their contents are, by Arrow's format/Message.fbs."""
    message = _target(metadata, 0)
    kind, header = _field(metadata, message, 1), _field(metadata, message, 2)
    if not header or metadata[kind] not in {_DICTIONARY_BATCH, _RECORD_BATCH}:
        return 0
    version, own_metadata = _field(metadata, message, 0), _field(metadata, message, 4)
    if own_metadata and (not version or struct.unpack_from("<h", metadata, version)[0] < _VERSION_5):
        # Arrow 0.17 said there that a batch is compressed, and pyarrow still believes it.
        raise InvalidRequest("A batch with metadata of its own must be of Arrow's metadata version 5.")
    batch = _target(metadata, header)
    if metadata[kind] == _DICTIONARY_BATCH:
        batch = _target(metadata, _field(metadata, batch, 1))
    buffers, compression = _field(metadata, batch, 2), _field(metadata, batch, 3)
    if not buffers or not compression:
        return 0
    vector = _target(metadata, buffers)
    (number,) = struct.unpack_from("<I", metadata, vector)
    places = struct.iter_unpack("<qq", metadata[vector + 4 : vector + 4 + 16 * number])
    lengths = [struct.unpack_from("<q", body, offset)[0] for offset, length in places if length]
    if min(lengths, default=0) < _NOT_COMPRESSED:
        raise InvalidRequest(f"A compressed buffer must say how long it is. Received: {min(lengths)}.")
    return sum(length for length in lengths if length != _NOT_COMPRESSED)


def _target(buffer: bytes, place: int) -> int:
    """Where the FlatBuffers table is that `place` points to."""
    (offset,) = struct.unpack_from("<I", buffer, place)
    return place + int(offset)


def _field(buffer: bytes, table: int, index: int) -> int:
    """Where a field of a FlatBuffers table is; 0 where it is left out."""
    (to_layout,) = struct.unpack_from("<i", buffer, table)
    (size,) = struct.unpack_from("<H", buffer, table - to_layout)
    if 4 + 2 * index >= size:
        return 0
    (offset,) = struct.unpack_from("<H", buffer, table - to_layout + 4 + 2 * index)
    return table + int(offset) if offset else 0
