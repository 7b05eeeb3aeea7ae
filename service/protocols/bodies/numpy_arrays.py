"""NumPy's own files: `.npy` for the one input, `.npz` for any. A `.npy` is used where it lies, without a copy."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from typing import Any

import numpy as np

from models.manifest import Signature, Tensors, TensorSpec
from service.errors import InvalidRequest
from service.protocols.bodies.fitting import check_names, fit, fit_all

_SUFFIX = ".npy"
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# NumPy reads the header as a Python literal, which can be wrong in many ways.
_HEADER_ERRORS = (
    ValueError, KeyError, TypeError, OverflowError, SyntaxError, tokenize.TokenError, MemoryError, RecursionError,
)  # fmt: skip


def npy_misfit(specs: tuple[TensorSpec, ...]) -> str | None:
    """Why a `.npy` cannot hold these tensors; it holds one."""
    return None if len(specs) == 1 else f"holds one array, and these are {len(specs)}. Use application/x-npz."


def decode_npy(body: bytes, signature: Signature, limit: int) -> Tensors:  # noqa: ARG001 - nothing is unpacked
    """The array of the one input."""
    spec = signature.inputs[0]
    return {spec.name: fit(spec, _read(spec.name, body))}


def encode_npy(tensors: Tensors) -> bytes:
    """The one array."""
    (values,) = tensors.values()
    file = io.BytesIO()
    np.lib.format.write_array(file, values, allow_pickle=False)
    return file.getvalue()


def decode_npz(body: bytes, signature: Signature, limit: int) -> Tensors:
    """An array for each input. More than `limit` bytes are never unpacked, whatever the archive says of its sizes."""
    arrays: Tensors = {}
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            names = [name.removesuffix(_SUFFIX) for name in archive.namelist()]
            check_names([spec.name for spec in signature.inputs], names)
            for name, member in zip(names, archive.infolist(), strict=True):
                with archive.open(member) as file:
                    content = file.read(limit + 1)
                limit -= len(content)
                if limit < 0:
                    raise InvalidRequest("The arrays are larger than a body may be. Send fewer rows at a time.")
                arrays[name] = _read(name, content)
    # What zipfile raises for archives that are broken, encrypted, or packed by other means.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError, KeyError) as error:
        raise InvalidRequest("The body is not an archive of .npy files, as numpy.savez writes it.") from error
    return fit_all(signature.inputs, arrays)


def encode_npz(tensors: Tensors) -> bytes:
    """All arrays, not compressed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, values in tensors.items():
            member = zipfile.ZipInfo(name + _SUFFIX)  # of a fixed date, so that the same answer is the same bytes
            archive.writestr(member, encode_npy({name: values}))
    return file.getvalue()


def _read(name: str, content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    dtype, shape, is_fortran = _header(name, file)
    start = file.tell()
    count = math.prod(shape)
    if dtype.hasobject:
        raise InvalidRequest(f"Input `{name}` must hold numbers, booleans or text. Received: Python objects.")
    if not dtype.itemsize or min(shape, default=0) < 0 or count * dtype.itemsize != len(content) - start:
        raise InvalidRequest(
            f"Input `{name}` must have the bytes that its header says: {dtype} of shape {shape}. "
            f"Received: {len(content) - start}."
        )
    try:
        flat = np.frombuffer(content, dtype, offset=start) if count else np.empty(0, dtype)
        return flat.reshape(shape, order="F" if is_fortran else "C")
    except ValueError as error:
        raise InvalidRequest(f"Input `{name}` has a shape that no array can have.") from error


def _header(name: str, file: io.BytesIO) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    try:
        shape, is_fortran, dtype = _READERS[np.lib.format.read_magic(file)](file)
    except _HEADER_ERRORS as error:
        raise InvalidRequest(f"Input `{name}` is not a .npy file, as numpy.save writes it.") from error
    return dtype, shape, is_fortran
