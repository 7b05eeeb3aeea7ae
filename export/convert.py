"""The process that converts a SavedModel: apart from the export, since a converter may end the process it runs in.

`python -m export.convert REQUEST ANSWER` reads a JSON request and writes a JSON answer. It imports TensorFlow and the
converter, neither Keras nor anybody's layers.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

_OPSET = 18
_MAX_NAMED = 3
_COMPLAINT_OF_LITERT = re.compile(r"""fused\["(\w+):", "([^"@]*)[^\n]*'tf\.\w+' op ([^\n<]+)""")
_LACKING_IN_OPENVINO = re.compile(r"-- (?:No conversion rule found for operations|Conversion is failed for): (.*)")


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Request(_Message):
    """What to convert, and into what.

    Attributes:
        format: The format's name.
        saved_model: The folder of the SavedModel.
        target: The file to write.
        arguments: The name of the argument for each input, by the input's name.
        texts: The inputs that are strings.
        layers: The class of each of the model's layers by its name, to say which one a format cannot hold.
    """

    format: str
    saved_model: Path
    target: Path
    arguments: dict[str, str]
    texts: tuple[str, ...] = ()
    layers: dict[str, str] = {}


class Answer(_Message):
    """What came of it: None if the file was written, else the reason why not."""

    problem: str | None


class _LackingError(ValueError):
    """The format has not all operations that the model needs: its arguments are pairs of their types and names."""


def to_onnx(request: Request) -> None:
    """By tf2onnx, which names inputs after the arguments: the model's own names are put in their place."""
    import tensorflow as tf  # noqa: PLC0415
    from tf2onnx import optimizer, tf_loader, tfonnx  # noqa: PLC0415 - an optional package

    _teach_erfc()
    definition, inputs, outputs, tables, names = tf_loader.from_saved_model(
        str(request.saved_model),
        None,
        None,
        "serve",
        ["serving_default"],
        return_initialized_tables=True,
        return_tensors_to_rename=True,
    )
    own = {argument: name for name, argument in request.arguments.items()}
    with tf.Graph().as_default() as source:
        tf.import_graph_def(definition, name="")
        graph = tfonnx.process_tf_graph(
            source,
            input_names=inputs,
            output_names=outputs,
            tensors_to_rename={tensor: own.get(name, name) for tensor, name in names.items()},
            initialized_tables=tables,
            opset=_OPSET,
        )
    lacking = [(node.type, node.name) for node in graph.get_nodes() if not _is_onnx(node)]
    if lacking:
        raise _LackingError(*lacking)
    try:
        # By default it copies the graph before each of its passes, which takes most of the time for a wide table.
        graph = optimizer.optimize_graph(copy.deepcopy(graph), catch_errors=False)
    except Exception:  # a pass may fail in any way; it is left out then
        graph = optimizer.optimize_graph(graph)
    request.target.write_bytes(graph.make_model("model").SerializeToString(deterministic=True))


def to_litert(request: Request) -> None:
    """By TensorFlow's converter, with LiteRT's own operations only: it runs no others."""
    import tensorflow as tf  # noqa: PLC0415

    converter = tf.lite.TFLiteConverter.from_saved_model(str(request.saved_model), signature_keys=["serving_default"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        content = converter.convert()
    except Exception as error:  # TensorFlow gives its class no public name
        complaints = _COMPLAINT_OF_LITERT.findall(str(error))
        lacking = [(operation, name) for operation, name, text in complaints if text.startswith("is neither a custom")]
        if complaints and not lacking:
            operation, name, text = complaints[0]
            layer = _layer(name, request.layers)
            place = (
                f"LiteRT cannot hold the layer `{layer}` ({request.layers[layer]})" if layer else "LiteRT refuses it"
            )
            raise ValueError(f"{place}: {operation} {text.strip()}.") from error
        raise _LackingError(*lacking) from error
    request.target.write_bytes(content)


def to_openvino(request: Request) -> None:
    """By OpenVINO, in float32."""
    import openvino  # noqa: PLC0415 - an optional package

    if request.texts:
        raise ValueError(f"OpenVINO computes nothing from strings, and the input `{request.texts[0]}` is one.")
    try:
        model = openvino.convert_model(str(request.saved_model))
    except openvino.frontend.OpConversionFailure as error:
        lines = _LACKING_IN_OPENVINO.findall(str(error))
        raise _LackingError(*_named(request, {word.strip() for line in lines for word in line.split(",")})) from error
    openvino.save_model(model, request.target, compress_to_fp16=False)


def _teach_erfc() -> None:
    """Keras's exact GELU uses Erfc, which tf2onnx 1.17 passes on as it is, though ONNX has only Erf = 1 - Erfc."""
    import numpy as np  # noqa: PLC0415
    from tf2onnx import utils  # noqa: PLC0415
    from tf2onnx.handler import tf_op  # noqa: PLC0415

    def convert(ctx: Any, node: Any, **_: Any) -> None:
        (output,) = node.output
        dtype = utils.map_onnx_to_numpy_type(ctx.get_dtype(output))
        one = ctx.make_const(utils.make_name("one"), np.array(1, dtype=dtype)).output[0]
        node.type = "Erf"
        difference = ctx.insert_new_node_on_output("Sub", output, name=utils.make_name(node.name), inputs=[one, output])
        ctx.copy_shape(output, difference.output[0])
        ctx.copy_dtype(output, difference.output[0])

    tf_op.register_handler(convert, 9, ["Erfc"], "", {})


CONVERTERS: dict[str, tuple[str, Callable[[Request], None]]] = {
    "onnx": ("ONNX", to_onnx),
    "litert": ("LiteRT", to_litert),
    "openvino": ("OpenVINO", to_openvino),
}


def convert(request: Request) -> str | None:
    """Writes the file; gives the reason why not where that fails."""
    title, converter = CONVERTERS[request.format]
    try:
        converter(request)
    except _LackingError as error:
        if error.args or error.__cause__ is None:
            return _lacking(title, request.layers, error.args)
        return f"{type(error.__cause__).__name__}: {error.__cause__}"
    except Exception as error:  # each converter raises its own kinds
        return f"{type(error).__name__}: {error}"
    return None


def _is_onnx(node: Any) -> bool:
    import onnx  # noqa: PLC0415 - an optional package

    return node.is_const() or node.is_graph_input() or bool(onnx.defs.has(node.type, node.domain))


def _named(request: Request, types: set[str]) -> list[tuple[str, str]]:
    """The operations of these types in the SavedModel, with their names."""
    from tensorflow.core.protobuf import saved_model_pb2  # noqa: PLC0415

    content = saved_model_pb2.SavedModel.FromString((request.saved_model / "saved_model.pb").read_bytes())
    functions = content.meta_graphs[0].graph_def.library.function
    return [(node.op, node.name) for function in functions for node in function.node_def if node.op in types]


def _lacking(title: str, layers: dict[str, str], operations: Iterable[tuple[str, str]]) -> str:
    """Says which operations a format has not, and which layers need them."""
    types = dict.fromkeys(operation for operation, _ in operations)
    found = dict.fromkeys(layer for _, name in operations if (layer := _layer(name, layers)) is not None)
    shown = _some([f"`{layer}` ({layers[layer]})" for layer in found]) if found else ""
    needing = (
        f"the layers {shown} need" if len(found) > 1 else f"the layer {shown} needs" if found else "the model needs"
    )
    return f"{title} has no {_some(list(types))} of the kind that {needing}."


def _layer(node: str, layers: dict[str, str]) -> str | None:
    """The layer in whose scope the node is. A scope is named after its layer, often with a number behind it."""
    for part in reversed(node.split("/")):
        for name in (re.sub(r"_\d+$", "", part), part):
            if name in layers:
                return name
    return None


def _some(names: list[str]) -> str:
    more = len(names) - _MAX_NAMED
    shown = names if more <= 0 else [*names[:_MAX_NAMED], f"{more} more"]
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _main(request_file: str, answer_file: str) -> None:
    request = Request.model_validate_json(Path(request_file).read_bytes())
    Path(answer_file).write_text(Answer(problem=convert(request)).model_dump_json())


if __name__ == "__main__":
    _main(*sys.argv[1:])
