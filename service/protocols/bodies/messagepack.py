"""MessagePack of the same document that JSON has: `{"instances": [...]}`, answered with `{"predictions": [...]}`."""

from __future__ import annotations

from typing import Any

import msgpack

from models.manifest import Signature, Tensors
from service.errors import InvalidRequest
from service.protocols.tensors import decode as decode_values


def decode(body: bytes, signature: Signature, limit: int) -> Tensors:  # noqa: ARG001 - nothing is unpacked
    """The tensors of the rows in `instances`."""
    rows = _instances(body)
    names = [spec.name for spec in signature.inputs]
    if len(names) == 1 and not isinstance(rows[0], dict):
        columns = {names[0]: rows}
    else:
        for number, row in enumerate(rows):
            if not isinstance(row, dict) or row.keys() != set(names):
                raise InvalidRequest(f"Each row must be a map with the keys {', '.join(names)}. Row {number} is not.")
        columns = {name: [row[name] for row in rows] for name in names}
    return {spec.name: decode_values(spec, columns[spec.name]) for spec in signature.inputs}


def encode(tensors: Tensors) -> bytes:
    """The rows, as values or as maps where there are several outputs."""
    rows, *more = [values.tolist() for values in tensors.values()]
    if more:
        rows = [dict(zip(tensors, row, strict=True)) for row in zip(rows, *more, strict=True)]
    packed: bytes = msgpack.packb({"predictions": rows})
    return packed


def _refuse(code: int, data: bytes) -> Any:  # noqa: ARG001 - as msgpack calls it
    raise ValueError(f"there is an extension of type {code}, which stands for no value here")


def _instances(body: bytes) -> list[Any]:
    try:
        document = msgpack.unpackb(body, ext_hook=_refuse)
    # Its errors are ValueErrors but for a few; StackError is what deep nesting gets.
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidRequest(f"The body is not MessagePack: {str(error)[:200] or type(error).__name__}.") from error
    instances = document.get("instances") if isinstance(document, dict) and len(document) == 1 else None
    if not isinstance(instances, list) or not instances:
        raise InvalidRequest("The body must be a map with the one key `instances`, a list of at least one row.")
    return instances
