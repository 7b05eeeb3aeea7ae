"""The process that converts a SavedModel: apart from the export, since a converter may end the process it runs in.

`python -m export.convert REQUEST ANSWER` reads a JSON request, and after each format writes anew what came of all so
far. It imports TensorFlow and the converters, neither Keras nor anybody's layers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

_OPSET = 18


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Request(_Message):
    """What to convert: a SavedModel's folder, the file to write for each format, and the inputs' argument names."""

    saved_model: Path
    targets: dict[str, Path]
    arguments: dict[str, str]


class Answer(_Message):
    """What came of each format that was tried: None if it was written, else the reason why not."""

    problems: dict[str, str | None]


def to_onnx(request: Request, target: Path) -> None:
    """By tf2onnx, which names inputs after the arguments: the model's own names are put in their place."""
    from tf2onnx import convert, tf_loader  # noqa: PLC0415 - an optional package

    _teach_erfc()
    graph, inputs, outputs, tables, names = tf_loader.from_saved_model(
        str(request.saved_model),
        None,
        None,
        "serve",
        ["serving_default"],
        return_initialized_tables=True,
        return_tensors_to_rename=True,
    )
    own = {argument: name for name, argument in request.arguments.items()}
    model, _ = convert._convert_common(
        graph,
        name="model",
        input_names=inputs,
        output_names=outputs,
        tensors_to_rename={tensor: own.get(name, name) for tensor, name in names.items()},
        initialized_tables=tables,
        opset=_OPSET,
    )
    target.write_bytes(model.SerializeToString(deterministic=True))


def to_litert(request: Request, target: Path) -> None:
    """By TensorFlow's converter, with LiteRT's own operations only: it runs no others."""
    import tensorflow as tf  # noqa: PLC0415

    converter = tf.lite.TFLiteConverter.from_saved_model(str(request.saved_model), signature_keys=["serving_default"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    target.write_bytes(converter.convert())


def to_openvino(request: Request, target: Path) -> None:
    """By OpenVINO, in float32."""
    import openvino  # noqa: PLC0415 - an optional package

    openvino.save_model(openvino.convert_model(str(request.saved_model)), target, compress_to_fp16=False)


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


CONVERTERS: dict[str, Callable[[Request, Path], None]] = {
    "onnx": to_onnx,
    "litert": to_litert,
    "openvino": to_openvino,
}


def _main(request_file: str, answer_file: str) -> None:
    request = Request.model_validate_json(Path(request_file).read_bytes())
    problems: dict[str, str | None] = {}
    for name, target in request.targets.items():
        try:
            CONVERTERS[name](request, target)
        except Exception as error:  # each converter raises its own kinds
            problems[name] = f"{type(error).__name__}: {error}"
        else:
            problems[name] = None
        Path(answer_file).write_text(Answer(problems=problems).model_dump_json())


if __name__ == "__main__":
    _main(*sys.argv[1:])
