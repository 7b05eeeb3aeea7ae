"""Rules on a saved model in a fresh process: it loads, holds the same weights, and answers the same."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from models.checks.compare import LAST_BITS, difference
from models.checks.ordering import plain_path
from models.checks.origin import is_keras_own
from models.checks.reach import PlainAttribute, plain_attributes, reachable, same_plain
from models.checks.subject import Subject
from models.checks.tensors import Array
from models.checks.verdict import BrokenRuleError, NotApplicableError
from models.checks.wording import innermost, shown, words


def check_reloads_in_a_fresh_process(subject: Subject) -> None:
    """A model that loads only in the process that made it is found out on the server, after the training is paid.

    Mend: Read the error: it is what `keras.saving.load_model` says in a Python that imported nothing but the layer's
    module.
    """
    subject.model.value()
    error = subject.journey.failure()
    if isinstance(error, NotApplicableError):
        raise error
    if error is not None:
        raise BrokenRuleError(f"a fresh process can't load the saved model: {words(innermost(str(error)))}")


def check_reloaded_model_answers_alike(subject: Subject) -> None:
    """A reloaded model that answers otherwise, without an error, is the fault that reaches customers.

    Mend: Keep all that the answer depends on in weights or in the config: no NumPy arrays, counters or random numbers
    in plain attributes.
    """
    journey = subject.journey.value()
    evidence = difference(journey.outputs, journey.reloaded.outputs, LAST_BITS)
    if evidence:
        raise BrokenRuleError(f"the reloaded model gives other answers: {evidence}")


def check_frozen_parts_stay_frozen(subject: Subject) -> None:
    """A frozen part that returns trainable is overwritten by the next fine-tuning.

    Mend: Freeze in `__init__` from an argument that is in the config, or serialise the frozen sub-layer with
    `keras.saving.serialize_keras_object`.
    """
    journey = subject.journey.value()
    before = [bool(weight.trainable) for weight in journey.model.weights]
    if not before:
        raise NotApplicableError("the layer has no weights")
    for weight, was, became in zip(journey.model.weights, before, journey.reloaded.trainable, strict=False):
        if was != became:
            raise BrokenRuleError(
                f"`{plain_path(weight.path)}` was {_trainable(was)} and is {_trainable(became)} after the reload"
            )


def _trainable(flag: bool) -> str:
    return "trainable" if flag else "frozen"


def check_losses_survive_a_reload(subject: Subject) -> None:
    """A regularisation loss that is lost in the file makes the next training another one.

    Mend: Put every `*_regularizer` argument into the config, serialised with `keras.regularizers.serialize`.
    """
    journey = subject.journey.value()
    if not journey.losses and not journey.reloaded.losses:
        raise NotApplicableError("the layer adds no losses")
    evidence = difference([np.array(journey.losses)], [np.array(journey.reloaded.losses)], LAST_BITS)
    if evidence:
        raise BrokenRuleError(f"losses {journey.losses} became {journey.reloaded.losses}")


def check_no_hidden_state(subject: Subject) -> None:
    """State in plain attributes, on the class or in objects of your own is in no file, and every reload forgets it.

    Mend: Keep what calls change in `self.add_weight(..., trainable=False)` and `.assign` to it; draw random constants
    in `build` as non-trainable weights.
    """
    subject.built.value()
    layer = subject.fresh()
    subject.call(layer, training=True)
    for training in (True, False):
        before = plain_attributes(layer)
        subject.call(layer, training=training)
        _refuse_state(subject, layer, before, "changes with each call")
    twin = subject.fresh()
    subject.call(twin, training=True)
    for other in (True, False):
        subject.call(twin, training=other)
    _refuse_state(subject, layer, plain_attributes(twin), "is drawn anew for each layer")


def check_calls_leave_nothing_behind(subject: Subject) -> None:
    """A layer that keeps something of each call fills the memory of the server it runs in.

    Mend: Use local variables in `call`; keep a bounded summary in a weight if it is needed later.
    """
    subject.built.value()
    layer = subject.fresh()
    lengths = []
    for _ in range(3):
        subject.call(layer)
        subject.call(layer)
        lengths.append({way: len(held) for way, held in reachable(layer) if isinstance(held, list | dict | set)})
    first, second, third = lengths
    for way, length in first.items():
        if length < second.get(way, 0) < third.get(way, 0):
            raise BrokenRuleError(f"`{way}` grows with each call: {length}, {second[way]}, {third[way]} items")


def _refuse_state(subject: Subject, layer: keras.Layer, before: dict[str, PlainAttribute], how: str) -> None:
    after = plain_attributes(layer)
    for way, attribute in after.items():
        if is_keras_own(_class_of(attribute.owner)):
            continue
        if way in before and not same_plain(before[way].value, attribute.value):
            evidence = _matters(subject, layer, attribute, before[way])
            if evidence:
                raise BrokenRuleError(
                    f"`{way}` {how} (it was {shown(before[way].value)}, then {shown(attribute.value)}), "
                    f"the answer depends on it ({evidence}), and it is in no file"
                )


def _class_of(owner: object) -> type:
    return owner if isinstance(owner, type) else type(owner)


def _matters(subject: Subject, layer: keras.Layer, now: PlainAttribute, earlier: PlainAttribute) -> str | None:
    """Whether the layer answers differently with the attribute as it was, or far ahead; puts it back as it is."""
    others = [earlier.value]
    if all(isinstance(value, int | float | np.ndarray) for value in (now.value, earlier.value)):
        others.append(now.value + 100 * (now.value - earlier.value))
    for training in (False, True):
        as_is = _answers_with(subject, layer, now, now.value, training)
        for other in others:
            answers = _answers_with(subject, layer, now, other, training)
            if as_is is not None and answers is not None and (evidence := difference(as_is, answers, LAST_BITS)):
                return evidence
    return None


def _answers_with(
    subject: Subject, layer: keras.Layer, attribute: PlainAttribute, value: Any, training: bool
) -> list[Array] | None:
    """The answers with another value in the attribute; None where the layer can't work with the copy of it."""
    held = vars(attribute.owner)[attribute.name]
    attribute.put(value)
    try:
        return subject.run_seeded(layer, training)
    except Exception:
        return None
    finally:
        attribute.put(held)


RULES = (
    check_reloads_in_a_fresh_process,
    check_reloaded_model_answers_alike,
    check_frozen_parts_stay_frozen,
    check_losses_survive_a_reload,
    check_no_hidden_state,
    check_calls_leave_nothing_behind,
)
