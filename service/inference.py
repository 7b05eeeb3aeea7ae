"""One inference as every protocol sees it, and the check of its tensors against the model's signature."""

from __future__ import annotations

from typing import NamedTuple

from models.manifest import Signature, Tensors, TensorSpec, dtype_name
from service.errors import InvalidRequest, TooManyValues
from service.limits import RequestLimits


# Named tuples, which are made in a third of the time of frozen dataclasses: each request makes one of both.
class InferenceRequest(NamedTuple):
    """Rows for a model. `model` None is the default model, `version` None the served one, unless a `label` names one.

    `timeout` is in seconds, and None the longest that the settings allow.
    """

    inputs: Tensors
    model: str | None = None
    version: int | None = None
    timeout: float | None = None
    label: str | None = None


class InferenceResponse(NamedTuple):
    """The answer, in the rows' order, and who gave it: the version may have been replaced since the request came."""

    outputs: Tensors
    signature: Signature
    model: str
    version: int
    runtime: str


class InputCheck:
    """`check_inputs` against one signature, over and over, in a fraction of the time where the inputs pass."""

    __slots__ = ("_signature", "_wanted")

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._wanted = [(spec.name, spec.numpy_dtype, spec.shape[1:]) for spec in signature.inputs]

    def __call__(self, inputs: Tensors) -> None:
        """Raises what `check_inputs` raises."""
        if not self._surely_pass(inputs):
            check_inputs(self._signature, inputs)

    def _surely_pass(self, inputs: Tensors) -> bool:
        """False also for what takes a closer look: strings, whose dtype has a length, and sizes that are free."""
        if len(inputs) != len(self._wanted):
            return False
        rows = 0
        for name, dtype, shape in self._wanted:
            values = inputs.get(name)
            if values is None or not values.ndim or values.shape[1:] != shape or values.dtype != dtype:
                return False
            rows = rows or len(values)
            if not rows or len(values) != rows:
                return False
        return True


def row_count(inputs: Tensors) -> int:
    """The rows of inputs that may be of any shape, those of a single value too; the most where they differ."""
    return max((len(values) for values in inputs.values() if values.ndim), default=0)


def check_size(inputs: Tensors, limits: RequestLimits) -> None:
    """Checks that inputs which have the right form are not too many.

    Raises:
        TooManyValues: they are.
    """
    rows = elements = 0
    for values in inputs.values():  # no generator: this runs for each request
        rows, elements = len(values), elements + values.size
    if rows > limits.max_rows:
        raise TooManyValues(
            f"A request may have at most {limits.max_rows} rows. Received: {rows}. Send fewer rows at a time."
        )
    if elements > limits.max_elements:
        raise TooManyValues(
            f"A request may hold at most {limits.max_elements} values. Received: {elements}. Send fewer rows at a time."
        )


def are_within(inputs: Tensors, counts: list[int], limits: RequestLimits) -> bool:
    """Whether each of several requests, which have `counts` of the rows, would pass `check_size`."""
    rows, values = sum(counts), sum([each.size for each in inputs.values()])
    if rows <= limits.max_rows and values <= limits.max_elements:  # all of them together
        return True
    most = max(counts)
    return most <= limits.max_rows and values * most // rows <= limits.max_elements


def check_inputs(signature: Signature, inputs: Tensors) -> None:
    """Checks names, dtypes, shapes and rows, so that what passes cannot fail for its form.

    Raises:
        InvalidRequest: something is not as the signature says.
    """
    check_form(signature, inputs)
    for name, values in inputs.items():
        if not len(values):
            raise InvalidRequest(f"Input `{name}` must have at least one row. Received: none.")


def check_form(signature: Signature, inputs: Tensors) -> None:
    """Checks what `check_inputs` does, but for that there are any rows.

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
            f"Input `{spec.name}` must have shape {shape_in_words(spec.shape)}. "
            f"Received: shape {shape_in_words(values.shape)}."
        )


def shape_in_words(shape: tuple[int | None, ...]) -> str:
    """`(rows, any, 3)`: what the first size is, and which others are free."""
    sizes = ["rows" if shape[:1] == (None,) else str(shape[0])] if shape else []
    sizes += ["any" if size is None else str(size) for size in shape[1:]]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _names(names: set[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "none"
