"""One inference as every protocol sees it, and the check of its tensors against the model's signature."""

from __future__ import annotations

from dataclasses import dataclass

from models.manifest import Signature, Tensors, TensorSpec, dtype_name
from service.errors import InvalidRequest


@dataclass(frozen=True)
class InferenceRequest:
    """Rows for a model.

    `model` None is the default model, `version` None the served version, `timeout` None the one in the settings; it is
    in seconds.
    """

    inputs: Tensors
    model: str | None = None
    version: int | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class InferenceResponse:
    """The answer, in the rows' order, and who gave it: the version may have been replaced since the request came."""

    outputs: Tensors
    signature: Signature
    model: str
    version: int
    runtime: str


def check_inputs(signature: Signature, inputs: Tensors) -> None:
    """Checks names, dtypes, shapes and rows, so that what passes cannot fail for its form.

    Raises:
        InvalidRequest: something is not as the signature says.
    """
    wanted = {spec.name for spec in signature.inputs}
    if inputs.keys() != wanted:
        raise InvalidRequest(f"The inputs must be {_names(wanted)}. Received: {_names(set(inputs))}.")
    for spec in signature.inputs:
        _check_input(spec, inputs)
    rows = {len(values) for values in inputs.values()}
    if len(rows) > 1:
        raise InvalidRequest(f"All inputs must have the same number of rows. Received: {sorted(rows)}.")


def _check_input(spec: TensorSpec, inputs: Tensors) -> None:
    values = inputs[spec.name]
    dtype = dtype_name(values)
    if dtype != spec.dtype:
        raise InvalidRequest(f"Input `{spec.name}` must be {spec.dtype}. Received: {dtype}.")
    fits = len(values.shape) == len(spec.shape) and all(
        wanted in {None, got} for wanted, got in zip(spec.shape, values.shape, strict=True)
    )
    if not fits:
        raise InvalidRequest(
            f"Input `{spec.name}` must have shape {_shape(spec.shape)}. Received: shape {_shape(values.shape)}."
        )
    if not len(values):
        raise InvalidRequest(f"Input `{spec.name}` must have at least one row. Received: none.")


def _shape(shape: tuple[int | None, ...]) -> str:
    sizes = ["rows" if shape[:1] == (None,) else str(shape[0])] if shape else []
    sizes += ["any" if size is None else str(size) for size in shape[1:]]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _names(names: set[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "none"
