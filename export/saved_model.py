"""Writes a SavedModel whose inputs and outputs have the model's own names, whatever those are.

TensorFlow wants a function's arguments to be named like Python's. Where a name is not (`sepal length (cm)`), the
function is traced with numbered ones, and the names are put back into the written file: the true ones into the
signature, which TensorFlow Serving and the converters read, and those that can be keywords (`sepal_length__cm_`) into
the function's, to be called from Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from export.replay import keywords
from models.manifest import Signature

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def write_saved_model(model: keras.Model, call: Callable[[Any], Any], signature: Signature, directory: Path) -> None:
    """Writes `call`, a function of named tensors that uses the weights of `model`, with a free batch size.

    Raises:
        Exception: TensorFlow cannot trace or save the function; it has no common class for that.
    """
    arguments = argument_names(signature)
    specs = {spec.name: tf.TensorSpec(spec.shape, spec.dtype, name=arguments[spec.name]) for spec in signature.inputs}
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", call, input_signature=[specs])
    archive.write_out(str(directory), verbose=False)
    if any(argument != name for name, argument in arguments.items()):
        _rename(directory / "saved_model.pb", arguments)


def argument_names(signature: Signature) -> dict[str, str]:
    """The name of the traced function's argument for each input: its own where all are plain, else numbered."""
    words = keywords(spec.name for spec in signature.inputs)
    is_plain = all(_PLAIN.fullmatch(name) and word == name for name, word in words.items())
    if is_plain and len({name.lower() for name in words}) == len(words):  # TensorFlow makes one of `a` and `A`
        return words
    return {name: f"input_{number:05}" for number, name in enumerate(sorted(words, key=lambda name: words[name]))}


def _rename(path: Path, arguments: dict[str, str]) -> None:
    own = {argument: name for name, argument in arguments.items()}
    words = keywords(arguments)
    python = {argument: words[name] for name, argument in arguments.items()}
    content = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    graph = content.meta_graphs[0]
    for definition in graph.signature_def.values():
        _rename_keys(definition.inputs, own)
    objects = graph.object_graph_def
    for node in objects.nodes:
        if node.HasField("bare_concrete_function"):
            bare = node.bare_concrete_function
            bare.argument_keywords[:] = [python.get(word, word) for word in bare.argument_keywords]
            for field in bare.function_spec.fullargspec.named_tuple_value.values:
                if field.key == "kwonlyargs":
                    for value in field.value.list_value.values:
                        value.string_value = python.get(value.string_value, value.string_value)
            function = objects.concrete_functions[bare.concrete_function_name]
            _, named = function.canonicalized_input_signature.tuple_value.values
            _rename_keys(named.dict_value.fields, python)
    path.write_bytes(content.SerializeToString(deterministic=True))


def _rename_keys(mapping: Any, names: dict[str, str]) -> None:
    for key in [key for key in mapping if key in names]:
        mapping[names[key]].CopyFrom(mapping[key])
        del mapping[key]
