"""The rule that a config is complete, found by changing one argument after the other."""

from __future__ import annotations

from typing import Any

import keras

from models.checks.arguments import arguments, comparable, round_trip
from models.checks.compare import LAST_BITS, difference
from models.checks.guesses import other_values
from models.checks.subject import Subject
from models.checks.tensors import Array, as_array
from models.checks.verdict import BrokenRuleError, NotApplicableError
from models.checks.wording import shown

_SEED = 11


def check_config_is_complete(subject: Subject) -> None:
    """An argument missing from the config silently takes its default after a reload, and the model answers otherwise.

    Mend: Add the argument to the dict that `get_config()` returns, as it was given.
    """
    base = subject.made.value()
    if isinstance(base, keras.Model):
        raise NotApplicableError("a model's config is its layers', which are checked one by one")
    subject.revived.value()
    given = arguments(base)
    lost = [evidence for name in given if (evidence := _lost(subject, given, name))]
    if lost:
        raise BrokenRuleError("; ".join(lost))


def _lost(subject: Subject, given: dict[str, Any], name: str) -> str | None:
    """Says how the value of an argument goes missing; None if it returns, or no other value could be tried."""
    for value in other_values(name, given[name], subject.cls):
        try:
            changed = _made(subject, given, name, value)
            keras.utils.set_random_seed(_SEED)
            revived = round_trip(changed)
            evidence = _loss(subject, name, changed, revived) or _loss_of_start(subject, given, name, value, revived)
        except Exception:  # noqa: S112 -- the value was a guess, and a layer may refuse it as it likes
            continue
        if evidence or name in changed.get_config():
            return evidence
    return None


def _made(subject: Subject, given: dict[str, Any], name: str, value: Any) -> Any:
    keras.utils.set_random_seed(_SEED)
    return subject.cls(**{**given, name: value})


def _loss(subject: Subject, name: str, changed: Any, revived: Any) -> str | None:
    base = subject.made.value()
    entry = "" if name in changed.get_config() else f"; get_config() has no entry `{name}`"
    for attribute in (name, f"_{name}"):
        if attribute in vars(changed) and attribute in vars(revived):
            before, after = vars(changed)[attribute], vars(revived)[attribute]
            if not _same(before, after):
                return f"`{name}` is lost: made with {name}={shown(before)}, revived with {name}={shown(after)}{entry}"
    if comparable(changed.get_config()) != comparable(revived.get_config()):
        return f"`{name}` is lost: made with another value, the layer and its revival have different configs{entry}"
    if comparable(changed.get_config()) != comparable(base.get_config()):
        return None
    evidence = _behaves_differently(subject, changed, revived)
    return f"`{name}` is lost: made with another value, its revival differs ({evidence}){entry}" if evidence else None


def _behaves_differently(subject: Subject, left: Any, right: Any) -> str | None:
    for layer in (left, right):
        subject.call(layer)
    shapes = [[tuple(weight.shape) for weight in layer.weights] for layer in (left, right)]
    if shapes[0] != shapes[1]:
        return f"weights of shapes {shapes[0]} and {shapes[1]}"
    settings = [[_setting(weight) for weight in layer.weights] for layer in (left, right)]
    if settings[0] != settings[1]:
        return f"weights with {settings[0]} and {settings[1]}"
    right.set_weights(left.get_weights())
    for training in (False, True):
        evidence = difference(subject.run_seeded(left, training), subject.run_seeded(right, training), LAST_BITS)
        if evidence:
            return evidence
    losses = [[as_array(loss) for loss in layer.losses] for layer in (left, right)]
    return difference(losses[0], losses[1], LAST_BITS)


def _setting(weight: Any) -> str:
    parts = {"regularizer": weight.regularizer, "constraint": weight.constraint, "trainable": weight.trainable}
    return ", ".join(f"{name}={type(part).__name__ if name != 'trainable' else part}" for name, part in parts.items())


def _loss_of_start(subject: Subject, given: dict[str, Any], name: str, value: Any, revived: Any) -> str | None:
    """An initializer is lost if the revived layer starts otherwise, while the unchanged layer starts as it did."""
    if name in revived.get_config():
        return None
    unchanged = _made(subject, given, name, given[name])
    if difference(_start(subject, unchanged), _start(subject, _again(unchanged)), LAST_BITS):
        return None
    changed = _made(subject, given, name, value)
    evidence = difference(_start(subject, changed), _start(subject, _again(revived)), LAST_BITS)
    if evidence is None:
        return None
    return f"`{name}` is lost: its revival starts with other weights ({evidence}); get_config() has no entry `{name}`"


def _start(subject: Subject, layer: Any) -> list[Array]:
    """The weights that a new layer starts with."""
    keras.utils.set_random_seed(_SEED)
    subject.call(layer)
    return [as_array(weight) for weight in layer.weights]


def _again(layer: Any) -> Any:
    """Another layer like this one, whose random seeds are drawn as for the first."""
    keras.utils.set_random_seed(_SEED)
    return round_trip(layer)


def _same(left: Any, right: Any) -> bool:
    if left is right:
        return True
    try:
        return bool(comparable(left) == comparable(right))
    except (TypeError, ValueError, NotImplementedError):
        return type(left) is type(right)
