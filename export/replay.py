"""The fresh process that proves a format: loads a model by that format's own library and answers the golden rows.

`python replay.py REQUEST ANSWER` reads and writes JSON. It imports none of our code and none of the model's layers,
as a server that knows nothing of Layerserve would not.
"""

from __future__ import annotations

import json
import keyword
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def in_batches(run: Run, inputs: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """The answers at one batch size. The rows begin anew where the last batch lacks some."""
    indices = batched_indices(len(next(iter(inputs.values()))), size)
    answers = [
        run({name: values[part] for name, values in inputs.items()}) for part in np.split(indices, len(indices) // size)
    ]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def batched_indices(rows: int, size: int) -> np.ndarray:
    """Which rows `in_batches` runs, in order: each at least once, in whole batches."""
    return np.arange(math.ceil(rows / size) * size) % rows


def load_saved_model(path: Path) -> Run:
    """By TensorFlow's own loader, from the folder of `saved_model.pb`."""
    import tensorflow as tf  # noqa: PLC0415 - each process loads the one library it needs

    loaded = tf.saved_model.load(str(path.parent))

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        words = keywords(inputs)
        tensors = {words[name]: tf.constant(values) for name, values in inputs.items()}
        answers = loaded.signatures["serving_default"](**tensors)
        return {name: _readable(value.numpy()) for name, value in answers.items()}

    return run


def keywords(names: Iterable[str]) -> dict[str, str]:
    """The keyword by which a SavedModel's signature, called from Python, takes the input of each name.

    A name that can be a keyword is its own. Else `_` stands for each letter that a keyword cannot hold, `arg_` goes
    before what cannot begin one, and a number behind what is taken.
    """
    chosen: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (_keyword(name) != name, name)):
        word, number = _keyword(name), 2
        while word in chosen.values():
            word, number = f"{_keyword(name)}_{number}", number + 1
        chosen[name] = word
    return chosen


def _keyword(name: str) -> str:
    # TensorFlow's own rule keeps every letter or digit of Unicode, and then Python refuses a few: `m²`, `class`.
    word = "".join(letter if letter.isalnum() and f"a{letter}".isidentifier() else "_" for letter in name)
    is_free = word[0].isalpha() and not keyword.iskeyword(word) and word != "self"
    return word if is_free else f"arg_{word}"


def load_onnx(path: Path) -> Run:
    """By ONNX Runtime on the CPU."""
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        feeds = {name: values.astype(object) if values.dtype.kind == "U" else values for name, values in inputs.items()}
        return {name: _readable(value) for name, value in zip(names, session.run(None, feeds), strict=True)}

    return run


def load_litert(path: Path) -> Run:
    """By LiteRT's interpreter, through the signature, which keeps the model's names."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    runner = Interpreter(str(path), num_threads=1).get_signature_runner("serving_default")
    return lambda inputs: {name: np.array(value) for name, value in runner(**inputs).items()}


def load_openvino(path: Path) -> Run:
    """By OpenVINO on the CPU, in float32: on new processors it would take bfloat16 by itself."""
    import openvino  # noqa: PLC0415

    core = openvino.Core()
    model = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda inputs: {output.any_name: np.array(value) for output, value in model(inputs).items()}


LOADERS: dict[str, Callable[[Path], Run]] = {
    "saved_model": load_saved_model,
    "onnx": load_onnx,
    "litert": load_litert,
    "openvino": load_openvino,
}


def answer(request: dict[str, Any]) -> None:
    """Answers the rows of `request["inputs"]` at each batch size, into `request["outputs"]` as `size/name`."""
    run = LOADERS[request["format"]](Path(request["model"]))
    with np.load(request["inputs"], allow_pickle=False) as arrays:
        inputs = {name.removeprefix("inputs/"): arrays[name] for name in arrays.files}
    answers = {
        f"{size}/{name}": values
        for size in request["batch_sizes"]
        for name, values in in_batches(run, inputs, size).items()
    }
    np.savez(request["outputs"], allow_pickle=False, **answers)


def _readable(values: Any) -> np.ndarray:
    array = np.asarray(values)
    return np.char.decode(array.astype(np.bytes_), "utf-8") if array.dtype.kind == "S" else _text(array)


def _text(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "O":
        return array
    texts = [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel()]
    return np.array(texts, dtype=np.str_).reshape(array.shape)


def _main(request_file: str, answer_file: str) -> None:
    problem: str | None = None
    try:
        answer(json.loads(Path(request_file).read_text()))
    except Exception as error:  # each library raises its own kinds
        problem = f"{type(error).__name__}: {error}"
    Path(answer_file).write_text(json.dumps({"error": problem}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
