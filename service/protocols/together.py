"""Several requests answered together: how, whatever their protocol is, and what becomes known of it."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

from models.manifest import Tensors
from service.engine import Engine, Model
from service.errors import NotInJson


class Together(NamedTuple):
    """The bodies that answer several requests, and their rows; when they were ready, and what each has cost.

    `head` is the lines of HTTP, and `media_type` the type, that each of the answers has. Of one that its form cannot
    carry there is the error instead of a body.
    """

    bodies: list[bytes | NotInJson]
    rows: list[int]
    ended: float
    decode_seconds: float
    encode_seconds: float
    head: bytes
    media_type: bytes


Bodies = list[Any]
"""Bytes of text, or views of the bytes of tensors: what the protocol has put into its requests."""
Decode = Callable[[Bodies], tuple[Tensors, list[int]] | None]
"""The rows of all bodies, and how many each has; None where it is not sure of them."""
Encode = Callable[[Tensors, list[int]], tuple[bytes, list[bytes | NotInJson]]]
"""The lines of HTTP that all answers have, and the body of each, or the error where it cannot be written."""


def answer_together(
    engine: Engine, model: Model, bodies: Bodies, received: float, *, decode: Decode, encode: Encode, media_type: bytes
) -> Together | None:
    """Answers bodies, the first of which was received at a time of `perf_counter`.

    None where each must be decoded and submitted, since they are of another form or would not run together.
    """
    if not engine.may_run_at_once(model):
        return None
    began = perf_counter()
    decoded = decode(bodies)
    if decoded is None:
        return None
    inputs, counts = decoded
    submitted = perf_counter()
    outputs = engine.run_at_once(model, inputs, counts, submitted - received)
    if outputs is None:
        return None
    answered = perf_counter()
    head, answers = encode(outputs, counts)
    ended = perf_counter()
    number = len(bodies)
    return Together(answers, counts, ended, (submitted - began) / number, (ended - answered) / number, head, media_type)
