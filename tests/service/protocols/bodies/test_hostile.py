"""Bodies that lie: about their sizes, their types, or what they are."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from models.manifest import Signature, TensorSpec
from service.errors import InvalidRequest
from service.protocols.bodies import KINDS
from tests.service.fakes import spec

LIMIT = 10_000
NPY, NPZ, CSV, ARROW, MESSAGEPACK = KINDS.values()
ONE = Signature(inputs=(spec("x", "float32", None),), outputs=(spec("y", "float32"),))
WORDS = Signature(inputs=(spec("x", "string"),), outputs=(spec("y", "string"),))
FLAGS = Signature(inputs=(spec("x", "int8", nullable=True),), outputs=(spec("y", "float32"),))
GAPS = Signature(
    inputs=(
        TensorSpec(name="number", dtype="float32", shape=(None,), nullable=True),
        TensorSpec(name="flag", dtype="int8", shape=(None,), nullable=True),
        TensorSpec(name="word", dtype="string", shape=(None,), nullable=True),
    ),
    outputs=(spec("y", "float32"),),
)


def npy(descr: str, shape: str, data: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def npz(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def stream(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (npy("'<f4'", "(1000000000000, 2)", bytes(8)), "must have the bytes that its header says"),
        (npy("'<f4'", "(-1, -2)", bytes(8)), "must have the bytes that its header says"),
        (npy("'<f4'", "(1, 2)", bytes(9)), "must have the bytes that its header says"),
        (npy("'<U0'", "(1000000000000,)"), "must have the bytes that its header says"),
        (npy("'<f4'", "(1000000000000, 0)"), "must have values in its rows"),
        (npy("'<f4'", f"({'1,' * 70})", bytes(4)), "a shape that no array can have"),
        (npy("'|O'", "(1,)", b"\x80\x04N."), "Received: Python objects"),
        (npy("'<M8[s]'", "(1, 1)", bytes(8)), "must be float32. Received: datetime64"),
        (npy("'<c8'", "(1, 1)", bytes(8)), "must be float32. Received: complex64"),
        (npy("'|b1'", "(1, 1)", bytes(1)), "must be float32. Received: bool"),
        (npy("'<f8'", "(1, 1)", np.float64(1e300).tobytes()), "must hold numbers that fit float32"),
        (npy("[('a', '<f4')]", "(1, 1)", bytes(4)), "must be float32"),
        (npy("'<f4'", "(" * 3000), "is not a .npy file"),
        (b"\x93NUMPY\x09\x00", "is not a .npy file"),
        (b"", "is not a .npy file"),
    ],
)
def test_npy_that_lies_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        NPY.decode(body, ONE, LIMIT)


@pytest.mark.parametrize("padding", range(4))
def test_npy_reaches_the_model_in_order_and_aligned(padding: int) -> None:
    values = np.asfortranarray([[1, 2], [3, 4]], np.float32)
    header = f"{{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2)}}{' ' * padding}\n".encode()
    body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + values.tobytes("F")
    array = NPY.decode(body, ONE, LIMIT)["x"]
    assert (array.flags.c_contiguous, array.flags.aligned) == (True, True)
    np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("descr", ["'<U2'", "'>U2'"])
@pytest.mark.parametrize("code", [0x110000, 0xD800])
def test_text_of_no_characters_is_refused(descr: str, code: int) -> None:
    order = "little" if "<" in descr else "big"
    body = npy(descr, "(1,)", code.to_bytes(4, order) + bytes(4))
    with pytest.raises(InvalidRequest, match="codes that are no characters"):
        NPY.decode(body, WORDS, LIMIT)


def test_bytes_that_are_no_utf8_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="must hold UTF-8"):
        NPY.decode(npy("'|S1'", "(1,)", b"\xff"), WORDS, LIMIT)


SOUND = npy("'<f4'", "(1, 1)", bytes(4))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (npz([("x.npy", bytes(LIMIT * 10))], zipfile.ZIP_DEFLATED), "larger than a body may be"),
        (npz([("y.npy", SOUND)]), "The names must be `x`. Received: `y`."),
        (npz([("x.npy", SOUND), ("z.npy", SOUND)]), "The names must be `x`. Received: `x`, `z`."),
        (npz([("x.npy", b"no")]), "`x` is not a .npy file"),
        (npz([("x.npy", SOUND)])[:-10], "not an archive of .npy files"),
        (
            npz([("x.npy", SOUND)]).replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
            "not an archive",
        ),
        (SOUND, "not an archive of .npy files"),
    ],
)
def test_npz_that_lies_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        NPZ.decode(body, ONE, LIMIT)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_npz_with_a_name_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"The names must be `x`\. Received: `x`, `x`\."):
        NPZ.decode(npz([("x.npy", SOUND), ("x.npy", SOUND)]), ONE, LIMIT)


TABLE = pa.table({"x": pa.array([[1.0]], pa.list_(pa.float32()))})


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("rows", [1, 1000])
def test_compressed_arrow_is_unpacked(codec: str, rows: int) -> None:
    values = np.resize(np.float32([1, 2, 3]), (rows, 1))
    table = pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 1)})
    body = stream(table, compression=codec)
    np.testing.assert_array_equal(ARROW.decode(body, ONE, 4 * rows)["x"], values)
    if rows > 1:
        with pytest.raises(InvalidRequest, match=r"unpacked to at most 3999 bytes. Received: 4000\.$"):
            ARROW.decode(body, ONE, 3999)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("length", [2**62, -2, 0, 3999])
def test_compressed_buffer_that_lies_about_its_length_is_refused(codec: str, length: int) -> None:
    table = pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(1000, np.float32)), 1)})
    body = stream(table, compression=codec)
    assert body.count((4000).to_bytes(8, "little")) == 1
    lie = body.replace((4000).to_bytes(8, "little"), length.to_bytes(8, "little", signed=True))
    with pytest.raises(InvalidRequest):
        ARROW.decode(lie, ONE, LIMIT)


def test_batch_compressed_as_arrow_0_17_did_is_refused_before_it_is_unpacked() -> None:
    before = pa.default_memory_pool().max_memory()
    values = np.array([2**33, 0], np.int64)  # of which pyarrow would read that it unpacks to 8 GiB
    batch = pa.record_batch({"x": pa.array(values)})
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch, custom_metadata={"ARROW:experimental_compression": "zstd"})
    with pytest.raises(InvalidRequest, match="must be of Arrow's metadata version 5"):
        ARROW.decode(sink.getvalue().to_pybytes(), ONE, LIMIT)
    assert pa.default_memory_pool().max_memory() < before + 2**30


def test_compressed_batches_are_bounded_together() -> None:
    batch = pa.record_batch({"x": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(500, np.float32)), 1)})
    body = stream(pa.Table.from_batches([batch] * 3), compression="zstd")
    with pytest.raises(InvalidRequest, match="Received: 6000"):
        ARROW.decode(body, ONE, 5999)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.Array.from_buffers(pa.null(), 10**9, [None]), "must hold no null"),
        (pa.array([[1.0], [1.0, 2.0]]), "lists of several lengths"),
        (pa.array([[1.0], None]), "no null in place of a list"),
        (pa.array([[1.0, None]]), "must hold no null"),
        (pa.array([["a"]]), "must be float32. Received: string"),
        (pa.array([[{"a": 1}]]), "must be float32. Received: struct"),
        (pa.array([[], []], pa.list_(pa.float32())), "must have values in its rows"),
    ],
)
def test_arrow_of_other_values_is_refused(column: pa.Array, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        ARROW.decode(stream(pa.table({"x": column})), ONE, LIMIT)


def test_dictionary_that_unpacks_to_too_much_text_is_refused() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int8)), pa.array(["a" * 1000]))
    with pytest.raises(InvalidRequest, match="is too large: 100000 strings of up to 1000 characters"):
        ARROW.decode(stream(pa.table({"x": column})), WORDS, LIMIT)


VIEWS = pa.array(["a" * 1000] * 20, pa.string_view())


@pytest.mark.parametrize(
    ("signature", "column", "message"),
    [
        (WORDS, VIEWS, "`x` may have at most 19999 bytes. Received: 20000."),
        (WORDS, pa.DictionaryArray.from_arrays([0], VIEWS), "`x` may have at most 19999 bytes. Received: 20000."),
        (
            FLAGS,
            pa.Array.from_buffers(pa.null(), 10**9, [None]),
            "`x` may have at most 19999 bytes. Received: 8000000000.",
        ),
        (WORDS, pa.array([b"\xff"]), "not a sound Arrow IPC stream: Invalid UTF8"),
        (
            WORDS,
            pa.DictionaryArray.from_arrays([0], pa.array([None], pa.string())),
            "must hold strings. Row 0 holds null",
        ),
    ],
    ids=["views", "views in a dictionary", "nulls", "bytes", "null in a dictionary"],
)
def test_arrow_that_would_become_more_than_it_says_is_refused(
    signature: Signature, column: pa.Array, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        ARROW.decode(stream(pa.table({"x": column})), signature, 19_999)


@pytest.mark.parametrize(
    "kind", [pa.string_view(), pa.large_string(), pa.binary(), pa.large_binary(), pa.binary_view()]
)
def test_text_of_any_type_of_arrows_is_taken(kind: pa.DataType) -> None:
    long = "Łódź, and on, beyond the twelve bytes that a view holds itself"
    column = pa.array(["", "a", long], pa.string()).cast(kind)
    for found in (column, column.slice(1), column.dictionary_encode()):
        table = pa.table({"x": found})
        assert ARROW.decode(stream(table), WORDS, LIMIT)["x"].tolist() == ["", "a", long][-len(found) :]


def test_column_without_any_value_has_no_type_of_its_own() -> None:
    table = pa.table({"number": pa.nulls(2), "flag": pa.nulls(2), "word": pa.nulls(2)})
    found = ARROW.decode(stream(table), GAPS, LIMIT)
    np.testing.assert_array_equal(found["number"], np.array([np.nan, np.nan], np.float32))
    assert (found["flag"].tolist(), found["word"].tolist()) == ([-128, -128], ["", ""])


def test_gaps_are_what_stands_for_them() -> None:
    table = pa.table({
        "number": pa.array([1, None], pa.int8()),
        "flag": pa.array([None, True]),
        "word": pa.array(["a", None]).dictionary_encode(),
    })  # fmt: skip
    from_arrow = ARROW.decode(stream(table), GAPS, LIMIT)
    from_csv = CSV.decode(b"word,flag,number\na,,1\n,TRUE,\n", GAPS, LIMIT)
    for tensors in (from_arrow, from_csv):
        np.testing.assert_array_equal(tensors["number"], np.array([1, np.nan], np.float32))
        assert tensors["flag"].tolist() == [-128, 1]
        assert tensors["word"].tolist() == ["a", ""]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The first line must name the columns"),
        (b"number,flag,word\n", "at least one row under the names"),
        (b"number,flag\n1,true\n", "The names must be `flag`, `number`, `word`. Received: `flag`, `number`."),
        (b"number,flag,word,word\n1,true,a,b\n", "Received: `flag`, `number`, `word`, `word`."),
        (b"number,flag,word\n1,true\n", "must have 3 cells. Row 0 has 2."),
        (b"number,flag,word\n1,true,a\n1_000,true,a\n", "`number` must hold numbers. Row 1 holds '1_000'."),
        (b"number,flag,word\n1e999,true,a\n", "must hold numbers that fit float32. Row 0 holds '1e999'."),
        (b"number,flag,word\n1e39,true,a\n", "must hold numbers that fit float32. Row 0 holds 1e\\+39."),
        (b"number,flag,word\n1,yes,a\n", "`flag` must hold true or false. Row 0 holds 'yes'."),
        (b'number,flag,word\n1,true,"a"b\n', "not CSV in UTF-8"),
        (b"number,flag,word\n1,true,\xff\n", "not CSV in UTF-8"),
        (b"number,flag,word\n1,true," + b"a" * 200_000, "not CSV in UTF-8: field larger than field limit"),
    ],
)
def test_csv_of_other_values_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        CSV.decode(body, GAPS, LIMIT)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not MessagePack"),
        (b"\x91" * 5000, "not MessagePack"),
        (b"\xdd\xff\xff\xff\xff", "not MessagePack"),
        (b"\x81\xa9instances\x90", "a list of at least one row"),
        (b"\x81\xa9instances\x91\xa1a", "must hold numbers. Row 0 holds 'a'"),
        (b"\x81\xa9instances\x91\xc4\x01a", "must hold numbers. Row 0 holds b'a'"),
        (b"\x81\xa9instances\x91\xd6\xff\x00\x00\x00\x00", "must hold numbers. Row 0 holds"),
        (b"\x81\xa9instances\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xc0", "not MessagePack"),
        (b"\x81\xa9instances\x91\xd4\x05a", "not MessagePack: there is an extension of type 5"),
        (b"\x81\xa9instances\x91\x91\xd4\x05a", "not MessagePack: there is an extension of type 5"),
        (b"\xc0", "a map with the one key `instances`"),
    ],
)
def test_messagepack_of_other_values_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        MESSAGEPACK.decode(body, ONE, LIMIT)


def test_npz_does_not_tell_the_time() -> None:
    with zipfile.ZipFile(io.BytesIO(NPZ.encode({"x": np.ones(2, np.float32)}))) as archive:
        assert [member.date_time[0] for member in archive.infolist()] == [1980]
