"""From a request of the Open Inference Protocol to tensors, and from the answer's tensors to its response.

What the REST and the gRPC door have in common is here; how bytes lie in a message is theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from models.manifest import DType, Signature, Tensors, TensorSpec
from models.pointers import is_label
from service.engine import Engine
from service.errors import InvalidRequest, NotFound, ServiceError
from service.inference import InferenceRequest, InferenceResponse, check_form
from service.metadata import ModelMetadata
from service.protocols.datatypes import OF_DTYPE
from service.protocols.tensors import describe, dump
from service.protocols.v2_request import InferMessage, InputTensor, OutputChoice
from service.protocols.v2_tensors import check_datatype, decode_text, from_bytes, from_json, to_bytes, to_json


class OutputTensor(NamedTuple):
    """One output as it is to be sent."""

    name: str
    dtype: DType
    values: np.ndarray
    is_binary: bool

    def describe(self) -> dict[str, Any]:
        """Its name, datatype and shape, as both doors' messages have them."""
        return {"name": self.name, "datatype": OF_DTYPE[self.dtype].v2, "shape": list(self.values.shape)}


class Which(NamedTuple):
    """The version of a path or message: by its number, by its label, or the one that serves."""

    version: int | None = None
    label: str | None = None


def which_version(text: str | None) -> Which:
    """The version that a text asks for: `3`, `stable`, or nothing for the one that serves.

    Raises:
        NotFound: it can be neither a number nor a label.
    """
    if not text:
        return Which()
    if text.isascii() and text.isdecimal() and len(text) < 10 and int(text) > 0:
        return Which(version=int(text))
    if is_label(text):
        return Which(label=text)
    raise NotFound(f"A version is a number or a label. Received: {describe(text)}.")


def split_binary(tensors: Sequence[InputTensor], binary: memoryview) -> list[memoryview]:
    """The bytes of each tensor that is raw.

    Raises:
        InvalidRequest: there are more bytes than the tensors have, or fewer.
    """
    sizes = [tensor.size for tensor in tensors if tensor.data is None]
    if sum(sizes) != len(binary):
        raise InvalidRequest(
            f"The sizes of the binary inputs must add up to {len(binary)} bytes. Received: {sum(sizes)}."
        )
    ends = list(accumulate(sizes, initial=0))
    return [binary[start:end] for start, end in pairwise(ends)]


def decode_inputs(signature: Signature, tensors: Sequence[InputTensor], pieces: Iterable[memoryview]) -> Tensors:
    """The arrays of a request; `pieces` are the bytes of those tensors that are raw, in their order.

    Raises:
        InvalidRequest: a tensor is not what the signature says.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    remaining = iter(pieces)
    inputs: Tensors = {}
    for tensor in tensors:
        spec = specs.get(tensor.name)
        if spec is None:
            raise InvalidRequest(f"There is no input {describe(tensor.name)}. The inputs are {_listed(list(specs))}.")
        check_datatype(spec, tensor)
        is_raw = tensor.data is None
        values = from_bytes(spec, tensor, next(remaining)) if is_raw else from_json(spec, tensor)
        # As MLServer's codecs and Triton's configurations have a single value a row.
        inputs[tensor.name] = values[:, 0] if len(spec.shape) == 1 and tensor.shape[1:] == (1,) else values
    return inputs


def raw_input(metadata: ModelMetadata, data: memoryview) -> InputTensor:
    """The one input, in one row, that a body of bytes alone is; of strings it is one, without its length.

    Raises:
        InvalidRequest: the model has several inputs, or its one has a shape that the bytes do not tell.
    """
    specs = metadata.signature.inputs
    free = specs[0].shape[1:].count(None)
    if len(specs) != 1 or free > 1:
        raise InvalidRequest(
            f"A raw body needs a model of one input with at most one free size. `{metadata.name}` has "
            f"{_listed([f'{spec.name} {list(spec.shape)}' for spec in specs])}. Describe the tensors in JSON."
        )
    datatype = OF_DTYPE[specs[0].dtype]
    if datatype.wire is None:
        if any(length != 1 for length in specs[0].shape[1:]):
            raise InvalidRequest("A raw body is one string, and the model takes others a row. Describe them in JSON.")
        return InputTensor(specs[0].name, datatype.v2, (1,) * len(specs[0].shape), [decode_text(specs[0], data)], 0)
    row = datatype.wire.itemsize
    for length in specs[0].shape[1:]:
        row *= 1 if length is None else length
    free_length = len(data) // row if free and row else 0
    shape = [1, *(free_length if length is None else length for length in specs[0].shape[1:])]
    return InputTensor(specs[0].name, datatype.v2, tuple(shape), None, len(data))


def check_outputs(signature: Signature, message: InferMessage) -> list[OutputChoice]:
    """The outputs that are asked for, all of them if none are named.

    Raises:
        InvalidRequest: there is no such output, or it has no classes.
    """
    names = [spec.name for spec in signature.outputs]
    if message.outputs is None:
        return [OutputChoice(name, message.is_binary, 0) for name in names]
    for choice in message.outputs:
        if choice.name not in names:
            raise InvalidRequest(f"There is no output {describe(choice.name)}. The outputs are {_listed(names)}.")
        spec = signature.outputs[names.index(choice.name)]
        if choice.classes and not has_classes(spec):
            raise InvalidRequest(f"Output `{choice.name}` has no classes: it must be numbers, several a row.")
    return message.outputs


def has_classes(spec: TensorSpec) -> bool:
    """Whether the parameter `classification` may be given for an output: it is numbers, several a row."""
    return spec.dtype not in {"string", "bool"} and len(spec.shape) > 1


async def infer(engine: Engine, metadata: ModelMetadata, request: InferenceRequest) -> InferenceResponse:
    """Asks the engine; of no rows nobody needs to ask it anything, if their form is right.

    Raises:
        ServiceError: as `Engine.infer`.
    """
    if all(values.ndim and not len(values) for values in request.inputs.values()):
        check_form(metadata.signature, request.inputs)
        empty = {name: values[:0] for name, values in metadata.golden.outputs.items()}
        return InferenceResponse(empty, metadata.signature, metadata.name, metadata.version, metadata.runtime)
    return await engine.infer(request)


def shortest(*timeouts: float | None) -> float | None:
    """The one that ends first of those that were given."""
    return min((timeout for timeout in timeouts if timeout is not None), default=None)


def choose_outputs(response: InferenceResponse, choices: Sequence[OutputChoice]) -> list[OutputTensor]:
    """The outputs of an answer in the order in which they were asked for."""
    dtypes = {spec.name: spec.dtype for spec in response.signature.outputs}
    missing = [choice.name for choice in choices if choice.name not in dtypes]
    if missing:  # another version has taken over, with another signature
        raise ServiceError(f"The model has no output {describe(missing[0])} any more. Ask again.")
    return [
        OutputTensor(item.name, "string", _best(response, item), item.is_binary)
        if item.classes
        else OutputTensor(item.name, dtypes[item.name], response.outputs[item.name], item.is_binary)
        for item in choices
    ]


def encode_outputs(head: dict[str, Any], outputs: list[OutputTensor]) -> tuple[bytes, list[bytes | memoryview] | None]:
    """The JSON, and the raw tensors behind it; None where no output is to be raw.

    Raises:
        NotInJson: an output that is not to be raw holds an infinity.
    """
    described = []
    tensors: list[bytes | memoryview] = []
    for output in outputs:
        content = output.describe()
        if output.is_binary:
            tensors.append(to_bytes(output.dtype, output.values))
            content["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            content["data"] = to_json(output.name, output.dtype, output.values)
        described.append(content)
    json = dump({**head, "outputs": described})
    return json, tensors if any(output.is_binary for output in outputs) else None


def _best(response: InferenceResponse, choice: OutputChoice) -> np.ndarray:
    """The largest values of each row as `value:index:label`, the label where there is one."""
    values = response.outputs[choice.name]
    rows = values.reshape(len(values), math.prod(values.shape[1:]))
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, : choice.classes]
    labels = response.signature.labels
    has_labels = labels is not None and len(labels) == rows.shape[1]
    names = [f":{label}" for label in labels] if labels and has_labels else [""] * rows.shape[1]
    form = "f" if values.dtype.kind == "f" else "d"
    texts = [
        [f"{row[index]:{form}}:{index}{names[index]}" for index in order] for row, order in zip(rows, best, strict=True)
    ]
    return np.array(texts, dtype=np.str_).reshape(best.shape)


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
