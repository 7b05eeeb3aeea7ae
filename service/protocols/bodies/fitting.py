"""Arrays that came as arrays, made those of a signature where nothing is lost but digits."""

from __future__ import annotations

import numpy as np

from models.manifest import Tensors, TensorSpec, dtype_name
from service.errors import InvalidRequest

_LONGEST_TEXT = 500
_LAST_CHARACTER = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)


def check_names(wanted: list[str], names: list[str]) -> None:
    """Checks that all names are there, each once, and no others.

    Raises:
        InvalidRequest: they are not.
    """
    if sorted(names) != sorted(wanted):
        raise InvalidRequest(f"The names must be {_shown(wanted)}. Received: {_shown(names)}.")


def fit_all(specs: tuple[TensorSpec, ...], arrays: Tensors) -> Tensors:
    """`fit` for each input, by its name."""
    return {spec.name: fit(spec, arrays[spec.name]) for spec in specs}


def fit(spec: TensorSpec, values: np.ndarray) -> np.ndarray:
    """An array in the dtype of `spec` and in C's order, its shape as it came; the same one where it is that already.

    Numbers go to floats, if they are not too large, and integers to integers in range; booleans to booleans, and to the
    int8 of a nullable input; text to strings, from bytes if they are UTF-8. Nothing else is converted.

    Raises:
        InvalidRequest: the values are of another kind or out of range, or there is none.
    """
    return np.require(_fit(spec, values), requirements=["C_CONTIGUOUS", "ALIGNED"])


def _fit(spec: TensorSpec, values: np.ndarray) -> np.ndarray:
    check_filled(spec, values.shape)
    kind, wanted = values.dtype.kind, spec.numpy_dtype
    if wanted.kind == "U" and kind in "US":
        return _text(spec, values)
    if wanted.kind == "f" and kind in "fiu":
        return _floats(spec, values)
    if wanted.kind in "iu" and kind in "iu":
        return _integers(spec, values)
    if kind == "b" and (wanted.kind == "b" or (spec.nullable and spec.dtype == "int8")):
        return values.astype(wanted, copy=False)
    raise InvalidRequest(f"Input `{spec.name}` must be {spec.dtype}. Received: {dtype_name(values)}.")


def check_filled(spec: TensorSpec, shape: tuple[int, ...]) -> None:
    """Refuses rows without values: they cost no bytes, so there could be more than a lifetime has seconds.

    Raises:
        InvalidRequest: there are rows, and they are empty.
    """
    if shape and shape[0] and 0 in shape:
        raise InvalidRequest(f"Input `{spec.name}` must have values in its rows. Received: shape {shape}.")


def _floats(spec: TensorSpec, values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        array: np.ndarray = values.astype(spec.numpy_dtype, copy=False)
    if array is not values and (np.isinf(array) & np.isfinite(values)).any():
        raise InvalidRequest(f"Input `{spec.name}` must hold numbers that fit {spec.dtype}. Received: larger ones.")
    return array


def _integers(spec: TensorSpec, values: np.ndarray) -> np.ndarray:
    bounds = np.iinfo(spec.dtype)
    if values.size and not bounds.min <= int(values.min()) <= int(values.max()) <= bounds.max:
        raise InvalidRequest(
            f"Input `{spec.name}` must hold integers from {bounds.min} to {bounds.max}. "
            f"Received: from {values.min()} to {values.max()}."
        )
    return values.astype(spec.numpy_dtype, copy=False)


def _text(spec: TensorSpec, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "S":
        try:
            return np.char.decode(values, "utf-8")
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"Input `{spec.name}` must hold UTF-8. Received: other bytes.") from error
    text = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))
    codes = text.reshape(-1).view(np.uint32)
    first, last = _SURROGATES
    if ((codes > _LAST_CHARACTER) | ((codes >= first) & (codes <= last))).any():
        raise InvalidRequest(f"Input `{spec.name}` must hold text. Received: codes that are no characters.")
    return text.reshape(values.shape)


def _shown(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in sorted(names)) or "none"
    return shown if len(shown) <= _LONGEST_TEXT else f"{shown[:_LONGEST_TEXT]}…"
