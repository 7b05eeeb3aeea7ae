"""Reading tables: every kind of file gives its rows again and again, and what cannot be read is told in one line."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as arrow_parquet
import pytest

from export.tables import Table, open_table, to_arrow, usable_names


def rows(table: Table) -> list[dict[str, object]]:
    return [row for batch in table.read() for row in batch.to_pylist()]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_csv_gives_text_and_null_for_empty_cells(tmp_path: Path) -> None:
    table = open_table(write(tmp_path / "a.csv", 'x,y\n1,"two, too"\n,NA\n'))
    assert rows(table) == [{"x": "1", "y": "two, too"}, {"x": None, "y": "NA"}]


def test_csv_is_read_as_often_as_asked(tmp_path: Path) -> None:
    table = open_table(write(tmp_path / "a.csv", "x\n1\n2\n"))
    assert rows(table) == rows(table) == [{"x": "1"}, {"x": "2"}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_told_from_the_header(tmp_path: Path, delimiter: str) -> None:
    text = delimiter.join(["x", "y"]) + "\n" + delimiter.join(["1", "2"]) + "\n"
    assert rows(open_table(write(tmp_path / "a.csv", text))) == [{"x": "1", "y": "2"}]


def test_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    assert rows(open_table(write(tmp_path / "a.csv", "\ufeffx,y\n1,2\n"))) == [{"x": "1", "y": "2"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16"])
def test_byte_order_mark_of_any_encoding_is_no_part_of_a_name(tmp_path: Path, encoding: str) -> None:
    text = '"x y",z\n1,2\n' if encoding == "utf-16" else '\ufeff"x y",z\n1,2\n'  # utf-16 writes its own
    path = write(tmp_path / "a.csv", text.encode(encoding))
    assert rows(open_table(path, encoding=encoding)) == [{"x y": "1", "z": "2"}]


def test_cell_and_header_may_hold_line_breaks(tmp_path: Path) -> None:
    table = open_table(write(tmp_path / "a.csv", '"x\ny",z\n"1\n2",3\n'))
    assert rows(table) == [{"x_y": "1\n2", "z": "3"}]


def test_encoding_is_the_one_that_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "größe\nmüde\n".encode("latin-1"))
    assert rows(open_table(path, encoding="latin-1")) == [{"größe": "müde"}]


@pytest.mark.parametrize("content", ["größe\n1\n".encode("latin-1"), "x\nmüde\n".encode("latin-1")])
def test_wrong_encoding_is_told_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "a.csv", content)
    with pytest.raises(ValueError, match=r"^a.csv is not utf-8 text. Name its encoding, such as --encoding latin-1"):
        rows(open_table(path))


def test_unknown_encoding_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no encoding 'klingon'"):
        open_table(write(tmp_path / "a.csv", "x\n1\n"), encoding="klingon")


def test_ragged_row_is_told_with_its_line(tmp_path: Path) -> None:
    table = open_table(write(tmp_path / "a.csv", "x,y\n1,2\n1,2,3\n"))
    with pytest.raises(ValueError, match=r"^Every row of a.csv must have 2 cells, as the first has. Line 3 has 3\."):
        rows(table)


def test_empty_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^a.csv is empty: it needs a line of column names"):
        open_table(write(tmp_path / "a.csv", ""))


def test_blank_first_line_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^The first line of a.csv must hold the column names. It is blank"):
        open_table(write(tmp_path / "a.csv", "\nx,y\n1,2\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('x,"y\n1,2\n', r"^a.csv must close every quote. The one in the line of column names is open"),
        ('x,"y\n' + "1,2\n" * 50_000, r"^The line of column names in a.csv cannot be read. Is a quote not closed\?"),
        ('x,y\n1,2\n3,"4\n5,6\n', r"^a.csv must close every quote. The last cell holds all from '4\\n5,6\\n' on"),
        ('x,y\n1,2\n"3,4\n5,6\n', r"Line 3 has 1\..* Is a quote not closed\?"),
        ('x,y\n1,2\n"3,4\n' + "5,6\n" * 50_000, r"^The row of a.csv at line 3 has a cell above 128 KB"),
    ],
    ids=["names", "names of a long file", "last column", "first column", "first column of a long file"],
)
def test_quote_that_is_not_closed_is_told(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rows(open_table(write(tmp_path / "a.csv", content)))


def test_last_cell_may_hold_line_breaks(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'x,y\n1,"2\n3"\n\n'.encode("utf-16"))
    assert rows(open_table(path, encoding="utf-16")) == [{"x": "1", "y": "2\n3"}]


@pytest.mark.parametrize("name", ["a.parquet", "a.npz"])
def test_damaged_file_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} cannot be read: "):
        open_table(write(tmp_path / name, "not what the name says"))


def test_file_of_another_kind_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^Data must be a file that ends in .csv, .tsv, .parquet, .npz, or a set's"):
        open_table(tmp_path / "a.xlsx")


def test_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^There is no file .*a\.csv"):
        open_table(tmp_path / "a.csv")


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    wanted = [{"x": 1, "y": "a"}, {"x": None, "y": "b"}]
    arrow_parquet.write_table(pa.Table.from_pylist(wanted), tmp_path / "a.parquet")
    assert rows(open_table(tmp_path / "a.parquet")) == wanted


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_gives_a_column_an_array(tmp_path: Path, save: object) -> None:
    save(tmp_path / "a.npz", x=np.arange(4).reshape(2, 2), y=np.array(["a", "b"]))  # type: ignore[operator]
    assert rows(open_table(tmp_path / "a.npz")) == [{"x": [0, 1], "y": "a"}, {"x": [2, 3], "y": "b"}]


@pytest.mark.parametrize("array", [np.array([{}, {}], dtype=object), np.array([1j, 2j]), np.array(5)])
def test_npz_that_holds_something_else_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", x=array)
    with pytest.raises(
        ValueError, match=r"^`x.npy` must be an array of numbers, strings, booleans or dates in C order"
    ):
        rows(open_table(tmp_path / "a.npz"))


def test_npz_of_different_lengths_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(2), y=np.arange(3))
    with pytest.raises(ValueError, match=r"must have as many rows each. Received: \[2, 3\]"):
        rows(open_table(tmp_path / "a.npz"))


@pytest.mark.parametrize("dtype", [">f8", ">i4", ">U3", ">M8[s]"])
def test_npz_of_the_other_byte_order_is_read(tmp_path: Path, dtype: str) -> None:
    wanted = np.array([1, 2], "<M8[s]" if "M" in dtype else "i8").astype(dtype)
    np.savez(tmp_path / "a.npz", x=wanted)
    assert [row["x"] for row in rows(open_table(tmp_path / "a.npz"))] == wanted.tolist()


@pytest.mark.parametrize("unit", ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "25s"])
def test_npz_dates_of_any_unit_are_read(tmp_path: Path, unit: str) -> None:
    wanted = np.array(["1998-01-01", "NaT"], f"M8[{unit}]")
    np.savez(tmp_path / "a.npz", x=wanted)
    read = [row["x"] for row in rows(open_table(tmp_path / "a.npz"))]
    assert [None if cell is None else np.datetime64(cell) for cell in read] == [wanted[0], None]  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([b"\xff"]), r"^`x.npy` must hold UTF-8 text\. Save it as strings, not as bytes"),
        (np.zeros((3, 0)), r"^`x.npy` must hold something in each row. Received: shape \(3, 0\)"),
        (np.array(["NaT"], "M8"), r"^The dates of `x.npy` must have a unit"),
        (np.zeros(3, np.longdouble), r"^a.npz cannot be read: "),
    ],
)
def test_npz_array_that_no_column_can_be_is_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "a.npz", x=array)
    with pytest.raises(ValueError, match=message):
        rows(open_table(tmp_path / "a.npz"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_with_a_damaged_byte_is_told(tmp_path: Path, save: object) -> None:
    save(tmp_path / "a.npz", x=np.arange(1000))  # type: ignore[operator]
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[len(content) // 2] ^= 0xFF
    with pytest.raises(ValueError, match=r"^a.npz cannot be read: "):
        rows(open_table(write(tmp_path / "a.npz", bytes(content))))


def test_npz_member_that_is_no_array_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("notes.txt", "not an array")
    with pytest.raises(ValueError, match=r"^`notes.txt` is no array that can be read"):
        rows(open_table(tmp_path / "a.npz"))


def test_npz_array_shorter_than_it_says_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(10))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", (tmp_path / "x.npy").read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"^`x.npy` ends before its 10 rows do"):
        rows(open_table(tmp_path / "a.npz"))


def test_file_without_columns_is_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz")
    arrow_parquet.write_table(pa.table({}), tmp_path / "a.parquet")
    for name in ("a.npz", "a.parquet"):
        with pytest.raises(ValueError, match=rf"^{name} has no columns"):
            open_table(tmp_path / name)


def test_hash_is_that_of_the_content(tmp_path: Path) -> None:
    first, second = (open_table(write(tmp_path / "a.csv", f"x\n{n}\n")) for n in (1, 2))
    assert first.sha256 != second.sha256


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        (["a", "b"], ["a", "b"]),
        (["größe m²", "東京"], ["größe m²", "東京"]),
        ([" a ", "b\n"], ["a", "b"]),
        (["km/h", "x\ty"], ["km_h", "x_y"]),
        (["", "a", ""], ["column_1", "a", "column_3"]),
        (["a", "a", "a_2", "a"], ["a", "a_3", "a_2", "a_4"]),
    ],
)
def test_headers_become_names_that_inputs_can_have(headers: list[str], names: list[str]) -> None:
    assert usable_names(headers)[0] == names


def test_changed_name_is_told() -> None:
    assert usable_names(["a", "km/h"])[1] == ["Column 2, 'km/h', is called 'km_h'."]


def test_array_of_any_rank_becomes_a_column() -> None:
    assert to_arrow(np.arange(8).reshape(2, 2, 2)).to_pylist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
