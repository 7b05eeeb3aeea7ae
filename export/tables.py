"""Tables as they lie on disk: read in batches, never whole, as often as asked."""

from __future__ import annotations

import csv
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as arrow_parquet

from export.config import data_name
from models.artifact import file_record

_BLOCK_BYTES = 4 * 2**20
_BATCH_ROWS = 65_536
_DELIMITERS = ",;\t|"
_DAMAGE = (pa.ArrowInvalid, pa.ArrowNotImplementedError, zipfile.BadZipFile, zlib.error, EOFError)
_UNITS = {"Y": "D", "M": "D", "W": "D", "h": "s", "m": "s", "ps": "ns", "fs": "ns", "as": "ns"}
"""Arrow's units of time for those of NumPy that it lacks."""


@dataclass(frozen=True)
class Table:
    """Rows of named columns.

    Attributes:
        name: Of the data set.
        columns: Names that a model's inputs can have.
        headers: What the file calls the columns.
        read: Gives the rows from the first to the last, each time it is called, the same batches in the same order.
        sha256: Of the content.
        notes: What a user should know of how it is read.
    """

    name: str
    columns: tuple[str, ...]
    headers: tuple[str, ...]
    read: Callable[[], Iterator[pa.RecordBatch]]
    sha256: str
    notes: tuple[str, ...] = ()


def open_table(path: Path, *, encoding: str = "utf-8") -> Table:
    """Opens a CSV, Parquet or NPZ file, told by its name's ending.

    Raises:
        ValueError: the file is of no such kind, damaged or empty. (While it is read: a ragged row, a wrong encoding.)
        OSError: it cannot be read.
    """
    readers: dict[str, Callable[[Path, str], tuple[list[str], Callable[[list[str]], Iterator[pa.RecordBatch]]]]] = {
        ".csv": _open_csv,
        ".tsv": _open_csv,
        ".parquet": _open_parquet,
        ".npz": _open_npz,
    }
    opener = readers.get(path.suffix.lower())
    if opener is None:
        raise ValueError(f"Data must be a file that ends in {', '.join(readers)}, or a set's name. Received: {path}")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        headers, read = opener(path, encoding)
    except _DAMAGE as error:
        raise ValueError(f"{path.name} cannot be read: {_line(error)}") from error
    if not headers:
        raise ValueError(f"{path.name} has no columns: it must hold a target and something to predict it from.")
    columns, notes = usable_names(headers)
    return Table(
        name=data_name(str(path)),
        columns=tuple(columns),
        headers=tuple(headers),
        read=lambda: _batches(path, read(columns)),
        sha256=file_record(path).sha256,
        notes=tuple(notes),
    )


def _batches(path: Path, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except _DAMAGE as error:
        raise ValueError(f"{path.name} cannot be read: {_line(error)}") from error


def usable_names(headers: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names for a model's inputs from the headers of a file, and a line for each that had to change.

    Spaces around a name go, `/` and control characters become `_` (Keras allows none), an empty name becomes
    `column_<number>`, and one that is there already gets a number.
    """
    names: list[str] = []
    notes = []
    for number, header in enumerate(headers, start=1):
        base = re.sub(r"[/\x00-\x1f\x7f]", "_", header.strip()) or f"column_{number}"
        name, copy = base, 1
        while name in names or (copy > 1 and name in headers):
            copy += 1
            name = f"{base}_{copy}"
        if name != header:
            notes.append(f"Column {number}, {header!r}, is called {name!r}.")
        names.append(name)
    return names, notes


def _open_csv(path: Path, encoding: str) -> tuple[list[str], Callable[[list[str]], Iterator[pa.RecordBatch]]]:
    headers, delimiter = _csv_header(path, encoding)

    def read(columns: list[str]) -> Iterator[pa.RecordBatch]:
        last: str | None = None
        try:
            for batch in arrow_csv.open_csv(
                path,
                arrow_csv.ReadOptions(
                    column_names=columns, skip_rows_after_names=1, block_size=_BLOCK_BYTES, encoding=encoding
                ),
                arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(columns, pa.string()), null_values=[""], strings_can_be_null=True
                ),
            ):
                last = batch[-1][-1].as_py() if len(batch) else last
                yield batch
        except (pa.ArrowInvalid, UnicodeError) as error:
            raise ValueError(_csv_message(path, encoding, delimiter, len(columns), error)) from error
        if last and "\n" in last and not _ends_with_quote(path):
            raise ValueError(f"{path.name} must close every quote. The last cell holds all from {last[:20]!r} on.")

    return headers, read


def _csv_header(path: Path, encoding: str) -> tuple[list[str], str]:
    try:
        with path.open(encoding=encoding, newline="") as file:
            text = file.readline()
            delimiter = "\t" if path.suffix.lower() == ".tsv" else max(_DELIMITERS, key=_outside_quotes(text).count)
            file.seek(0)
            lines = (line.removeprefix("\ufeff") for line in file)  # a byte order mark is no part of a name
            header = next(csv.reader(lines, delimiter=delimiter), None)
            is_all = next(lines, None) is None
    except UnicodeError as error:
        raise ValueError(_encoding_message(path, encoding)) from error
    except LookupError as error:
        raise ValueError(f"There is no encoding {encoding!r}. Common ones: utf-8, latin-1, cp1252, utf-16.") from error
    except csv.Error as error:
        raise ValueError(
            f"The line of column names in {path.name} cannot be read. Is a quote not closed? {_line(error)}"
        ) from error
    if header and is_all and "\n" in header[-1] and not _ends_with_quote(path):
        raise ValueError(f"{path.name} must close every quote. The one in the line of column names is open.")
    if header is None:
        raise ValueError(f"{path.name} is empty: it needs a line of column names, then rows.")
    if not header:
        raise ValueError(f"The first line of {path.name} must hold the column names. It is blank: remove it.")
    return header, delimiter


def _ends_with_quote(path: Path) -> bool:
    """Whether the last character is a quote, as it is where the last cell holds line breaks and is closed."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1024))
        return file.read().replace(b"\0", b"").rstrip().endswith(b'"')  # utf-16 has zeros between


def _outside_quotes(text: str) -> str:
    return re.sub(r'"[^"]*"', "", text)


def _csv_message(path: Path, encoding: str, delimiter: str, width: int, error: Exception) -> str:
    if isinstance(error, UnicodeError) or "UTF8" in str(error):
        return _encoding_message(path, encoding)
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        start = 1
        try:
            for row in reader:
                if row and len(row) != width:
                    hint = " Is a quote not closed?" if reader.line_num > start else ""
                    return (
                        f"Every row of {path.name} must have {width} cells, as the first has. "
                        f"Line {start} has {len(row)}. Mend it, or quote cells that hold {delimiter!r}.{hint}"
                    )
                start = reader.line_num + 1
        except csv.Error:
            return f"The row of {path.name} at line {start} has a cell above 128 KB. Is a quote not closed?"
    return f"{path.name} is no CSV that can be read: {_line(error)}"


def _encoding_message(path: Path, encoding: str) -> str:
    return f"{path.name} is not {encoding} text. Name its encoding, such as --encoding latin-1 or --encoding utf-16."


def _open_parquet(path: Path, encoding: str) -> tuple[list[str], Callable[[list[str]], Iterator[pa.RecordBatch]]]:  # noqa: ARG001
    with arrow_parquet.ParquetFile(path) as file:
        headers = [name for name in file.schema_arrow.names if not re.fullmatch(r"__index_level_\d+__", name)]

    def read(columns: list[str]) -> Iterator[pa.RecordBatch]:
        with arrow_parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=headers):
                yield pa.RecordBatch.from_arrays(batch.columns, names=columns)

    return headers, read


def _open_npz(path: Path, encoding: str) -> tuple[list[str], Callable[[list[str]], Iterator[pa.RecordBatch]]]:  # noqa: ARG001
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()

    def read(columns: list[str]) -> Iterator[pa.RecordBatch]:
        with zipfile.ZipFile(path) as archive, ExitStack() as stack:
            arrays = [_NpyStream(stack.enter_context(archive.open(name)), name) for name in members]
            sizes = {array.shape[0] for array in arrays}
            if len(sizes) > 1:
                raise ValueError(f"The arrays of {path.name} must have as many rows each. Received: {sorted(sizes)}")
            for start in range(0, sizes.pop(), _BATCH_ROWS):
                rows = min(_BATCH_ROWS, arrays[0].shape[0] - start)
                yield pa.RecordBatch.from_arrays([array.read(rows) for array in arrays], names=columns)

    return [name.removesuffix(".npy") for name in members], read


class _NpyStream:
    """An array in NumPy's file format, read some rows at a time."""

    def __init__(self, file: Any, name: str) -> None:
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        try:
            self.shape, is_fortran, self.dtype = readers[np.lib.format.read_magic(file)](file)
        except (ValueError, KeyError) as error:
            raise ValueError(f"`{name}` is no array that can be read: save it by numpy.savez.") from error
        self.file, self.name = file, name
        if self.dtype.kind not in "biufUSM" or not self.shape or (is_fortran and len(self.shape) > 1):
            raise ValueError(
                f"`{name}` must be an array of numbers, strings, booleans or dates in C order, rows on axis 0. "
                f"Received: {self.dtype} of shape {self.shape}{' in Fortran order' if is_fortran else ''}"
            )
        if 0 in self.shape[1:]:
            raise ValueError(f"`{name}` must hold something in each row. Received: shape {self.shape}")
        if self.dtype.kind == "M" and np.datetime_data(self.dtype)[0] == "generic":
            raise ValueError(f"The dates of `{name}` must have a unit, such as datetime64[s]. Received: {self.dtype}")

    def read(self, rows: int) -> pa.Array:
        shape = (rows, *self.shape[1:])
        content = self.file.read(int(np.prod(shape)) * self.dtype.itemsize)
        if len(content) < int(np.prod(shape)) * self.dtype.itemsize:
            raise ValueError(f"`{self.name}` ends before its {self.shape[0]} rows do: save it anew.")
        try:
            return to_arrow(np.frombuffer(content, self.dtype).reshape(shape))
        except UnicodeDecodeError as error:
            raise ValueError(f"`{self.name}` must hold UTF-8 text. Save it as strings, not as bytes.") from error


def to_arrow(values: np.ndarray) -> pa.Array:
    """A column from an array: of rank 1 its values, of a higher rank nested lists of fixed size."""
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    if values.dtype.kind == "M":
        unit = np.datetime_data(values.dtype)[0]
        values = values.astype(f"datetime64[{_UNITS.get(unit, unit)}]")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    array = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size in reversed(values.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, int(size))
    return array


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
