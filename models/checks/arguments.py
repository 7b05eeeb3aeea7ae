"""A layer's constructor arguments: what they are, other values for them, and the trip through a file and back."""

from __future__ import annotations

import inspect
import json
from typing import Any

import keras

from models.checks.origin import is_keras_own
from models.checks.reach import copy_of_plain, reachable

BASE_ARGUMENTS = frozenset({"name", "dtype", "trainable", "autocast", "activity_regularizer"})

_UNTOLD = frozenset({"name", "shared_object_id", "build_config"})
"""What two equal configs may differ in: automatic names, and how far a nested layer is built."""


def parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The constructor's arguments by name, those it may hand on to a parent class through **kwargs last."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if base is keras.layers.Layer or base is object:
            break
        if "__init__" not in vars(base):
            continue
        signature = inspect.signature(vars(base)["__init__"])
        own = [p for p in list(signature.parameters.values())[1:] if p.kind not in {p.VAR_KEYWORD, p.VAR_POSITIONAL}]
        for parameter in own:
            found.setdefault(parameter.name, parameter)
        if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            break
    return {name: parameter for name, parameter in found.items() if name not in BASE_ARGUMENTS}


def config_of(layer: Any) -> dict[str, Any]:
    """The layer's config with its objects revived, without its name."""
    config = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object({"config": layer.get_config()}), custom_objects=custom_objects(layer)
    )["config"]
    config.pop("name", None)
    return dict(config)


def arguments(layer: Any) -> dict[str, Any]:
    """What the constructor was given, as far as Keras's notes, the config, the attributes and the defaults tell."""
    try:
        config = config_of(layer)
    except Exception:  # another rule says what is wrong with the config; attributes will do here
        config = {}
    recorded = _recorded(layer)
    found = {}
    for name, parameter in parameters(type(layer)).items():
        if name in recorded:
            found[name] = recorded[name]
        elif name in config:
            found[name] = _live(layer, name, config[name])
        elif name in vars(layer):
            found[name] = vars(layer)[name]
        elif f"_{name}" in vars(layer):
            found[name] = vars(layer)[f"_{name}"]
        elif parameter.default is not parameter.empty:
            found[name] = parameter.default
    return _accepted(type(layer), found)


def _recorded(layer: Any) -> dict[str, Any]:
    """The arguments that Keras noted when the layer was made: all of them, where all are plain data."""
    noted = getattr(getattr(layer, "_auto_config", None), "config", {})
    try:
        return {name: copy_of_plain(value) for name, value in noted.items()}
    except TypeError:
        return {}


def _live(layer: Any, name: str, value: Any) -> Any:
    """The layer's own copy of an argument where it is plain data: the config may hold a list for its tuple."""
    try:
        own = copy_of_plain(vars(layer)[name])
    except (KeyError, TypeError):
        return value
    return own if comparable(list(own) if isinstance(own, tuple) else own) == comparable(value) else value


def _accepted(cls: type, found: dict[str, Any]) -> dict[str, Any]:
    """The arguments without those of a parent class that this one sets by itself."""
    constructor = next(vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base))
    own = inspect.signature(constructor).parameters
    kept = {name: value for name, value in found.items() if name in own}
    for name in found.keys() - kept.keys():
        try:
            cls(**kept, **{name: found[name]})
        except Exception:  # noqa: S112 -- however it says that it takes no such argument
            continue
        kept[name] = found[name]
    return kept


def rebuild(layer: Any) -> Any:
    """A new, unbuilt layer with the arguments of a given one."""
    if isinstance(layer, keras.Model):
        return type(layer).from_config(layer.get_config())
    if is_keras_own(type(layer)):
        return type(layer).from_config({key: value for key, value in layer.get_config().items() if key != "name"})
    clones = {name: _clone(value) for name, value in arguments(layer).items()}
    policy = {"dtype": layer.dtype_policy.name} if hasattr(layer, "dtype_policy") else {}
    try:
        return type(layer)(**clones, **policy)
    except TypeError:
        return type(layer)(**clones)


def _clone(value: Any) -> Any:
    return rebuild(value) if isinstance(value, keras.Layer) else value


def custom_objects(layer: Any) -> dict[str, Any]:
    """The layer's own classes by bare name: what reviving it takes where they are not registered."""
    objects = [layer, *(value for _, value in reachable(layer))]
    found = {type(value).__name__: type(value) for value in objects if not is_keras_own(type(value))}
    functions = {value.__name__: value for value in objects if inspect.isfunction(value)}
    named = {**found, **functions}
    return {name: value for name, value in named.items() if getattr(value, "__module__", "") != "builtins"}


def through_json(config: Any) -> Any:
    """A serialised object as a file gives it back."""
    return json.loads(json.dumps(config))


def round_trip(layer: Any) -> Any:
    """The layer that a file holding this one's config would revive, unbuilt if this one is."""
    stored = through_json(keras.saving.serialize_keras_object(layer))
    return keras.saving.deserialize_keras_object(stored, custom_objects=custom_objects(layer))


def comparable(config: Any) -> Any:
    """A config in which equal settings are equal values: objects serialised, names of layers left out."""
    return _without_names(through_json(keras.saving.serialize_keras_object(config)))


def _without_names(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_names(item) for key, item in value.items() if key not in _UNTOLD}
    return [_without_names(item) for item in value] if isinstance(value, list) else value
