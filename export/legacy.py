"""Models that Keras 2 saved, and any in HDF5: checked and translated before Keras parses them.

HDF5 knows no safe mode, and says of a custom layer only its class's name. So every class that a file names must be
Keras's own or one that the operator provides; all else is refused here.
"""

from __future__ import annotations

import inspect
import json
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras

from models import registry
from models.loading import ModelLoadError, reason

_MAX_CONFIG_BYTES = 64 * 2**20
_KERAS_MODULES = (
    keras.layers,
    keras.models,
    keras.initializers,
    keras.regularizers,
    keras.constraints,
    keras.dtype_policies,
)
CODE_CARRIERS = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
"""Keras's own layers that run what a file brings along."""
_VALUES = {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__complex__"}
_OPERATIONS = {"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"}
# What Keras 2 wrote and Keras 3 does not know, each with the one value that means what Keras 3 does.
_DROPPED: dict[str, dict[str, Any]] = {
    "DepthwiseConv2D": {"groups": 1},
    "DepthwiseConv1D": {"groups": 1},
    "Conv2DTranspose": {"groups": 1},
    "Conv1DTranspose": {"groups": 1},
    "Conv3DTranspose": {"groups": 1},
    "SeparableConv1D": {"groups": 1},
    "SeparableConv2D": {"groups": 1},
    "LSTM": {"time_major": False},
    "GRU": {"time_major": False},
    "SimpleRNN": {"time_major": False},
    "RNN": {"time_major": False},
    "Bidirectional": {"time_major": False},
}


@dataclass(frozen=True)
class Legacy:
    """A model as the file describes it, with classes and arguments that Keras 3 knows.

    `mapped` says in words what was taken for what, `classes` which object each name stands for.
    """

    config: dict[str, Any]
    classes: dict[str, Any]
    mapped: tuple[str, ...]


def load_h5(path: Path) -> tuple[keras.Model, tuple[str, ...]]:
    """Loads a whole model from HDF5, uncompiled; gives it with what was mapped.

    Raises:
        ModelLoadError: it is not such a file, names a class that is not known here, or Keras cannot load it.
    """
    with _opened(path) as file:
        content = file.attrs.get("model_config")
        if content is None or "model_weights" not in file:
            raise ModelLoadError(
                f"`{path.name}` holds no model, at most weights. Give the model's JSON, and this file as --weights."
            )
        return load_legacy(json_config(content, path.name), file["model_weights"], path.name)


def load_legacy(config: dict[str, Any], weights: h5py.Group, name: str) -> tuple[keras.Model, tuple[str, ...]]:
    """Builds the model that `config` describes and fills it with Keras 2's `weights`; `name` is for messages.

    Raises:
        ModelLoadError: as `load_h5`.
    """
    legacy = translate(config, name)
    with tempfile.TemporaryDirectory(prefix="layerserve-legacy-") as folder:
        path = Path(folder) / "model.h5"
        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = json.dumps(legacy.config)
            weights.file.copy(weights, file, name="model_weights")
        try:
            with warnings.catch_warnings(action="ignore", category=UserWarning):  # advice to whoever wrote the model
                model = keras.saving.load_model(path, custom_objects=legacy.classes, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises a dozen kinds for a bad file
            raise ModelLoadError(f"Keras cannot load `{name}`: {type(error).__name__}: {reason(error)}") from error
    return model, legacy.mapped


def is_legacy_weights(path: Path) -> bool:
    """Whether the file holds weights as Keras 2 wrote them, alone or in a whole model."""
    with _opened(path) as file:
        return "layer_names" in file.attrs or "model_weights" in file


def legacy_weights(file: h5py.File) -> h5py.Group:
    """The group that holds Keras 2's weights."""
    return file["model_weights"] if "model_weights" in file else file["/"]


def json_config(content: bytes | str, name: str) -> dict[str, Any]:
    """Reads a model's configuration.

    Raises:
        ModelLoadError: it is too large, or none.
    """
    if len(content) > _MAX_CONFIG_BYTES:
        raise ModelLoadError(f"The configuration in `{name}` is larger than {_MAX_CONFIG_BYTES} bytes.")
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(f"`{name}` holds no model configuration: {type(error).__name__}.") from error
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise ModelLoadError(f"`{name}` holds no model configuration.")
    return config


def translate(config: dict[str, Any], name: str) -> Legacy:
    """Checks every class that the configuration names, and drops what Keras 3 does not know.

    Raises:
        ModelLoadError: a class is not known here, or carries code.
    """
    copy: dict[str, Any] = json.loads(json.dumps(config))
    classes: dict[str, Any] = {}
    mapped: dict[str, None] = {}
    missing: dict[str, str | None] = {}
    for item in objects_in(copy):
        if "inbound_nodes" in item or item.get("registered_name"):  # a layer, or a custom object, as Keras 2.12 on
            item["class_name"] = item.pop("registered_name", None) or item["class_name"]
            module = item.pop("module", None)
        else:
            module = item.get("module")
        class_name = item["class_name"]
        refuse_code(class_name, name)
        if class_name in _VALUES:
            continue
        if class_name == "function":  # the function's name is where a class has its arguments
            class_name = str(item["config"])
            if inspect.isfunction(getattr(keras.activations, class_name, None)):
                continue
        if _is_builtin(class_name):
            mapped.update(dict.fromkeys(_drop(item)))
        elif (found := _own(class_name)) is None:
            missing[class_name] = module
        else:
            classes[class_name] = found
            mapped[f"`{class_name}` is {found.__module__}.{found.__qualname__}"] = None
    if missing:
        raise ModelLoadError(_missing_message(name, missing))
    return Legacy(copy, classes, tuple(mapped))


def objects_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every class with its configuration, outermost first, without recursion."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if isinstance(item.get("class_name"), str) and "config" in item:
                yield item
            pending.extend(reversed(list(item.values())))
        elif isinstance(item, list):
            pending.extend(reversed(item))


def refuse_code(class_name: str, name: str) -> None:
    """Refuses a class that carries code.

    Raises:
        ModelLoadError: it is one.
    """
    if class_name in CODE_CARRIERS or class_name == "__lambda__":
        raise ModelLoadError(
            f"`{name}` has a layer of class `{class_name}`, which runs code from the file. Write it as a layer class "
            "in a module of yours, and save the model with that."
        )
    if class_name in _OPERATIONS:
        raise ModelLoadError(
            f"`{name}` has TensorFlow operations between its layers (`{class_name}`), which only Keras 2 can rebuild. "
            "Put them into a layer class of yours, and save the model with that."
        )


def _own(class_name: str) -> Any:
    """The registered object of that name; else the only one of that bare name, whatever package it is in."""
    found = registry.find(class_name)
    if found is not None:
        return found
    bare = class_name.rpartition(">")[2]
    candidates = [value for key, value in registry.custom_objects().items() if key.rpartition(">")[2] == bare]
    return candidates[0] if len(candidates) == 1 else None


def _is_builtin(class_name: str) -> bool:
    if not any(inspect.isclass(getattr(module, class_name, None)) for module in _KERAS_MODULES):
        return class_name == "Functional"
    if class_name in registry.custom_objects():
        raise ModelLoadError(
            f"`{class_name}` is the name of a layer of Keras's and of one of yours, and such a file does not say "
            "which is meant. Save the model as .keras with the version of Keras that made it."
        )
    return True


def _drop(item: dict[str, Any]) -> list[str]:
    """Takes out the arguments that Keras 3 does without; gives a line for each."""
    dropped = []
    arguments = item["config"] if isinstance(item["config"], dict) else {}
    for argument, value in _DROPPED.get(item["class_name"], {}).items():
        if arguments.get(argument, ...) == value:
            del arguments[argument]
            dropped.append(f"`{argument}={value}` of {item['class_name']} is dropped: Keras 3 has no such argument")
    return dropped


def _missing_message(name: str, missing: dict[str, str | None]) -> str:
    known = {name: module for name, module in missing.items() if module}
    told = ", ".join(
        f"`{class_name}` ({f'defined in {module}' if module else 'the file does not say in which module'})"
        for class_name, module in missing.items()
    )
    modules = ",".join(dict.fromkeys(known.values())) or "your.module"
    return (
        f"`{name}` needs classes that are not known here: {told}. "
        f"Name the module that defines them: --layers {modules}, or LAYERSERVE_LAYERS={modules}."
    )


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ModelLoadError(f"`{path.name}` is not a whole HDF5 file.") from error
