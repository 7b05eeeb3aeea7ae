"""The layer under check, and the facts about it that several rules share, each measured once."""

from __future__ import annotations

import inspect
import logging
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import keras
import numpy as np

from models.checks.arguments import rebuild, round_trip
from models.checks.example import Arrays, Example
from models.checks.fresh_process import CHECKED_ON_IMPORT, FreshProcess, Reloaded, Source
from models.checks.origin import is_local, source_of
from models.checks.reach import reachable
from models.checks.tensors import Array, as_array, dtype_of, flat_arrays
from models.checks.verdict import NotApplicableError

T = TypeVar("T")


class Fact(Generic[T]):
    """Something measured at most once. Where the measuring fails, one rule tells it and the others step back."""

    def __init__(self, measure: Callable[[], T], told_by: str) -> None:
        self._measure = measure
        self._told_by = told_by
        self._found: list[T] = []
        self._error: Exception | None = None

    def value(self) -> T:
        """What was measured.

        Raises:
            NotApplicableError: it could not be measured.
        """
        error = self.failure()
        if isinstance(error, NotApplicableError):
            raise error
        if error is not None:
            raise NotApplicableError(f"it can't be looked at before {self._told_by} holds") from error
        return self._found[0]

    def failure(self) -> Exception | None:
        """Why it could not be measured; None when it could."""
        if self._error is None and not self._found:
            try:
                self._found.append(self._measure())
            except Exception as error:  # a user's layer may raise anything, and each rule must get its say
                self._error = error
        return self._error


@dataclass(frozen=True)
class Journey:
    """A layer that was used, saved, and loaded in the fresh process."""

    layer: Any
    model: Any
    outputs: list[Array]
    weights: list[Array]
    losses: list[float]
    source: Source
    reloaded: Reloaded


class Subject:
    """One layer under check: makes fresh ones, calls them, and remembers what was measured."""

    def __init__(self, factory: Any, example: Example, mask: bool, process: FreshProcess) -> None:
        self._factory = factory
        self._process = process
        self.example = example
        self.mask = mask
        self.made: Fact[Any] = Fact(self.fresh, "check_can_be_called")
        self.built: Fact[Any] = Fact(self._built, "check_can_be_called")
        self.outputs: Fact[list[Array]] = Fact(self._outputs, "check_can_be_called")
        self.model: Fact[Any] = Fact(self._model, "check_works_in_a_functional_model")
        self.revived: Fact[Any] = Fact(lambda: round_trip(self.fresh()), "check_revives_from_its_config")
        self.journey: Fact[Journey] = Fact(self._journey, "check_reloads_in_a_fresh_process")

    @property
    def cls(self) -> type:
        """The layer's class."""
        return type(self.made.value())

    def fresh(self) -> Any:
        """A new, unbuilt layer as the caller configured it."""
        layer = rebuild(self._factory) if isinstance(self._factory, keras.Layer) else self._factory()
        if not isinstance(layer, keras.Layer):
            raise TypeError(f"`factory` must make a keras.Layer. Received: {type(layer).__name__}")
        return layer

    def call(self, layer: Any, arrays: Arrays | None = None, training: bool | None = False) -> Any:
        """Calls a layer eagerly with arrays, the example by default; with `training` left out where it is None."""
        tensors = [keras.ops.convert_to_tensor(array) for array in arrays or self.example.arrays]
        return self.apply(layer, tensors, **({} if training is None else {"training": training}))

    def apply(self, layer: Any, tensors: list[Any], **kwargs: Any) -> Any:
        """Calls a layer with tensors of any kind: one argument, a list, or one argument each."""
        style = _style(layer, self.example)
        if style == "keywords":
            return layer(**self.example.structured(tensors), **kwargs)
        if style == "positional":
            return layer(*tensors, **kwargs)
        return layer(self.example.structured(tensors), **kwargs)

    def run(self, layer: Any, arrays: Arrays | None = None, training: bool | None = False) -> list[Array]:
        """The outputs of an eager call, as arrays."""
        return flat_arrays(self.call(layer, arrays, training))

    def run_seeded(self, layer: Any, training: bool) -> list[Array]:
        """The outputs of a call with all random seeds at one value, which leaves the weights as they were."""
        before = [as_array(variable) for variable in layer.variables]
        keras.utils.set_random_seed(7)
        for _, held in reachable(layer):
            if isinstance(held, keras.random.SeedGenerator):
                held.state.assign(np.zeros(held.state.shape, dtype_of(held.state)))
        try:
            return self.run(layer, training=training)
        finally:
            for variable, value in zip(layer.variables, before, strict=False):
                variable.assign(value)

    def build(self, layer: Any) -> None:
        """Calls `build` alone, as loading does."""
        style = _style(layer, self.example)
        shape = self.example.build_shape
        if style == "single":
            layer.build(shape)
            return
        parameters = list(inspect.signature(layer.build).parameters)
        if len(parameters) == 1:
            layer.build(next(iter(shape.values())) if isinstance(shape, dict) else shape[0])
        elif style == "keywords":
            named = {f"{name}_shape": value for name, value in shape.items()}
            layer.build(**{name: value for name, value in named.items() if name in parameters})
        else:
            layer.build(*shape)

    def symbolic_inputs(self) -> list[Any]:
        """Keras inputs with an open batch axis, one for each input."""
        return [
            keras.Input(shape=shape, dtype=dtype, name=f"{name}_in")
            for name, shape, dtype in zip(self.example.names, self.example.shapes, self.example.dtypes, strict=True)
        ]

    def functional(self, layer: Any) -> Any:
        """A model of this one layer."""
        inputs = self.symbolic_inputs()
        return keras.Model(inputs, self.apply(layer, inputs))

    def _built(self) -> Any:
        layer = self.fresh()
        self.call(layer)
        return layer

    def _outputs(self) -> list[Array]:
        return self.run(self.built.value())

    def _model(self) -> Any:
        self.built.value()
        layer = self.fresh()
        return layer, self.functional(layer)

    def _journey(self) -> Journey:
        layer, model = self.model.value()
        for training in (True, True):
            self.call(layer, training=training)
        shake(model.weights)
        outputs = self.run(layer)
        losses = [float(loss) for loss in model.losses]
        source = source_of([layer, *(held for _, held in reachable(layer) if _is_revived_by_name(held))])
        try:
            reloaded = self._process.reload(model, self.example.arrays, source)
        except Exception as error:
            if CHECKED_ON_IMPORT in str(error):
                raise NotApplicableError(CHECKED_ON_IMPORT) from error
            if is_local(type(layer)):
                raise NotApplicableError(
                    f"`{type(layer).__name__}` is defined inside a function, where no other process can import it; "
                    "move it to the top of a module"
                ) from error
            raise
        return Journey(layer, model, outputs, [as_array(v) for v in model.weights], losses, source, reloaded)


def shake(weights: list[Any]) -> None:
    """Moves every floating-point weight by a different small positive amount, so that no two are alike."""
    generator = np.random.default_rng(0)
    for weight in weights:
        if "float" in keras.backend.standardize_dtype(weight.dtype):
            weight.assign(as_array(weight) + generator.uniform(0.01, 0.05, weight.shape))


@contextmanager
def quiet() -> Iterator[None]:
    """Silences warnings and TensorFlow's log, and gives Python's and NumPy's random state back afterwards."""
    log = logging.getLogger("tensorflow")
    level, python_state, numpy_state = log.level, random.getstate(), np.random.get_state()
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _style(layer: Any, example: Example) -> str:
    if example.kind == "single" or isinstance(layer, keras.Model):
        return "single"
    parameters = inspect.signature(layer.call).parameters
    if example.kind == "dict":
        return "keywords" if set(example.names) <= set(parameters) else "single"
    required = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    return "positional" if len(set(required) - {"training", "mask"}) > 1 else "single"


def _is_revived_by_name(value: Any) -> bool:
    return isinstance(value, keras.Layer | keras.Initializer | keras.regularizers.Regularizer) or inspect.isfunction(
        value
    )
