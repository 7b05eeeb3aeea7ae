"""The quick ways from JSON to arrays against the exact one: the same array, or the same error."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.manifest import Signature, TensorSpec
from service.errors import InvalidRequest
from service.protocols import json_rows, tensors
from service.protocols.json_rows import LARGE_NUMBERS_BYTES, RowsDecoder
from tests.examples import examples

DTYPES = ["bool", "int8", "int32", "int64", "uint8", "uint32", "uint64", "float16", "float32", "float64", "string"]
SHAPES = [(None,), (None, 2), (None, None), (None, 2, 2), (None, None, 2, 1), (None, 2, None, 1, 1)]

numbers = st.one_of(
    st.integers(-3, 300),
    st.sampled_from([2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 65504.0, 65519.9, 65520.0, 3.4028235e38, 3.4028236e38, 1e39, 1e308, 5e-324, 1e-46]),
)
strangers = st.one_of(
    st.none(), st.booleans(), st.text(max_size=3), st.just({}), st.just([]), st.sampled_from(["\0", "[", "NaN", "null"])
)
specs = st.builds(
    lambda dtype, shape, nullable: TensorSpec(name="x", dtype=dtype, shape=shape, nullable=nullable),
    st.sampled_from(DTYPES), st.sampled_from(SHAPES), st.booleans(),
)  # fmt: skip


def exactly(spec: TensorSpec, body: bytes) -> np.ndarray:
    """The way without shortcuts."""
    instances = json_rows._instances(body)
    return tensors._decode_exactly(spec, json_rows._columns(instances, ["x"])["x"])


def outcome(decode: Any) -> tuple[Any, ...]:
    try:
        array = decode()
    except InvalidRequest as error:
        return ("refused", str(error))
    return (array.dtype, array.shape, array.tobytes(), array.flags.writeable)


def assert_alike(spec: TensorSpec, body: bytes) -> None:
    signature = Signature(inputs=(spec,), outputs=(spec,))
    quick = outcome(lambda: RowsDecoder(signature).decode(body)["x"])
    assert quick == outcome(lambda: exactly(spec, body))


@st.composite
def rows_of(draw: st.DrawFn, shape: tuple[int | None, ...], leaves: st.SearchStrategy[Any]) -> Any:
    """Rows of one shape that fits, but for what is then put somewhere, taken away, or wrapped."""
    sizes = [draw(st.integers(0, 3)) if size is None else size for size in shape]

    def build(left: list[int]) -> Any:
        return [build(left[1:]) for _ in range(left[0])] if left else draw(leaves)

    rows = build(sizes)
    if draw(st.booleans()):
        return rows
    target = rows
    while target and isinstance(target[0], list) and draw(st.booleans()):
        target = draw(st.sampled_from([part for part in target if isinstance(part, list)]))
    if target and draw(st.booleans()):
        where = draw(st.integers(0, len(target) - 1))
        target[where] = draw(st.one_of(strangers, st.just([target[where]]), st.just([]), numbers))
    elif target and draw(st.booleans()):
        target.pop()
    else:
        target.append(draw(st.one_of(strangers, numbers)))
    return rows


@settings(max_examples=examples(600), deadline=None, derandomize=True)
@given(st.data())
def test_any_rows_give_the_same_array_or_the_same_error(data: st.DataObject) -> None:
    spec = data.draw(specs.filter(lambda spec: not (spec.nullable and spec.dtype == "bool")))  # which there is none of
    leaves = numbers
    if spec.dtype in {"bool", "string"}:
        leaves = st.booleans() if spec.dtype == "bool" else st.text(max_size=4)
    elif spec.dtype[0] in "iu":
        leaves = st.integers(int(np.iinfo(spec.dtype).min), int(np.iinfo(spec.dtype).max))
    if spec.nullable:
        leaves = st.one_of(leaves, st.none())
    rows = data.draw(rows_of(spec.shape, leaves))
    if data.draw(st.integers(0, 4)) == 0:
        rows = [{"x": row} for row in rows]
    separators = data.draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n\t", " :\r\n")]))
    assert_alike(spec, json.dumps({"instances": rows}, separators=separators).encode())


@settings(max_examples=examples(600), deadline=None, derandomize=True)
@given(st.data())
def test_damaged_bodies_get_the_same_error(data: st.DataObject) -> None:
    body = bytearray(b'{"instances":[[1,-2.5e3],[30,0.125]]}')
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.integers(0, len(body)))
        length = data.draw(st.integers(0, 2))
        body[where : where + length] = data.draw(st.sampled_from([*b'[]{},:"-+.eE0 \t\x00\xff1', *b"Ntf\\"])).to_bytes()
    assert_alike(TensorSpec(name="x", dtype="float32", shape=(None, 2)), bytes(body))


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint64"])
@pytest.mark.parametrize(
    "body",
    [
        '{"instances":[[[1],2,3],4]}',
        '{"instances":[[1,2],3,[4]]}',
        '{"instances":[[1,2],[[3],[4]]]}',
        '{"instances":[[],[1,2]]}',
        '{"instances":[[1,2]],"instances":[[3,4]]}',
        '{"instances":[[1]],"instances":[[3,4]]}',
        '{"\\u0069nstances":[[3,4]]}',
        '{"instances":[[3,4]],"[":1}',
        ' {"instances":[[3,4]]}',
        '\ufeff{"instances":[[3,4]]}',
        '{"instances":[[3,4]]}\0',
        '{"instances":{"x":[3,4]}}',
        '[{"instances":[[3,4]]}]',
        '{"instances":[[-0,0]]}',
        '{"instances":[[1e400,0]]}',
        '{"instances":[[01,0]]}',
        '{"instances":' + "[" * 1100 + "]" * 1100 + "}",
        '{"instances":' + "[" * 500 + "1" + "]" * 500 + "}",
    ],
)
def test_body_that_could_deceive_the_quick_way_does_not(dtype: Any, body: str) -> None:
    assert_alike(TensorSpec(name="x", dtype=dtype, shape=(None, 2)), body.encode())


@given(st.lists(st.integers(-(2**63), 2**64), min_size=1, max_size=4))
@example([2**53 + 1, -(2**53) - 1])
@settings(max_examples=examples(100), deadline=None, derandomize=True)
def test_integers_are_exact_to_the_last_of_64_bits(values: list[int]) -> None:
    for dtype in ("int64", "uint64", "float64", "float32"):
        assert_alike(TensorSpec.model_validate({"name": "x", "dtype": dtype, "shape": (None,)}),
                     json.dumps({"instances": values}).encode())  # fmt: skip


def test_common_bodies_go_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "_instances", None)
    spec = TensorSpec(name="x", dtype="float32", shape=(None, 3))
    decoder = RowsDecoder(Signature(inputs=(spec,), outputs=(spec,)))
    for rows in ([[1, 2.5, -3e-2]], [[0, 0, 0], [1, 2, 3]]):
        assert decoder.decode(json.dumps({"instances": rows}).encode())["x"].tolist() == np.float32(rows).tolist()


def test_answered_arrays_outlive_the_next_body() -> None:
    spec = TensorSpec(name="x", dtype="float64", shape=(None, 1))
    decoder = RowsDecoder(Signature(inputs=(spec,), outputs=(spec,)))
    first = decoder.decode(b'{"instances":[[1.5]]}')["x"]
    decoder.decode(b'{"instances":[[2.5]]}')
    assert first.tolist() == [[1.5]]


@pytest.mark.parametrize(
    ("lists", "row", "is_quick"),
    [(8190, b"[1]", True), (8192, b"[1]", False), (500, b"[%b]" % (b"1," * 999 + b"1"), True)],
)
def test_body_of_very_many_lists_is_not_quick(lists: int, row: bytes, is_quick: bool) -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=(None, 1))
    decoder = RowsDecoder(Signature(inputs=(spec,), outputs=(spec,)))
    body = b'{"instances":[%b]}' % b",".join([row] * lists)
    assert decoder.is_quick(body) == is_quick
    assert is_quick or decoder.decode_together([body]) is None


def test_large_body_is_decoded_like_a_small_one() -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=(None, 2))
    rows = np.arange(200_000, dtype=np.float32).reshape(-1, 2)
    body = json.dumps({"instances": rows.tolist()}).encode()
    assert len(body) > LARGE_NUMBERS_BYTES
    np.testing.assert_array_equal(RowsDecoder(Signature(inputs=(spec,), outputs=(spec,))).decode(body)["x"], rows)


@pytest.mark.parametrize(
    ("shape", "row", "is_sure"),
    [
        ((None, 2), [1, 2], True),
        ((None, 2), [1], False),
        ((None, 2), [1, 2, 3], False),
        ((None, 2), [[1], [2]], False),
        ((None, None), [1, 2], False),
        ((None, 2, 1), [[1], [2]], True),
        ((None, 2, 1), [[1, 2]], False),
        ((None,), 1, True),
        ((None,), [1], False),
    ],
)
@pytest.mark.parametrize("rows", [1, 3])
def test_only_body_is_taken_together_if_its_rows_have_the_shape(
    shape: tuple[int | None, ...], row: Any, is_sure: bool, rows: int
) -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=shape)
    found = RowsDecoder(Signature(inputs=(spec,), outputs=(spec,))).decode_together(
        [json.dumps({"instances": [row] * rows}, separators=(",", ":")).encode()]
    )
    assert (found is not None) == is_sure
    if found:
        np.testing.assert_array_equal(found[0]["x"], np.array([row] * rows, np.float32))
        assert found[1] == [rows]


@pytest.mark.parametrize("rows", [1, 10, 1000, 8000])
def test_list_within_a_row_is_found_in_a_body_of_any_length(rows: int) -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=(None, 2))
    decoder = RowsDecoder(Signature(inputs=(spec,), outputs=(spec,)))
    flat, deep = [b'{"instances":[%b]}' % b",".join([row] * rows) for row in (b"[1,2]", b"[[1],2]")]
    assert len(decoder.decode(flat)["x"]) == rows
    together = decoder.decode_together([flat, flat])
    assert together
    assert together[1] == [rows, rows]
    with pytest.raises(InvalidRequest):
        decoder.decode(deep)
    assert decoder.decode_together([deep]) is None
    assert decoder.decode_together([flat, deep]) is None


PIECES = [
    '{"instances":[[',
    '{"instances": [[',
    "]]}",
    ",",
    "1",
    "-2.5e3",
    " 7\n",
    '"',
    '{"x":',
    "}",
    "[",
    "]",
    "null",
    "1e400",
    "\0",
]


@settings(max_examples=600, deadline=None, derandomize=True)
@given(
    st.lists(
        st.one_of(
            st.just(["1", ",", "2"]),
            st.just(["1", ",", "2", "],[", "3", ",", "4"]),
            st.lists(st.sampled_from(PIECES), max_size=6),
        ),
        min_size=1,
    ),
    st.data(),
)
def test_bodies_decoded_together_are_what_each_is_alone(rows: list[list[str]], data: st.DataObject) -> None:
    spec = TensorSpec(
        name="x", dtype=data.draw(st.sampled_from(["float32", "int8", "uint64", "bool"])), shape=(None, 2)
    )
    decoder = RowsDecoder(Signature(inputs=(spec,), outputs=(spec,)))
    opening = data.draw(st.sampled_from(PIECES[:2]))
    bodies = [f"{opening}{''.join(row)}]]}}".encode() for row in rows]
    together = decoder.decode_together(bodies)
    if together is not None:
        inputs, counts = together
        alone = [decoder.decode(body)["x"] for body in bodies]
        np.testing.assert_array_equal(inputs["x"], np.concatenate(alone), strict=True)
        assert counts == [len(each) for each in alone]
    elif spec.dtype != "bool":
        assert rows != [["1", ",", "2"]] * len(rows)


@pytest.mark.parametrize(
    "rows",
    [
        ['1,{"x":2', '"y":3},4'],
        ['1,"', '",2'],
        ["1,[2", "3],4"],
        ["1", "2,3,4"],
        ["1,2", "", ""],
        ["1,2],[3", "4"],
        ["1],[2", "3,4"],
    ],
)
def test_bodies_that_are_whole_only_together_are_not_decoded_together(rows: list[str]) -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=(None, 2))
    decoder = RowsDecoder(Signature(inputs=(spec,), outputs=(spec,)))
    assert decoder.decode_together([f'{{"instances":[[{row}]]}}'.encode() for row in rows]) is None
