"""The forms other than JSON that a prediction's body and answer may have, by media type.

Each is one file with `decode`, `encode` and `misfit`. None of them unpickles, and none believes what a header says of
sizes before it has looked at the bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from models.manifest import Signature, Tensors, TensorSpec
from service.errors import InvalidRequest, UnsupportedMedia
from service.protocols.bodies import csv_table, numpy_arrays

JSON = "application/json"


@dataclass(frozen=True)
class BodyKind:
    """A form of tensors as bytes.

    `decode` takes a body, the signature and the most bytes that may be unpacked from it, and raises InvalidRequest.
    `encode` takes tensors with rows. `misfit` says why tensors of these specs do not go into this form, if they do not.
    """

    media_type: str
    decode: Callable[[bytes, Signature, int], Tensors]
    encode: Callable[[Tensors], bytes]
    misfit: Callable[[tuple[TensorSpec, ...]], str | None]

    def check(self, specs: tuple[TensorSpec, ...]) -> None:
        """Refuses this form for tensors that do not go into it.

        Raises:
            InvalidRequest: they do not.
            UnsupportedMedia: the library for it is missing.
        """
        if reason := self.misfit(specs):
            raise InvalidRequest(f"{self.media_type} {reason}")


def _anything_fits(specs: tuple[TensorSpec, ...]) -> str | None:  # noqa: ARG001 - a BodyKind's misfit
    return None


def _optional(media_type: str, module: str) -> BodyKind:
    """A kind whose library may be missing, and is loaded by the first request that needs it."""

    def loaded() -> Any:
        try:
            return import_module(f"{__name__}.{module}")
        except ImportError as error:
            raise UnsupportedMedia(
                f"{media_type} needs a library that is not installed here: pip install 'layerserve[bodies]'."
            ) from error

    def misfit(specs: tuple[TensorSpec, ...]) -> str | None:
        loaded()
        return _anything_fits(specs)

    def decode(body: bytes, signature: Signature, limit: int) -> Tensors:
        tensors: Tensors = loaded().decode(body, signature, limit)
        return tensors

    def encode(tensors: Tensors) -> bytes:
        content: bytes = loaded().encode(tensors)
        return content

    return BodyKind(media_type, decode, encode, misfit)


_NPY = BodyKind("application/x-npy", numpy_arrays.decode_npy, numpy_arrays.encode_npy, numpy_arrays.npy_misfit)
_NPZ = BodyKind("application/x-npz", numpy_arrays.decode_npz, numpy_arrays.encode_npz, _anything_fits)
_CSV = BodyKind("text/csv", csv_table.decode, csv_table.encode, csv_table.misfit)
_ARROW = _optional("application/vnd.apache.arrow.stream", "arrow_table")
_MESSAGEPACK = _optional("application/msgpack", "messagepack")

KINDS = {kind.media_type: kind for kind in (_NPY, _NPZ, _CSV, _ARROW, _MESSAGEPACK)}
_SYNONYMS = {
    "application/npy": _NPY,
    "application/npz": _NPZ,
    "application/x-msgpack": _MESSAGEPACK,
    "application/vnd.msgpack": _MESSAGEPACK,
}
_BY_MEDIA_TYPE = KINDS | _SYNONYMS


def kind_of_body(content_type: str) -> BodyKind | None:
    """The kind of a body by its `Content-Type`; None for JSON.

    Raises:
        UnsupportedMedia: it is none that is known.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == JSON:
        return None
    kind = _BY_MEDIA_TYPE.get(media_type)
    if kind is None:
        raise UnsupportedMedia(
            f"The body must be {JSON}, or one of {', '.join(KINDS)}. Received: {media_type}. "
            f"With curl, add -H 'Content-Type: {JSON}'."
        )
    return kind


def kind_of_answer(accept: str) -> BodyKind | None:
    """The kind that a caller's `Accept` likes best; None for JSON, which is also for those who name nothing known."""
    wishes = [_wish(item) for item in accept.split(",")]
    for weight, media_type in sorted(wishes, key=lambda wish: -wish[0]):
        if weight > 0 and media_type in {JSON, "application/*", "*/*"}:
            return None
        if weight > 0 and media_type in _BY_MEDIA_TYPE:
            return _BY_MEDIA_TYPE[media_type]
    return None


def _wish(item: str) -> tuple[float, str]:
    media_type, *parameters = (part.strip().lower() for part in item.split(";"))
    weights = [parameter[2:] for parameter in parameters if parameter.startswith("q=")]
    try:
        return (float(weights[0]) if weights else 1.0), media_type
    except ValueError:
        return 0.0, media_type
