"""Golden rows drawn from a signature, for a model that comes without any."""

from __future__ import annotations

import keras
import numpy as np

from models.loading import eager, reason
from models.manifest import Signature, Tensors, TensorSpec

_ROWS = 16
_SEED = 0
_FREE_SIZE = 32
_WORDS = np.array(["", "a", "word", "two words", "7", "Grüße"])
# From the widest to the tamest: numbers for floats as (mean, spread), and the first whole number that is too large.
_RANGES = (((0.0, 1.0), 10), ((0.5, 0.1), 2), ((0.5, 0.1), 1))


def drawn_rows(model: keras.Model, signature: Signature) -> Tensors:
    """Rows that the model answers with finite numbers, the same for the same signature.

    Floats are normal around 0, whole numbers 0 to 9 (0 to 255 for uint8, as in images), truth values and words mixed;
    axes of free size get 32. Where the model cannot take these, such as an embedding of fewer words or a logarithm,
    positive floats and smaller whole numbers are tried.

    Raises:
        ValueError: the model answers none of them.
    """
    problem = ""
    for (mean, spread), stop in _RANGES:
        generator = np.random.default_rng(_SEED)
        rows = {spec.name: _draw(generator, spec, mean, spread, stop) for spec in signature.inputs}
        try:
            outputs = eager(model, signature)(rows)
        except Exception as error:  # a custom layer may raise anything for numbers that make no sense to it
            problem = f"{type(error).__name__}: {reason(error)}"
            continue
        if all(np.isfinite(values).all() for values in outputs.values() if values.dtype.kind == "f"):
            return rows
        problem = "it answers with NaN or Infinity."
    raise ValueError(f"No rows that the model answers could be drawn: {problem} Give some that it does: --samples.")


def _draw(generator: np.random.Generator, spec: TensorSpec, mean: float, spread: float, stop: int) -> np.ndarray:
    shape = (_ROWS, *(_FREE_SIZE if size is None else size for size in spec.shape[1:]))
    if spec.dtype == "string":
        return generator.choice(_WORDS, size=shape)
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return generator.normal(mean, spread, size=shape).astype(dtype)
    if dtype.kind == "b":
        return generator.integers(2, size=shape).astype(dtype)
    return generator.integers(256 if spec.dtype == "uint8" and stop > 2 else stop, size=shape).astype(dtype)
