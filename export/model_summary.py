"""The layers of a live model, as its report lists them."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from export.report_data import LayerSummary


def layers_of(model: keras.Model) -> tuple[LayerSummary, ...]:
    """Every layer of a built model, those of models inside it in their place."""
    return tuple(_summaries(model, ""))


def _summaries(model: keras.Model, prefix: str) -> Iterator[LayerSummary]:
    for layer in model.layers:
        name = f"{prefix}{layer.name}"
        if isinstance(layer, keras.Model) and layer.layers:
            yield from _summaries(layer, f"{name}/")
            continue
        yield LayerSummary(
            name=name,
            kind=type(layer).__name__,
            output=_output(layer),
            parameters=int(layer.count_params()) if layer.built else 0,
            is_custom=type(layer).__module__.partition(".")[0] != "keras",
        )


def _output(layer: keras.layers.Layer) -> str:
    """The shape of what the layer gave where it was first called, `*` for any size."""
    tensors = keras.tree.flatten(getattr(layer, "output", None))
    return ", ".join(_shape(tuple(tensor.shape)) for tensor in tensors if tensor is not None)


def _shape(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('*' if size is None else str(size) for size in shape)})"
