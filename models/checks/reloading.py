"""Rules on a saved model in a fresh process: it loads, holds the same weights, and answers the same."""

from __future__ import annotations

import re

import keras
import numpy as np

from models.checks.compare import EXACT, LAST_BITS, difference
from models.checks.reach import PlainAttribute, plain_attributes, same_plain
from models.checks.subject import Journey, Subject
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


def check_weights_survive_a_reload(subject: Subject) -> None:
    """A weight that is not in the file, or returns to another place, leaves the reloaded model part random.

    Mend: Make weights in a fixed order (sort names; no iteration over sets), keep them where Keras tracks them, and
    never name an attribute `_layers`.
    """
    journey = subject.journey.value()
    live = [_plain_path(weight.path) for weight in journey.model.weights]
    there = [_plain_path(path) for path in journey.reloaded.paths]
    if len(live) != len(there):
        raise BrokenRuleError(f"{len(live)} weights became {len(there)}: {live} and {there}")
    for index, (path, value, loaded) in enumerate(zip(live, journey.weights, journey.reloaded.weights, strict=True)):
        evidence = difference([value], [loaded], EXACT)
        if evidence:
            elsewhere = _found_elsewhere(journey, index)
            raise BrokenRuleError(f"`{path}` has another value after the reload: {elsewhere or evidence}")
    for path, loaded_path in zip(live, there, strict=True):
        if not (f"/{path}".endswith(f"/{loaded_path}") or f"/{loaded_path}".endswith(f"/{path}")):
            raise BrokenRuleError(f"`{path}` is named `{loaded_path}` after the reload")


def _plain_path(path: str) -> str:
    """A path without the numbers that Keras counts automatic names up with."""
    return re.sub(r"_\d+(?=/|$)", "", path)


def _found_elsewhere(journey: Journey, index: int) -> str | None:
    value = journey.weights[index]
    for position, loaded in enumerate(journey.reloaded.weights):
        if position != index and loaded.shape == value.shape and np.array_equal(loaded, value):
            return f"its value came back as `{_plain_path(journey.reloaded.paths[position])}`"
    return None


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
                f"`{_plain_path(weight.path)}` was {_trainable(was)} and is {_trainable(became)} after the reload"
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


def _refuse_state(subject: Subject, layer: keras.Layer, before: dict[str, PlainAttribute], how: str) -> None:
    after = plain_attributes(layer)
    for way, attribute in after.items():
        if way in before and not same_plain(before[way].value, attribute.value):
            evidence = _matters(subject, layer, attribute, before[way])
            if evidence:
                raise BrokenRuleError(
                    f"`{way}` {how} (it was {shown(before[way].value)}, then {shown(attribute.value)}), "
                    f"the answer depends on it ({evidence}), and it is in no file"
                )


def _matters(subject: Subject, layer: keras.Layer, now: PlainAttribute, earlier: PlainAttribute) -> str | None:
    """Whether the layer answers differently with the attribute as it was; puts it back as it is."""
    held = vars(now.owner)[now.name]
    for training in (False, True):
        answers = []
        for value in (now.value, earlier.value):
            now.put(value)
            try:
                answers.append(subject.run_seeded(layer, training))
            except Exception:  # a copy need not be what the layer can work with
                return None
            finally:
                now.put(held)
        evidence = difference(answers[0], answers[1], LAST_BITS)
        if evidence:
            return evidence
    return None


RULES = (
    check_reloads_in_a_fresh_process,
    check_weights_survive_a_reload,
    check_reloaded_model_answers_alike,
    check_frozen_parts_stay_frozen,
    check_losses_survive_a_reload,
    check_no_hidden_state,
)
