"""What a prediction looks like as JSON: `{"predictions": [...], "model": ..., "version": ...}` and its headers."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import orjson

from models.manifest import Signature, Tensors, TensorSpec
from service.errors import InvalidRequest, NotInJson
from service.inference import InferenceResponse
from service.metadata import ModelMetadata
from service.protocols.tensors import dump, encode, not_in_json

_NUMPY = orjson.OPT_SERIALIZE_NUMPY
LABELLED = (
    TensorSpec(name="label", dtype="string", shape=(None,)),
    TensorSpec(name="probability", dtype="float32", shape=(None,)),
)
"""What an answer other than JSON holds where labels are asked for; the probability may be of another float."""


class AnswerEncoder:
    """Writes the answers that one version gives. `headers` says who gave them, and `head` the same as lines of HTTP."""

    def __init__(self, signature: Signature, model: str, version: int, runtime: str) -> None:
        self.signature = signature
        self.headers = {"x-model-name": model, "x-model-version": str(version), "x-runtime": runtime}
        self.head = b"".join(b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in self.headers.items())
        self._model = model
        only = signature.outputs[0] if len(signature.outputs) == 1 else None
        self._only_numbers = only.name if only and only.dtype != "string" else None
        self._tail = b"," + dump({"model": model, "version": version})[1:]

    @classmethod
    def of(cls, response: InferenceResponse) -> AnswerEncoder:
        """The one for the version that gave `response`."""
        return cls(response.signature, response.model, response.version, response.runtime)

    def encode(self, outputs: Tensors, *, labels: bool) -> bytes:
        """The body.

        Raises:
            InvalidRequest: labels are asked for, and the model is no classifier with labels.
            NotInJson: the model answered with NaN or Infinity.
        """
        if labels:
            rows = dump(_labelled(self._model, outputs, self.signature))
        elif self._only_numbers is not None:
            values = outputs[self._only_numbers]
            rows = orjson.dumps(values if values.flags.c_contiguous else values.copy(), None, _NUMPY)
        else:
            rows = dump(_rows(outputs, self.signature))
        # orjson writes NaN and Infinity as null, so an answer without null needs no look at each number.
        if b"null" in rows:
            _check_finite(outputs)
        return b"".join((b'{"predictions":', rows, self._tail))

    def encode_each(self, outputs: Tensors, counts: list[int]) -> list[bytes | NotInJson]:
        """For each of several requests, whose rows follow each other, what `encode` gives or raises for it alone."""
        values = outputs.get(self._only_numbers or "")
        texts = None if values is None else row_texts(values, counts)
        if texts is None:
            ends = accumulate(counts, initial=0)
            parts = [{name: each[start:end] for name, each in outputs.items()} for start, end in pairwise(ends)]
            return [self._encode_or_error(part) for part in parts]
        tail = b"]]" + self._tail
        return [b'{"predictions":[[' + text + tail for text in texts]

    def _encode_or_error(self, outputs: Tensors) -> bytes | NotInJson:
        try:
            return self.encode(outputs, labels=False)
        except NotInJson as error:
            return error


def row_texts(values: np.ndarray, counts: list[int]) -> list[bytes] | None:
    """What is within `[[` and `]]` of the JSON of each of several requests, which have `counts` of the rows.

    None unless a row is a list of finite numbers.
    """
    if values.ndim != 2 or not values.size:
        return None
    values = np.ascontiguousarray(values)
    if len(counts) == len(values):
        text = orjson.dumps(values, None, _NUMPY)[2:-2]
        return None if b"null" in text else text.split(b"],[")  # NaN or Infinity
    ends = accumulate(counts, initial=0)
    texts = [orjson.dumps(values[start:end], None, _NUMPY)[2:-2] for start, end in pairwise(ends)]
    return None if any(b"null" in text for text in texts) else texts


def check_labels(name: str, signature: Signature) -> tuple[str, ...]:
    """The labels of a classifier.

    Raises:
        InvalidRequest: the model `name` is none.
    """
    if signature.labels is None or not has_labels(signature):
        raise InvalidRequest(f"`{name}` is no classifier with labels. Ask without ?labels=true.")
    return signature.labels


def has_labels(signature: Signature) -> bool:
    """Whether it is that of a classifier, with a label for each value of its one output."""
    labels = signature.labels
    return labels is not None and [spec.shape for spec in signature.outputs] == [(None, len(labels))]


def answer_tensors(response: InferenceResponse, *, labels: bool) -> Tensors:
    """What an answer other than JSON holds: the outputs in the signature's order, or label and probability.

    Raises:
        InvalidRequest: labels are asked for, and the model is no classifier with labels.
    """
    signature, outputs = response.signature, response.outputs
    if not labels:
        return {spec.name: outputs[spec.name] for spec in signature.outputs}
    names = np.array(check_labels(response.model, signature))
    probabilities = outputs[signature.outputs[0].name]
    return {"label": names[probabilities.argmax(axis=1)], "probability": probabilities.max(axis=1)}


def example(metadata: ModelMetadata) -> dict[str, Any]:
    """A request that works as it stands, the first golden row, with the answer that the trained model gave."""
    outputs = {name: values[:1] for name, values in metadata.golden.outputs.items()}
    encoder = AnswerEncoder(metadata.signature, metadata.name, metadata.version, metadata.runtime)
    return {"request": example_request(metadata), "response": orjson.loads(encoder.encode(outputs, labels=False))}


def example_request(metadata: ModelMetadata) -> Any:
    """The first golden row as a request."""
    specs = metadata.signature.inputs
    columns = [encode(spec, metadata.golden.inputs[spec.name][:1]) for spec in specs]
    return orjson.loads(dump({"instances": _join(columns, specs)}))


def _check_finite(outputs: Tensors) -> None:
    for name, values in outputs.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            array = "application/x-npy" if len(outputs) == 1 else "application/x-npz"
            way_out = f"Ask for another form: `Accept: {array}`, or that of Arrow or MessagePack."
            raise not_in_json(name, "NaN or Infinity", ~np.isfinite(values), way_out)


def _labelled(name: str, outputs: Tensors, signature: Signature) -> list[dict[str, Any]]:
    labels = check_labels(name, signature)
    probabilities = outputs[signature.outputs[0].name]
    _check_finite(outputs)  # a row may hold NaN beside the likeliest probability
    best = probabilities.argmax(axis=1)
    return [{"label": labels[index], "probability": row[index]} for index, row in zip(best, probabilities, strict=True)]


def _rows(outputs: Tensors, signature: Signature) -> Any:
    return _join([_column(outputs[spec.name], spec) for spec in signature.outputs], signature.outputs)


def _join(columns: list[Any], specs: tuple[TensorSpec, ...]) -> Any:
    """From a column for each tensor to a value, or an object of all of them, for each row."""
    if len(columns) == 1:
        return columns[0]
    names = [spec.name for spec in specs]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _column(values: np.ndarray, spec: TensorSpec) -> Any:
    """One value a row, as orjson takes it: no strings of NumPy, and no memory order but C's."""
    return values.tolist() if spec.dtype == "string" else np.ascontiguousarray(values)
