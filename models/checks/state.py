"""Rules on weights: when they are made, who knows of them, and what rebuilding does to them."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import keras

from models.checks.compare import EXACT, difference
from models.checks.origin import is_keras_own
from models.checks.reach import is_variable, reachable
from models.checks.subject import Subject
from models.checks.tensors import Array, as_array
from models.checks.verdict import BrokenRuleError, NotApplicableError
from models.checks.wording import told


def check_weights_are_made_in_build(subject: Subject) -> None:
    """Weights made in `call` don't exist yet when a file is loaded, so their saved values are lost or refused.

    Mend: Make every weight and build every sub-layer in `build(input_shape)`, none in `call`.
    """
    called = subject.built.value()
    layer = subject.fresh()
    try:
        subject.build(layer)
    except Exception as error:
        raise BrokenRuleError(f"build({subject.example.build_shape}) raised {told(error)}") from error
    after_build, after_call = _shapes(layer), _shapes(called)
    if after_build != after_call:
        missing = [name for name in after_call if name not in after_build] or after_call
        raise BrokenRuleError(
            f"build() makes {len(after_build)} weights and the first call {len(after_call)}: "
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} made in call"
        )
    subject.call(called, training=True)
    if _shapes(called) != after_call:
        raise BrokenRuleError(f"a call makes new weights: {len(after_call)} became {len(_shapes(called))}")


def check_build_builds_the_children(subject: Subject) -> None:
    """A sub-layer that the parent's `build` leaves unbuilt has no weights to load into, and keeps random ones.

    Mend: Call `self.child.build(shape)` for each sub-layer in the parent's `build`.
    """
    called = subject.built.value()
    layer = subject.fresh()
    try:
        subject.build(layer)
    except Exception as error:
        raise NotApplicableError("build raises: see check_weights_are_made_in_build") from error
    with_weights = {way for way, held in reachable(called) if isinstance(held, keras.Layer) and held.weights}
    children = [(way, held) for way, held in reachable(layer) if isinstance(held, keras.Layer)]
    unbuilt = [way for way, held in children if way in with_weights and not held.built]
    if unbuilt:
        raise BrokenRuleError(f"after build, {', '.join(f'`{way}`' for way in unbuilt)} is not built")


def check_build_from_config_restores_the_weights(subject: Subject) -> None:
    """Loading calls `build_from_config(get_build_config())`; a layer that makes other weights there can't be loaded.

    Mend: Make every weight from `input_shape` in `build`, or write `get_build_config` and `build_from_config` for what
    else it takes.
    """
    called = subject.built.value()
    layer = subject.fresh()
    config = called.get_build_config()
    if not called.weights:
        raise NotApplicableError("the layer has no weights")
    if not config:
        raise BrokenRuleError("get_build_config() is empty, so loading builds no weights")
    try:
        layer.build_from_config(config)
    except Exception as error:
        raise BrokenRuleError(f"build_from_config({config}) raised {told(error)}") from error
    if _shapes(layer) != _shapes(called):
        raise BrokenRuleError(f"build_from_config makes {_shapes(layer)}, the first call {_shapes(called)}")


def check_building_twice_keeps_the_weights(subject: Subject) -> None:
    """A second `build`, as by a wrapper or a loader, that makes weights anew throws trained values away.

    Mend: Make weights with `self.add_weight` only, which refuses to add after build, or return at once when
    `self.built` is true.
    """
    subject.built.value()
    layer = subject.fresh()
    subject.call(layer)
    weights, before = list(layer.weights), [as_array(weight) for weight in layer.weights]
    answers = subject.run_seeded(layer, training=False)
    with contextlib.suppress(Exception):  # refusing is right: Keras's own layers do
        subject.build(layer)
    if [id(weight) for weight in layer.weights] != [id(weight) for weight in weights]:
        raise BrokenRuleError(f"a second build turns {len(weights)} weights into {len(layer.weights)} others")
    evidence = difference(before, [as_array(weight) for weight in layer.weights], EXACT)
    if evidence:
        raise BrokenRuleError(f"a second build sets the weights back: {evidence}")
    try:
        evidence = difference(answers, subject.run_seeded(layer, training=False), EXACT)
    except Exception as error:
        raise BrokenRuleError(f"after a second build, a call raises {told(error)}") from error
    if evidence:
        raise BrokenRuleError(f"after a second build the layer answers differently: {evidence}")


def check_every_variable_is_tracked(subject: Subject) -> None:
    """A variable that Keras doesn't know of is neither trained nor saved; the reloaded model starts it anew.

    Mend: Make weights with `self.add_weight`, keep sub-layers in attributes, lists, tuples or dicts (not in sets or in
    objects of your own), and use `keras.Variable`, not a variable of the backend.
    """
    layer = subject.built.value()
    known = {id(variable) for variable in layer.variables}
    known |= {id(getattr(variable, "_value", None)) for variable in layer.variables}
    lost = {way: held for way, held in reachable(layer) if is_variable(held) and id(held) not in known}
    if lost:
        way, held = next(iter(lost.items()))
        raise BrokenRuleError(
            f"`{way}`, a {type(held).__name__} of shape {tuple(held.shape)}, is in no list of weights"
        )
    strangers = [variable for variable in _variables_read(subject, layer) if id(variable) not in known]
    if strangers:
        raise BrokenRuleError(
            f"call reads `{strangers[0].name}`, a variable of shape {tuple(strangers[0].shape)}, "
            "which is no weight of the layer"
        )


def _variables_read(subject: Subject, layer: Any) -> list[Any]:
    """The trainable variables that a call reads, wherever they are kept; empty where the backend can't tell."""
    if keras.backend.backend() != "tensorflow":
        return []
    import tensorflow as tf  # noqa: PLC0415 -- only on this backend

    with tf.GradientTape() as tape:
        subject.call(layer)
    return list(tape.watched_variables())


def check_layers_share_nothing(subject: Subject) -> None:
    """State on the class, or in a default argument, is shared by all layers of a model: training one moves the others.

    Mend: Make weights, sub-layers, lists and dicts in `__init__` or `build`, on `self`, never in the class body or as a
    default argument.
    """
    subject.built.value()
    first, second = subject.fresh(), subject.fresh()
    if first is second:
        raise BrokenRuleError(
            "the factory returns the same layer twice", fix="Let the factory make a new layer each time."
        )
    subject.call(first)
    subject.call(second)
    mine = {id(held): way for way, held in reachable(first) if _is_state(held)}
    shared = [way for way, held in reachable(second) if id(held) in mine and _is_state(held)]
    shared += _state_on_the_class(type(first))
    if shared:
        raise BrokenRuleError(f"two separate layers share `{shared[0]}`")


def _is_state(value: Any) -> bool:
    return isinstance(value, keras.Layer | keras.random.SeedGenerator) or is_variable(value)


def _state_on_the_class(cls: type) -> list[str]:
    return [
        f"{base.__name__}.{name}"
        for base in cls.__mro__
        if not is_keras_own(base)
        for name, value in vars(base).items()
        if _is_state(value)
        or (isinstance(value, list | tuple | dict | set) and any(_is_state(v) for v in _items(value)))
    ]


def _items(container: Any) -> list[Any]:
    return list(container.values() if isinstance(container, dict) else container)


def check_two_layers_fit_in_one_model(subject: Subject) -> None:
    """A layer with a fixed name can be used only once: a second one makes Keras refuse the model.

    Mend: Hand `name` on to `super().__init__` as it was given, None included.
    """
    _, model = subject.model.value()
    if isinstance(subject.made.value(), keras.Model):
        raise NotApplicableError("a model names itself")
    names = [subject.fresh().name for _ in range(2)]
    if names[0] == names[1] and names[0] == model.layers[-1].name:
        raise BrokenRuleError(f"every layer of this class is named {names[0]!r}")


def check_freezing_freezes_all(subject: Subject) -> None:
    """A weight that stays trainable in a frozen layer is trained on by everyone who fine-tunes around it.

    Mend: Let Keras track every sub-layer and leave `trainable` and `trainable_weights` to the base class.
    """
    subject.built.value()
    layer = subject.fresh()
    subject.call(layer)
    if not layer.trainable_weights:
        raise NotApplicableError("the layer has no trainable weights")
    layer.trainable = False
    if layer.trainable_weights:
        names = ", ".join(weight.path for weight in layer.trainable_weights)
        raise BrokenRuleError(f"with trainable=False, {names} can still be trained")


def _shapes(layer: Any) -> list[str]:
    # A weight that nobody named is called variable, variable_1 and so on, over all layers.
    names = [re.sub(r"_\d+$", "", weight.name) for weight in layer.weights]
    return [f"{name}{tuple(weight.shape)}" for name, weight in zip(names, layer.weights, strict=True)]


def values_of(layer: Any) -> list[Array]:
    """The values of all variables of a layer, random seeds included."""
    return [as_array(variable) for variable in layer.variables]


RULES = (
    check_weights_are_made_in_build,
    check_build_builds_the_children,
    check_build_from_config_restores_the_weights,
    check_building_twice_keeps_the_weights,
    check_every_variable_is_tracked,
    check_layers_share_nothing,
    check_two_layers_fit_in_one_model,
    check_freezing_freezes_all,
)
