"""The fresh process: reloads saved models and says what it found.

Reads one JSON request a line from standard input and answers one JSON line each. Arrays travel in .npz files beside
the model. Started by `models.checks.fresh_process`, with another hash seed than the process that saved.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any, TextIO

import keras
import numpy as np

from models.checks.tensors import flat_arrays, storable


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answers requests until the input ends."""
    for line in requests:
        try:
            answer = reload(json.loads(line))
        except Exception as error:  # whatever a user's layer raises is the answer
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def reload(request: dict[str, Any]) -> dict[str, Any]:
    """Imports the modules, loads the model, runs it on the inputs; outputs and weights go to `results.npz`."""
    directory = Path(request["directory"])
    sys.path.extend(entry for entry in request["sys_path"] if entry not in sys.path)
    modules = [_module(name, path) for name, path in request["modules"].items()]
    custom_objects = {name: found for name in request["classes"] if (found := _find(modules, name)) is not None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = keras.saving.load_model(directory / "model.keras", custom_objects=custom_objects, compile=False)
        with np.load(directory / "inputs.npz", allow_pickle=False) as stored:
            inputs = [stored[str(index)] for index in range(len(stored.files))]
        outputs = flat_arrays(model([keras.ops.convert_to_tensor(array) for array in inputs], training=False))
    arrays = {f"output_{index}": storable(array) for index, array in enumerate(outputs)}
    arrays |= {f"weight_{index}": storable(weight.numpy()) for index, weight in enumerate(model.weights)}
    np.savez(directory / "results.npz", **arrays)  # type: ignore[arg-type]  # names, not allow_pickle
    return {
        "num_outputs": len(outputs),
        "weights": [weight.path for weight in model.weights],
        "trainable": [bool(weight.trainable) for weight in model.weights],
        "losses": [float(loss) for loss in model.losses],
    }


def _module(name: str, path: str | None) -> Any:
    """Imports a module by name, or from its file where the name leads nowhere or elsewhere."""
    if name in sys.modules and name != "__main__":
        return sys.modules[name]
    if name != "__main__":
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            if path is None:
                raise
        else:
            if path is None or getattr(module, "__file__", None) == path:
                return module
    # A script runs here under another name, so that `if __name__ == "__main__"` stays out.
    known_as = "__checked_script__" if name == "__main__" else name
    specification = importlib.util.spec_from_file_location(known_as, str(path))
    if specification is None or specification.loader is None:
        raise ImportError(f"`{name}` cannot be imported from {path}")
    module = importlib.util.module_from_spec(specification)
    sys.modules[known_as] = module
    specification.loader.exec_module(module)
    return module


def _find(modules: list[Any], qualified_name: str) -> Any:
    for module in modules:
        found: Any = module
        for part in qualified_name.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    return None


if __name__ == "__main__":
    # What a user's module prints must not mix with the answers.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        serve(sys.stdin, answers)
