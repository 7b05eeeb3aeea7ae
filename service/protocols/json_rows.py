"""From a JSON body to the tensors of a model: `{"instances": [...]}` with one row a list entry.

Most bodies are numbers for a single input. Those go from text into an array without a Python object for each number.
Whatever is not of that form, or is wrong, takes the way that can say what came instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import prod
from typing import Any, Literal

import numpy as np
import orjson
import simdjson

from models.manifest import Signature, Tensors, TensorSpec
from service.errors import InvalidRequest
from service.protocols.tensors import decode, describe, narrow_floats, narrow_integers

LARGE_BODY_BYTES = 256 * 2**10
"""Bodies beyond this are decoded in a thread, so that health checks and small requests are answered meanwhile."""
LARGE_NUMBERS_BYTES = 2**20
"""The same where the one input is numbers, which take a millisecond then instead of thirty."""
LONGEST_EXAMPLE = 1000

_MOST_LISTS = 2**13
"""More lists than these are decoded in a thread: each takes half a microsecond, and three where one of them is odd."""
_SURELY_FEW_BYTES = 2 * _MOST_LISTS

_OPENINGS = (b'{"instances":[[', b'{"instances": [[')
_END = b"]]}"
_BRACKET = ord("[")
_SHORT_TEXT = 4 * 2**10
_BUFFERS: dict[str, tuple[Literal["d", "i", "u"], np.dtype[Any]]] = {
    "f": ("d", np.dtype(np.float64)),
    "i": ("i", np.dtype(np.int64)),
    "u": ("u", np.dtype(np.uint64)),
}
# What the parser raises for bodies that are no JSON, hold other values or are built otherwise.
_OTHER_FORM = (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError)


class RowsDecoder:
    """Decodes bodies for one signature. Those that are quick belong to one thread, others to any.

    Attributes:
        most_bytes: Of a body that may be decoded on the event loop.
    """

    def __init__(self, signature: Signature) -> None:
        self._specs = signature.inputs
        spec = signature.inputs[0]
        only_numbers = len(signature.inputs) == 1 and not spec.nullable and spec.numpy_dtype.kind in _BUFFERS
        self._numbers = NumbersDecoder(spec) if only_numbers else None
        self.most_bytes = LARGE_NUMBERS_BYTES if only_numbers else LARGE_BODY_BYTES
        # A parser keeps as much memory as its largest body took, so large bodies get parsers of their own.
        self._parser = simdjson.Parser()

    def is_quick(self, body: bytes | bytearray) -> bool:
        """Whether a body may be decoded on the event loop: it is short, or neither very long nor of very many lists."""
        if len(body) <= _SURELY_FEW_BYTES:
            return True
        return len(body) <= self.most_bytes and _count_brackets(body) <= _MOST_LISTS

    def decode(self, body: bytes) -> Tensors:
        """The tensors, their dtypes as the signature says, their shapes as they came.

        Raises:
            InvalidRequest: the body is no JSON, has another form, or holds a value that is not of the input's dtype.
        """
        if self._numbers is not None:
            parser = self._parser if self.is_quick(body) else simdjson.Parser()
            array = self._numbers.decode(body, parser)
            if array is not None:
                return {self._numbers.name: array}
        columns = _columns(_instances(body), [spec.name for spec in self._specs])
        return {spec.name: decode(spec, columns[spec.name]) for spec in self._specs}

    def decode_together(self, bodies: list[bytes | bytearray]) -> tuple[Tensors, list[int]] | None:
        """The tensors of several bodies, one after the other, and how many rows each holds. For small bodies.

        None unless all are surely of the most common form, and of the signature's shape, which nobody checks after
        this; `decode` would give the same.
        """
        if self._numbers is None:
            return None
        if sum(map(len, bodies)) > _SURELY_FEW_BYTES and not all(map(self.is_quick, bodies)):
            return None
        if len(bodies) == 1:
            array = self._numbers.decode(bytes(bodies[0]), self._parser)
            if array is None or array.shape[1:] != self._numbers.row_shape:
                return None
            return {self._numbers.name: array}, [len(array)]
        found = self._numbers.decode_together(bodies, self._parser)
        return None if found is None else ({self._numbers.name: found[0]}, found[1])


class NumbersDecoder:
    """Decodes texts that hold nothing but lists of numbers, as deep as an input's shape says."""

    def __init__(self, spec: TensorSpec) -> None:
        self.name = spec.name
        self._dtype = spec.numpy_dtype
        self.row_shape = spec.shape[1:]
        self._depth = len(spec.shape) - 1
        self._width = spec.shape[1] if self._depth == 1 else None
        self._code, self._wide = _BUFFERS[self._dtype.kind]
        self._narrow = narrow_floats if self._code == "d" else narrow_integers

    def decode(self, body: bytes, parser: simdjson.Parser) -> np.ndarray | None:
        """The array, its shape as it came; None for any other body.

        The parser flattens lists of any depth and length, so their form is checked beside it: each list on the way to
        the numbers is looked at, and there is no other list in the body if it has no other bracket. It can't have one
        in a string: the values are numbers, and the key is known.
        """
        if not body.startswith(b"{"):  # the parser would skip a byte order mark, which is no JSON
            return None
        try:
            document: Any = parser.parse(body)
            instances = document["instances"]
            values: np.ndarray = np.frombuffer(instances.as_buffer(of_type=self._code), self._wide)
            if len(document) != 1:
                return None
            shape, brackets = [len(instances)], 1
            if shape == [1] and self._depth == 1:  # the one row can only be all the numbers
                shape, brackets = [1, len(values)], 2
            else:
                level: list[Any] = [instances]
                for _ in range(self._depth):
                    level = list(chain.from_iterable(level))
                    sizes = set(map(len, level))
                    if len(sizes) > 1:
                        return None
                    shape.append(sizes.pop())
                    brackets += len(level)
        except _OTHER_FORM:
            return None
        if not len(values) or prod(shape) != len(values) or _count_brackets(body) != brackets:
            return None
        array = self._narrow(values, self._dtype)
        return None if array is None else array.reshape(shape)

    def decode_together(
        self, bodies: list[bytes | bytearray], parser: simdjson.Parser
    ) -> tuple[np.ndarray, list[int]] | None:
        """The rows of several bodies, and how many each holds; None where that is not sure."""
        opening = next((opening for opening in _OPENINGS if bodies[0].startswith(opening)), None)
        if self._width is None or opening is None:
            return None
        begin, end = len(opening), -len(_END)
        texts = [body[begin:end] for body in bodies if body.startswith(opening) and body.endswith(_END)]
        return self.decode_rows(texts, self._width, parser) if len(texts) == len(bodies) else None

    def decode_rows(
        self, texts: Sequence[bytes | bytearray], width: int, parser: simdjson.Parser
    ) -> tuple[np.ndarray, list[int]] | None:
        """The rows of each text, from behind its first bracket to before its last, and how many; None if unsure.

        All are parsed as one list of lists. Between two texts a row ends and another begins, so if all have the width
        and there is no other list, then no row is of two texts, and each text has a row for each bracket.
        """
        text = b"[[%b]]" % b"],[".join(texts)
        try:
            document: Any = parser.parse(text)
            values: np.ndarray = np.frombuffer(document.as_buffer(of_type=self._code), self._wide)
            rows = len(document)
            if set(map(len, document)) != {width}:
                return None
        except _OTHER_FORM:
            return None
        counts = [_count_brackets(text) + 1 for text in texts]
        if len(values) != width * rows or sum(counts) != rows:
            return None
        array = self._narrow(values, self._dtype)
        return None if array is None else (array.reshape(rows, width), counts)


def _count_brackets(text: bytes | bytearray) -> int:
    """How many `[` there are; `count` is the quicker way in short texts only."""
    if len(text) < _SHORT_TEXT:
        return text.count(b"[")
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == _BRACKET))


def _instances(body: bytes) -> list[Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        is_not_finite = error.doc[error.pos :].lstrip("-").startswith(("NaN", "Infinity"))
        reason = "NaN and Infinity are not JSON numbers" if is_not_finite else str(error)
        raise InvalidRequest(f"The body is not JSON: {reason}.") from error
    if not isinstance(document, dict) or document.keys() != {"instances"}:
        raise InvalidRequest(f"The body must be an object with the one key `instances`. Received: {_found(document)}.")
    instances = document["instances"]
    if not isinstance(instances, list) or not instances:
        raise InvalidRequest(f"`instances` must be a list of at least one row. Received: {describe(instances)}.")
    return instances


def _columns(instances: list[Any], names: list[str]) -> dict[str, list[Any]]:
    """The rows of each input. A row is an object of all inputs; with a single input its value alone will do."""
    if len(names) == 1 and not isinstance(instances[0], dict):
        return {names[0]: instances}
    wanted = set(names)
    for row, instance in enumerate(instances):
        if not isinstance(instance, dict) or instance.keys() != wanted:
            raise InvalidRequest(
                f"Each row must be an object with the keys {', '.join(names)}. Row {row} is {_found(instance)}."
            )
    return {name: [instance[name] for instance in instances] for name in names}


def _found(value: Any) -> str:
    """What came instead of an object with the right keys; cut, so that an answer stays short."""
    if not isinstance(value, dict) or not value:
        return "an empty object" if value == {} else describe(value)
    keys = ", ".join(sorted(value))
    return f"an object with the keys {keys if len(keys) <= LONGEST_EXAMPLE else keys[:LONGEST_EXAMPLE] + '…'}"
