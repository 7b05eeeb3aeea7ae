"""Predictions that TensorFlow Serving's clients ask for in JSON, answered together.

The plainest ones are `{"instances": [...]}` of one input of numbers, as `POST .../predict` has it too, for one output
of lists of numbers. All others, and all errors, are `service.protocols.tfs`'s.
"""

from __future__ import annotations

import re
from itertools import accumulate, pairwise

from models.manifest import Signature, Tensors
from service.errors import NotInJson
from service.metadata import ModelMetadata
from service.protocols.answers import row_texts
from service.protocols.json_rows import RowsDecoder
from service.protocols.predict import Target
from service.protocols.tensors import surely_within
from service.protocols.tfs_decode import EXACT_BITS
from service.protocols.tfs_encode import encode_predict
from service.protocols.together import Bodies, Together, answer_together
from service.protocols.ways import Serving, Way

PROTOCOL = "tfs"
_URL = re.compile(r"/v1/models/([\w.-]+)(?:/versions/([1-9]\d{0,8}))?:predict", re.ASCII)


def target_of(url: bytes, _: bool) -> Target | None:
    """The version that is asked for a prediction."""
    found = _URL.fullmatch(url.decode("latin-1"))
    return Target(found[1], found[2]) if found else None


def split(raw: bytes, begin: int, _: int) -> tuple[bytes, bytes]:
    """Nothing in common, and all of the body."""
    return b"", raw[begin:]


def make_plan(serving: Serving, metadata: ModelMetadata, _: bytes, __: bool) -> TfsPlan | None:
    """The plan of a version; None where its signature is not the plainest."""
    return TfsPlan(serving, metadata) if _is_plain(metadata.signature) else None


WAY = Way(PROTOCOL, target_of, split, make_plan, packs=False)


def _is_plain(signature: Signature) -> bool:
    if len(signature.inputs) > 1 or len(signature.outputs) > 1:
        return False
    given, answered = signature.inputs[0], signature.outputs[0]
    return given.dtype != "float16" and answered.dtype != "string" and len(answered.shape) == 2


class TfsPlan:
    """What one version needs for all predictions."""

    def __init__(self, serving: Serving, metadata: ModelMetadata) -> None:
        self._engine = serving.engine
        self._model = metadata.model
        self._decoder = RowsDecoder(metadata.signature)
        bits = EXACT_BITS.get(metadata.signature.inputs[0].dtype)
        self._largest = 2.0**bits if bits else None
        self._signature = metadata.signature
        self._output = metadata.signature.outputs[0].name
        self.name, self.version = metadata.name, metadata.version
        self.counts = serving.metrics.requests(metadata.name, metadata.version, PROTOCOL)

    def answer_together(self, bodies: Bodies, received: float) -> Together | None:
        """Answers several bodies; see `service.protocols.together`."""
        return answer_together(
            self._engine,
            self._model,
            bodies,
            received,
            decode=self._decode,
            encode=self._encode,
            media_type=b"application/json",
        )

    def _decode(self, bodies: Bodies) -> tuple[Tensors, list[int]] | None:
        found = self._decoder.decode_together(bodies)
        if found is None or self._largest is None:
            return found
        (values,) = found[0].values()
        # From there on, an integer might not be exact.
        return found if surely_within(values.reshape(-1), self._largest - 1) else None

    def _encode(self, outputs: Tensors, counts: list[int]) -> tuple[bytes, list[bytes | NotInJson]]:
        values = outputs[self._output]
        texts = row_texts(values, counts)
        if texts is None:  # NaN and infinities, whose tokens are not orjson's; to run again would count it twice
            parts = pairwise(accumulate(counts, initial=0))
            return b"", [encode_predict({self._output: values[a:b]}, self._signature, "row") for a, b in parts]
        return b"", [b'{\n    "predictions": [[%b]]\n}' % text for text in texts]
