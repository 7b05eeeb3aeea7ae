"""What goes into each form comes out of it: every dtype, by `decode(encode(tensors))`."""

from __future__ import annotations

import contextlib
import math
import sys
from typing import Any

import hypothesis.strategies as st
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from models.manifest import Signature, Tensors
from service.errors import InvalidRequest, UnsupportedMedia
from service.protocols.bodies import KINDS, BodyKind, kind_of_answer, kind_of_body
from tests.examples import examples
from tests.service.fakes import spec

DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "string",
)  # fmt: skip
LIMIT = 10**6
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5).map(lambda text: text.rstrip("\0"))
NPY, NPZ, CSV, ARROW, MESSAGEPACK = KINDS.values()


def values(dtype: str, shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    if dtype == "string":
        return st.lists(TEXT, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))).map(
            lambda texts: np.array(texts, np.str_).reshape(shape)
        )
    if dtype.startswith("float"):
        largest = float(np.finfo(dtype).max)
        numbers = st.floats(-largest, largest, width=np.finfo(dtype).bits)
        return arrays.arrays(dtype, shape, elements=st.sampled_from([math.nan, math.inf, -math.inf]) | numbers)
    return arrays.arrays(dtype, shape)


@st.composite
def tensors_of(draw: st.DrawFn, dtype: str, max_ndim: int, names: int) -> tuple[Signature, Tensors]:
    rows = draw(st.integers(1, 4))
    sizes = [tuple(draw(st.lists(st.integers(1, 3), max_size=max_ndim))) for _ in range(names)]
    specs = tuple(spec(f"input {index}", dtype, *shape) for index, shape in enumerate(sizes))
    tensors = {item.name: draw(values(dtype, (rows, *shape))) for item, shape in zip(specs, sizes, strict=True)}
    return Signature(inputs=specs, outputs=specs), tensors


def assert_same(got: Tensors, wanted: Tensors) -> None:
    assert got.keys() == wanted.keys()
    for name, array in wanted.items():
        assert got[name].dtype.kind == array.dtype.kind
        assert array.dtype.kind == "U" or got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kind", "max_ndim", "names"),
    [(NPY, 4, 1), (NPZ, 4, 2), (CSV, 1, 3), (ARROW, 4, 2)],
    ids=["npy", "npz", "csv", "arrow"],
)
def test_what_goes_in_comes_out(kind: BodyKind, max_ndim: int, names: int, dtype: str) -> None:
    @settings(max_examples=examples(15), deadline=None, derandomize=True)
    @given(tensors_of(dtype, max_ndim, names))
    def check(drawn: tuple[Signature, Tensors]) -> None:
        signature, tensors = drawn
        assert_same(kind.decode(kind.encode(tensors), signature, LIMIT), tensors)

    check()


@pytest.mark.parametrize("dtype", DTYPES)
def test_messagepack_takes_and_gives_the_rows(dtype: str) -> None:
    @settings(max_examples=examples(15), deadline=None, derandomize=True)
    @given(tensors_of(dtype, 4, 2))
    def check(drawn: tuple[Signature, Tensors]) -> None:
        signature, tensors = drawn
        rows = msgpack.unpackb(MESSAGEPACK.encode(tensors))["predictions"]
        assert_same(MESSAGEPACK.decode(msgpack.packb({"instances": rows}), signature, LIMIT), tensors)

    check()


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("application/json", None),
        ("Application/JSON; charset=utf-8", None),
        ("application/x-npy", NPY),
        ("text/csv; charset=utf-8", CSV),
        ("application/vnd.msgpack", MESSAGEPACK),
    ],
)
def test_kind_of_a_body_is_its_media_type(header: str, kind: BodyKind | None) -> None:
    assert kind_of_body(header) is kind


def test_unknown_media_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        UnsupportedMedia, match=r"must be application/json, or one of application/x-npy, .* Received: a/b"
    ):
        kind_of_body("a/b")


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("", None),
        ("*/*", None),
        ("text/html, */*;q=0.8", None),
        ("text/csv", CSV),
        ("application/json;q=0.5, application/x-npz", NPZ),
        ("application/x-npy;q=0, application/json;q=0.1", None),
        ("application/x-npy;q=high", None),
        ("image/png", None),
    ],
)
def test_answer_is_what_the_caller_likes_best(header: str, kind: BodyKind | None) -> None:
    assert kind_of_answer(header) is kind


ONE = Signature(inputs=(spec("x", "float32", 2),), outputs=(spec("y", "float32", 2),))
TWO = Signature(inputs=(spec("x", "float32"), spec("z", "string")), outputs=(spec("y", "float32"),))


@pytest.mark.parametrize(
    ("kind", "specs", "message"),
    [
        (NPY, TWO.inputs, "holds one array, and these are 2"),
        (CSV, (spec("x", "float32", 2, 2),), "a value or a list of fixed length a row, and `x` has neither"),
        (CSV, (spec("x", "float32", None),), "a value or a list of fixed length a row, and `x` has neither"),
    ],
)
def test_tensors_that_do_not_go_into_a_form_are_refused(kind: BodyKind, specs: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        kind.check(specs)


@pytest.mark.parametrize(
    ("library", "module", "kind"), [("pyarrow", "arrow_table", ARROW), ("msgpack", "messagepack", MESSAGEPACK)]
)
def test_form_without_its_library_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, library: str, module: str, kind: BodyKind
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"service.protocols.bodies.{module}", raising=False)
    with pytest.raises(UnsupportedMedia, match=r"needs a library .* pip install 'layerserve\[bodies\]'"):
        kind.check(ONE.inputs)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@settings(max_examples=examples(60), deadline=None, derandomize=True)
@given(body=st.binary(max_size=60))
def test_any_bytes_are_tensors_or_the_callers_mistake(kind: BodyKind, body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        kind.decode(body, ONE, LIMIT)


@pytest.mark.parametrize("kind", [NPY, NPZ, ARROW], ids=lambda kind: kind.media_type)
def test_any_damaged_byte_is_survived(kind: BodyKind) -> None:
    body = kind.encode({"x": np.array([[1, 2], [3, 4]], np.float32)})
    for place in range(len(body)):
        for value in (0, 127, 255, body[place] ^ 1):
            damaged = body[:place] + bytes([value]) + body[place + 1 :]
            with contextlib.suppress(InvalidRequest):
                kind.decode(damaged, ONE, LIMIT)
