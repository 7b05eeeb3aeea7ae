"""Which custom objects this process knows: our own layers, and those of the modules the operator names.

Keras finds a custom object in two separate ways, and the first wins:

1. the process-wide registry, under its registered name `package>Name` (`@register_layer` here, or Keras's
   own `@keras.saving.register_keras_serializable`);
2. the `custom_objects` argument, under the same name, or the bare class name of an object that nobody registered.

`load_plugins` serves both: importing a module registers what it registers, and everything the module defines
goes into `custom_objects()` too. Nothing is ever imported because a file says so.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import keras

PACKAGE = "layerserve"
"""Serialisation namespace. It is part of every saved file: never change it."""

LayerClass = TypeVar("LayerClass", bound=type)
Builder = Callable[..., keras.Model]
BuilderFunction = TypeVar("BuilderFunction", bound=Builder)

_objects: dict[str, Any] = {}
_builders: dict[str, Builder] = {}


def register_layer(cls: LayerClass) -> LayerClass:
    """Registers a layer as `layerserve>ClassName`.

    The class's name is part of the file format (weights are found by it): renaming a layer breaks saved models.

    Raises:
        ValueError: another class holds that name. (Keras would silently replace it.)
    """
    registered_name = f"{PACKAGE}>{cls.__name__}"
    holder = keras.saving.get_registered_object(registered_name)
    if holder is not None and _origin(holder) != _origin(cls):
        raise ValueError(
            f"`{registered_name}` is already registered by {_origin(holder)}. Received: {_origin(cls)}. "
            "Rename one of the two classes."
        )
    registered: LayerClass = keras.saving.register_keras_serializable(package=PACKAGE)(cls)
    _objects[registered_name] = registered
    return registered


def register_builder(name: str) -> Callable[[BuilderFunction], BuilderFunction]:
    """Registers a builder under `name`, which `--model` takes.

    Raises:
        ValueError: another builder has that name.
    """

    def register(function: BuilderFunction) -> BuilderFunction:
        holder = _builders.setdefault(name, function)
        if holder is not function:
            raise ValueError(
                f"The builder `{name}` is already {_origin(holder)}. Received: {_origin(function)}. Rename one."
            )
        return function

    return register


def find_builder(name: str) -> Builder:
    """The builder registered as `name`, or for `my.module:build` the function `build` of `my.module`, imported here.

    Raises:
        ValueError: there is no such builder, or its module cannot be imported.
    """
    module, colon, function = name.partition(":")
    found = getattr(_import(module), function, None) if colon and function else _builders.get(name)
    if found is None:
        raise ValueError(
            f"There is no builder `{name}`. Registered: {', '.join(sorted(_builders)) or 'none'}. "
            "Your own is named my.module:build."
        )
    if not callable(found):
        raise ValueError(f"The builder `{name}` must be a function. Received: {type(found).__name__}")
    builder: Builder = found
    return builder


def load_plugins(modules: Iterable[str]) -> None:
    """Imports the modules that the operator names and makes what they define loadable.

    Args:
        modules: Dotted names, looked up as Python does, with the working directory first.

    Raises:
        ValueError: a module cannot be imported, or two modules define different objects of one name.
    """
    for name in modules:
        for value in _definitions(_import(name)):
            registered_name = keras.saving.get_registered_name(value)
            holder = _objects.setdefault(registered_name, value)
            if holder is not value:
                raise ValueError(
                    f"`{registered_name}` is defined by both {_origin(holder)} and {_origin(value)}. "
                    "Rename one of the two."
                )


def custom_objects() -> dict[str, Any]:
    """What this process may build from a saved model beside Keras's own, by registered name."""
    return dict(_objects)


def find(registered_name: str) -> Any:
    """The class or function that Keras would take for `package>Name` (unregistered: `Name`), or None."""
    return keras.saving.get_registered_object(registered_name, custom_objects=_objects)


def _import(name: str) -> ModuleType:
    working_directory = str(Path.cwd())
    if working_directory not in sys.path:
        sys.path.insert(0, working_directory)
    try:
        return importlib.import_module(name)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise ValueError(
            f"The module `{name}` could not be imported: {type(error).__name__}: {error}. "
            "Name it as `import` would, from a directory where Python finds it."
        ) from error


def _definitions(module: ModuleType) -> list[Any]:
    return [
        value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and (value.__module__, value.__name__) == (module.__name__, name)
    ]


def _origin(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"
