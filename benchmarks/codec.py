"""What JSON costs: `python -m benchmarks.codec`.

Microseconds from a body to arrays and from an array to an answer, in this process, without a server. Each way is
measured beside the way without shortcuts (decoding) or beside NumPy's rows in a dict (answers), in turn, best of five.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from models.manifest import Signature, Tensors, TensorSpec
from service.protocols import json_rows, tensors
from service.protocols.answers import AnswerEncoder
from service.protocols.json_rows import RowsDecoder


def main() -> None:
    random = np.random.default_rng(0)
    print(f"{'µs each':<34} {'without shortcuts':>18} {'as served':>10} {'ratio':>6}")
    for name, rows, columns in [("digits", 1, 64), ("digits", 32, 64), ("784 features", 32, 784)]:
        values = random.integers(0, 17, (rows, columns)).astype(float)
        spec = tensor("x", "float32", columns)
        report(f"decode {name}, {rows} rows", *decoders((spec,), {"instances": values.tolist()}))
    floats = random.random((32, 784)).tolist()
    report("decode 784 fractions, 32 rows", *decoders((tensor("x", "float32", 784),), {"instances": floats}))
    pixels = random.integers(0, 256, (4, 28, 28, 1)).tolist()
    report("decode images 28x28x1, 4 rows", *decoders((tensor("x", "float32", 28, 28, 1),), {"instances": pixels}))
    columns_of = {"age": "float32", "rooms": "int64", "city": "string", "is_new": "bool"}
    row = {"age": 31.5, "rooms": 3, "city": "Graz", "is_new": True}
    specs = tuple(tensor(name, dtype) for name, dtype in columns_of.items())
    for rows in (1, 32):
        report(f"decode objects of 4 inputs, {rows} rows", *decoders(specs, {"instances": [row] * rows}))
    for rows in (1, 32):
        answers = random.random((rows, 10)).astype(np.float32)
        report(f"answer of 10 float32, {rows} rows", *encoders(answers))


def report(name: str, slow: Callable[[], object], quick: Callable[[], object]) -> None:
    before, after = microseconds(slow), microseconds(quick)
    print(f"{name:<34} {before:>18.1f} {after:>10.1f} {before / after:>6.1f}")


def microseconds(call: Callable[[], object]) -> float:
    number = max(1, round(0.02 / min(timeit.repeat(call, number=1, repeat=5))))
    return min(timeit.repeat(call, number=number, repeat=5)) / number * 1e6


def tensor(name: str, dtype: str, *shape: int) -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": (None, *shape)})


def decoders(specs: tuple[TensorSpec, ...], document: Any) -> tuple[Callable[[], Tensors], Callable[[], Tensors]]:
    body = orjson.dumps(document)
    decoder = RowsDecoder(Signature(inputs=specs, outputs=specs))

    def exactly() -> Tensors:
        columns = json_rows._columns(json_rows._instances(body), [spec.name for spec in specs])
        return {spec.name: tensors._decode_exactly(spec, columns[spec.name]) for spec in specs}

    for name, values in exactly().items():
        np.testing.assert_array_equal(decoder.decode(body)[name], values)
    return exactly, lambda: decoder.decode(body)


def encoders(values: np.ndarray) -> tuple[Callable[[], bytes], Callable[[], bytes]]:
    spec = tensor("y", "float32", values.shape[1])
    encoder = AnswerEncoder(Signature(inputs=(spec,), outputs=(spec,)), "digits", 1, "litert")

    def as_rows() -> bytes:
        if not np.isfinite(values).all():
            raise ValueError("JSON has no NaN.")
        answer = {"predictions": list(np.ascontiguousarray(values)), "model": "digits", "version": 1}
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)

    def as_served() -> bytes:
        return encoder.encode({"y": values}, labels=False)

    if as_rows() != as_served():
        raise SystemExit("The answers differ.")
    return as_rows, as_served


if __name__ == "__main__":
    main()
