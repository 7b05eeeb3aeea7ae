"""Example inputs: arrays to call a layer with, made from shapes or given by the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

Shape: TypeAlias = tuple[int | None, ...]
Shapes: TypeAlias = Shape | Sequence[Shape] | Mapping[str, Shape]
Dtypes: TypeAlias = str | Sequence[str] | Mapping[str, str]
Arrays: TypeAlias = list[np.ndarray[Any, Any]]

NUM_ROWS = 4
UNKNOWN_AXIS = 6
"""Length given to an axis that `input_shape` leaves open."""


@dataclass(frozen=True)
class Example:
    """Rows to call a layer with. `shapes` are without the batch axis and keep None where a length is open."""

    kind: Literal["single", "list", "dict"]
    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    dtypes: tuple[str, ...]
    arrays: Arrays

    @property
    def num_rows(self) -> int:
        """How many rows each array holds."""
        return len(self.arrays[0])

    @property
    def build_shape(self) -> Any:
        """What `build` is given: shapes with an open batch axis, in the structure of the inputs."""
        return self.structured([(None, *shape) for shape in self.shapes])

    def structured(self, flat: Sequence[Any]) -> Any:
        """One value, a list or a dict, as the layer takes its inputs."""
        if self.kind == "single":
            return flat[0]
        return list(flat) if self.kind == "list" else dict(zip(self.names, flat, strict=True))

    def rows(self, index: Any) -> Arrays:
        """The chosen rows of every array."""
        return [array[index] for array in self.arrays]

    def with_arrays(self, arrays: Arrays) -> Example:
        """The same inputs with other values, shapes taken from them."""
        shapes = tuple(tuple(array.shape[1:]) for array in arrays)
        return replace(self, arrays=arrays, shapes=shapes)


def make_example(input_shape: Shapes | None, dtype: Dtypes = "float32", inputs: Any = None) -> Example:
    """Arrays of four rows for the shapes, or the caller's own arrays.

    Args:
        input_shape: A shape without the batch axis, or a list or dict of them; may be None when `inputs` is given.
        dtype: A dtype, or a list or dict of them like `input_shape`.
        inputs: Arrays with the batch axis, structured like `input_shape`.

    Raises:
        ValueError: neither is given, or their structures differ.
    """
    if isinstance(inputs, list) and not any(hasattr(value, "shape") for value in inputs):
        inputs = np.asarray(inputs)
    if input_shape is None:
        if inputs is None:
            raise ValueError("Either `input_shape` or `inputs` must be given. Received: neither.")
        input_shape = _shapes_of(inputs)
    kind, names, shapes = _flatten_shapes(input_shape)
    if inputs is None:
        dtypes = _flatten_like(names, dtype, "dtype")
        arrays = [_random(shape, str(kind_of)) for shape, kind_of in zip(shapes, dtypes, strict=True)]
    else:
        arrays = [np.asarray(value) for value in _flatten_like(names, inputs, "inputs", shared=False)]
    return Example(kind, names, shapes, tuple(_dtype_name(array) for array in arrays), arrays)


def _flatten_shapes(
    shapes: Shapes,
) -> tuple[Literal["single", "list", "dict"], tuple[str, ...], tuple[Shape, ...]]:
    if isinstance(shapes, Mapping):
        return "dict", tuple(shapes), tuple(tuple(shape) for shape in shapes.values())
    if all(isinstance(size, int) or size is None for size in shapes):
        single: Shape = tuple(shapes)  # type: ignore[arg-type]  # the line above looked at every item
        return "single", ("input_0",), (single,)
    several = tuple(tuple(shape) for shape in shapes)  # type: ignore[arg-type]  # not numbers: shapes
    return "list", tuple(f"input_{index}" for index in range(len(several))), several


def _flatten_like(names: tuple[str, ...], value: Any, argument: str, shared: bool = True) -> list[Any]:
    if isinstance(value, Mapping):
        if set(value) != set(names):
            raise ValueError(f"`{argument}` must have the keys of `input_shape`, {names}. Received: {sorted(value)}")
        return [value[name] for name in names]
    if isinstance(value, list | tuple):
        if len(value) != len(names):
            raise ValueError(
                f"`{argument}` must have one entry an input, {len(names)} in all. Received: {len(value)} entries"
            )
        return list(value)
    if not shared and len(names) != 1:
        raise ValueError(f"`{argument}` must have one entry an input, {len(names)} in all. Received: {type(value)}")
    return [value] * len(names)


def _shapes_of(inputs: Any) -> Shapes:
    if isinstance(inputs, Mapping):
        return {name: tuple(np.shape(value)[1:]) for name, value in inputs.items()}
    if isinstance(inputs, list | tuple):
        return [tuple(np.shape(value)[1:]) for value in inputs]
    return tuple(np.shape(inputs)[1:])


def _random(shape: Shape, dtype: str) -> np.ndarray[Any, Any]:
    generator = np.random.default_rng(sum(size or UNKNOWN_AXIS for size in shape))
    full = (NUM_ROWS, *(UNKNOWN_AXIS if size is None else size for size in shape))
    if dtype == "string":
        return generator.choice(np.array(["red", "green", "blue"]), full)
    if dtype == "bool":
        return generator.random(full) < 0.5
    if "int" in dtype:
        # Zeros and ones are valid for every embedding, lookup and encoding.
        return generator.integers(0, 2, full).astype(dtype)
    return generator.uniform(-1, 1, full).astype(dtype if dtype != "bfloat16" else "float32")


def _dtype_name(array: np.ndarray[Any, Any]) -> str:
    return "string" if array.dtype.kind in "OSU" else str(array.dtype)
