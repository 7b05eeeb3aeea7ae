"""The fresh process of the proof: loads a saved model with nothing but the layer modules, and says what it found.

`python -m export.reload REQUEST ANSWER` reads a JSON request and writes a JSON answer and the model's outputs. It
imports neither the training nor the builders, as a server would not.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from export.replay import in_batches
from models.golden import load_tensors, save_tensors
from models.manifest import LayerRecord, Signature
from models.quiet import quiet_import

with quiet_import():
    import keras

    from models import registry
    from models.activations import activations_of
    from models.loading import ModelLoadError, inference, layer_records, load_model, reason, signature_of, trace

_NUMBERED = re.compile(r"^variable(_\d+)?$")


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Request(_Message):
    """What to load. `inputs` is a `.npz` of the rows to answer, `outputs` the `.npz` to write: a group a batch size.

    With `of_layers` it is written what each layer gave, instead of the model's outputs.
    """

    model: Path
    layers: tuple[str, ...]
    labels: tuple[str, ...] | None
    inputs: Path
    outputs: Path
    batch_sizes: tuple[int, ...]
    of_layers: bool = False


class Variable(_Message):
    """One weight: its name within its layer, its shape, dtype and a hash of its value."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str


class Description(_Message):
    """What a model is, apart from its answers; `variables` in the order in which Keras saves them."""

    signature: Signature
    config: dict[str, Any]
    variables: tuple[Variable, ...]


class Answer(_Message):
    """What the fresh process found: a description and the layers it used, or why it could not load the model."""

    error: str | None = None
    description: Description | None = None
    layers: dict[str, LayerRecord] = {}


def describe(model: keras.Model, labels: tuple[str, ...] | None) -> Description:
    """Describes a model so that two processes can compare theirs.

    The states of random generators are no weights: Keras does not save them, and inference does not use them.
    """
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model.get_config()), sort_keys=True))
    variables = tuple(_describe_variable(variable) for variable in model.weights)
    return Description(signature=signature_of(model, labels), config=config, variables=variables)


def answer(request: Request) -> Answer:
    """Loads the model and answers the rows, in this process."""
    try:
        registry.load_plugins(request.layers)
        model = load_model(request.model)
        description = describe(model, request.labels)
        call = activations_of(model) if request.of_layers else inference(model)
        run, inputs = trace(call, description.signature), load_tensors(request.inputs, "inputs")
        answers = {str(size): in_batches(run, inputs, size) for size in request.batch_sizes}
    except ModelLoadError as error:
        return Answer(error=str(error))
    except Exception as error:  # a custom layer may raise anything when it is imported, built or called
        return Answer(error=f"{type(error).__name__}: {reason(error)}")
    save_tensors(request.outputs, **answers)
    return Answer(description=description, layers=layer_records(request.model))


def _describe_variable(variable: keras.Variable) -> Variable:
    value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
    # A weight without a name gets a number that counts through the process, and its path depends on who built it.
    name = _NUMBERED.sub("variable", variable.name)
    digest = hashlib.sha256(value.tobytes()).hexdigest()
    return Variable(name=name, shape=value.shape, dtype=str(variable.dtype), sha256=digest)


def _main(request_file: str, answer_file: str) -> None:
    request = Request.model_validate_json(Path(request_file).read_bytes())
    Path(answer_file).write_text(answer(request).model_dump_json())


if __name__ == "__main__":
    _main(*sys.argv[1:])
