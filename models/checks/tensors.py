"""Between Keras tensors and NumPy arrays that any file can hold."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

Array = np.ndarray[Any, Any]


def flat_arrays(structure: Any) -> list[Array]:
    """Every tensor of a nested structure as an array, in Keras's order; None is left out."""
    return [as_array(leaf) for leaf in keras.tree.flatten(structure) if leaf is not None]


def as_array(tensor: Any) -> Array:
    """One tensor as an array. Strings become text, ragged tensors are filled up."""
    if hasattr(tensor, "to_tensor"):
        tensor = tensor.to_tensor()
    array = np.asarray(keras.ops.convert_to_numpy(tensor)) if not isinstance(tensor, np.ndarray) else tensor
    if array.dtype.kind == "O":
        words = [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in array.ravel()]
        return np.array(words, dtype=str).reshape(array.shape)
    return array


def storable(array: Array) -> Array:
    """The array in a dtype that .npz holds without pickle: bfloat16 and its like become float32."""
    return array.astype("float32") if array.dtype.kind == "V" or array.dtype.name == "bfloat16" else array


def dtype_of(tensor: Any) -> str:
    """The Keras name of a tensor's dtype."""
    return str(keras.backend.standardize_dtype(tensor.dtype))
