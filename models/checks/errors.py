"""Rules on mistakes: a wrong argument or input is refused, in words that name it."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np

from models.checks.arguments import arguments
from models.checks.example import Arrays
from models.checks.reach import reachable
from models.checks.subject import Subject
from models.checks.verdict import BrokenRuleError, NotApplicableError
from models.checks.wording import told, words

_NONSENSE = "not-a-number"


def check_bad_argument_is_named(subject: Subject) -> None:
    """An argument of the wrong type that is found out late, or never, costs its user an hour with a stack trace.

    Mend: Check arguments first in `__init__`, and name the argument and what came: "`units` must be a positive integer.
    Received: units='x'".
    """
    layer = subject.made.value()
    given = arguments(layer)
    numbers = [name for name, value in given.items() if isinstance(value, int | float) and not isinstance(value, bool)]
    if not numbers or isinstance(layer, keras.Model):
        raise NotApplicableError("the layer takes no numbers")
    refusals = [found for name in numbers if (found := _bad_argument(subject, given, name))]
    if refusals:
        raise BrokenRuleError("; ".join(refusals))


def _bad_argument(subject: Subject, given: dict[str, Any], name: str) -> str | None:
    call = f"{name}={_NONSENSE!r}"
    try:
        layer = subject.cls(**{**given, name: _NONSENSE})
    except Exception as error:  # its words are what is checked
        text = str(error)
        if re.search(rf"\b{name}\b", text) and (_NONSENSE in text or "'str'" in text):
            return None
        return f"{call} is refused by {told(error, 100)} (which does not name both)"
    try:
        subject.call(layer)
    except Exception as error:  # any will do: it comes too late
        return f"{call} is refused only when the layer is called, by {told(error, 100)}"
    return f"{call} is accepted"


def check_wrong_input_is_named(subject: Subject) -> None:
    """An input of the wrong rank or width that is broadcast instead of refused gives a client plausible nonsense.

    Mend: Set `self.input_spec = InputSpec(ndim=..., axes={-1: width})` in `build`.
    """
    layer = subject.built.value()
    if not layer.weights:
        raise NotApplicableError("the layer has no weights, so nothing binds it to a width")
    if any(kind == "string" for kind in subject.example.dtypes):
        raise NotApplicableError("text has no width")
    for story, arrays in _wrong_inputs(subject):
        _refuse_silence(subject, layer, story, arrays)


def _wrong_inputs(subject: Subject) -> list[tuple[str, Arrays]]:
    """The example with its first input narrower, wider, of a lower and of a higher rank."""
    first, *others = subject.example.arrays
    if first.ndim < 2:
        return []
    wrong = {
        "narrower": first[..., :1],
        "wider": np.concatenate([first, first], axis=-1),
        "of lower rank": first[..., 0],
        "of higher rank": first[..., np.newaxis],
    }
    return [(story, [array, *others]) for story, array in wrong.items() if array.shape != first.shape]


def _refuse_silence(subject: Subject, layer: Any, story: str, arrays: Arrays) -> None:
    """A layer must refuse an input for which it would have made other weights."""
    shape = arrays[0].shape
    try:
        subject.call(layer, arrays)
    except Exception as error:
        text = str(error)
        if _mentions(text, shape) or any(name in text for name in _names(layer)):
            return
        raise BrokenRuleError(
            f"an input {story}, {shape}, is refused in words that name neither: {words(text)}"
        ) from error
    twin = subject.fresh()
    try:
        subject.call(twin, arrays)
    except Exception as error:
        raise BrokenRuleError(
            f"built for {subject.example.arrays[0].shape}, it accepts an input {story}, {shape}, "
            "on which it can't be built"
        ) from error
    ours, theirs = ([tuple(weight.shape) for weight in each.weights] for each in (layer, twin))
    if ours != theirs:
        raise BrokenRuleError(
            f"built for {subject.example.arrays[0].shape} with weights {ours}, it accepts an input {story}, {shape}, "
            f"which takes weights {theirs}"
        )


def _names(layer: Any) -> list[str]:
    """The names of the layer and of those within it, which a message may use as well."""
    layers = [layer, *(held for _, held in reachable(layer) if isinstance(held, keras.Layer))]
    return [name for each in layers for name in (each.name, type(each).__name__)]


def _mentions(text: str, shape: tuple[int, ...]) -> bool:
    return str(shape) in text or str(list(shape)) in text or ",".join(map(str, shape)) in text


RULES = (check_bad_argument_is_named, check_wrong_input_is_named)
