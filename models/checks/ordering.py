"""Rules on which weight is which: the same names and values in the file, and the same order in every process."""

from __future__ import annotations

import dis
import re
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

import keras
import numpy as np

from models.checks.compare import EXACT, difference
from models.checks.fresh_process import Reloaded, shared_process
from models.checks.origin import is_keras_own
from models.checks.reach import reachable
from models.checks.subject import Journey, Subject
from models.checks.verdict import BrokenRuleError, NotApplicableError

_HASH_SEEDS = (11, 222)


def check_weights_survive_a_reload(subject: Subject) -> None:
    """A weight that is not in the file, or returns to another place, leaves the reloaded model part random.

    Mend: Keep weights and sub-layers in attributes that Keras tracks (lists, tuples and dicts too), and never name one
    `_layers`.
    """
    journey = subject.journey.value()
    _refuse_other_weights(journey, journey.reloaded)


def check_weights_keep_their_order(subject: Subject) -> None:
    """Weights made in the order of a set are made in another order by another process, and loaded crosswise.

    Mend: Sort before you make weights or sub-layers in a loop: `for name in sorted(names)`.
    """
    journey = subject.journey.value()
    if len(journey.model.weights) < 2:
        raise NotApplicableError("the layer has fewer than two weights")
    # The orders of a small set agree by chance; more processes make that unlikely, and are started only for sets.
    if not any(_uses_sets(type(layer)) for layer in _custom_layers(journey.layer)):
        raise NotApplicableError("its code uses no sets")
    others = [shared_process(seed) for seed in _HASH_SEEDS]
    for process in others:
        process.start()
    for process in others:
        _refuse_other_weights(journey, process.reload(journey.model, subject.example.arrays, journey.source))


def _custom_layers(layer: Any) -> list[Any]:
    held = [layer, *(value for _, value in reachable(layer) if isinstance(value, keras.layers.Layer))]
    return [each for each in held if not is_keras_own(type(each))]


def _uses_sets(cls: type) -> bool:
    """Whether a method of the class makes or reads a set."""
    functions = [
        value
        for base in cls.__mro__
        if not is_keras_own(base)
        for value in vars(base).values()
        if isinstance(value, FunctionType)
    ]
    return any(_touches_set(function, code) for function in functions for code in _codes(function.__code__))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _touches_set(function: FunctionType, code: CodeType) -> bool:
    instructions = list(dis.get_instructions(code))
    for instruction, following in zip(instructions, [*instructions[1:], None], strict=True):
        value = instruction.argval
        if instruction.opname.startswith("LOAD_GLOBAL"):
            value = {"set": set(), "frozenset": set()}.get(value, function.__globals__.get(value))
        # `if mode in {"sum", "mean"}` asks a set, and never sees its order.
        is_asked = following is not None and following.opname == "CONTAINS_OP"
        if instruction.opname in {"BUILD_SET", "SET_ADD"} or (isinstance(value, set | frozenset) and not is_asked):
            return True
    return False


def _refuse_other_weights(journey: Journey, reloaded: Reloaded) -> None:
    live = [plain_path(weight.path) for weight in journey.model.weights]
    there = [plain_path(path) for path in reloaded.paths]
    if len(live) != len(there):
        raise BrokenRuleError(f"{len(live)} weights became {len(there)}: {live} and {there}")
    for index, (path, value, loaded) in enumerate(zip(live, journey.weights, reloaded.weights, strict=True)):
        evidence = difference([value], [loaded], EXACT)
        if evidence:
            elsewhere = _found_elsewhere(journey, reloaded, index)
            raise BrokenRuleError(f"`{path}` has another value after the reload: {elsewhere or evidence}")
    for path, loaded_path in zip(live, there, strict=True):
        if not (f"/{path}".endswith(f"/{loaded_path}") or f"/{loaded_path}".endswith(f"/{path}")):
            raise BrokenRuleError(f"`{path}` is named `{loaded_path}` after the reload")


def plain_path(path: str) -> str:
    """A path without the numbers that Keras counts automatic names up with."""
    return re.sub(r"_\d+(?=/|$)", "", path)


def _found_elsewhere(journey: Journey, reloaded: Reloaded, index: int) -> str | None:
    value = journey.weights[index]
    for position, loaded in enumerate(reloaded.weights):
        if position != index and loaded.shape == value.shape and np.array_equal(loaded, value):
            return f"its value came back as `{plain_path(reloaded.paths[position])}`"
    return None


RULES = (check_weights_survive_a_reload, check_weights_keep_their_order)
