"""Rules on the config: what `get_config` says must be enough to make the same layer again."""

from __future__ import annotations

import copy
import inspect
import json
from typing import Any

import keras
import numpy as np

from models.checks.arguments import arguments, comparable, custom_objects, parameters, round_trip
from models.checks.completeness import check_config_is_complete
from models.checks.origin import is_keras_own
from models.checks.reach import same_plain
from models.checks.subject import Subject
from models.checks.verdict import BrokenRuleError, NotApplicableError
from models.checks.wording import shown, told


def check_config_fits_in_json(subject: Subject) -> None:
    """A config that JSON can't hold stops `model.save()`, which by then has emptied the file it writes to.

    Mend: Return only numbers, strings, booleans, None, lists and dicts from `get_config()`, and pass objects through
    `keras.saving.serialize_keras_object`.
    """
    layer = subject.made.value()
    try:
        stored = keras.saving.serialize_keras_object(layer)
        json.dumps(stored)
    except Exception as error:
        raise BrokenRuleError(f"serialising the config raised {told(error)}") from error
    for key, value in layer.get_config().items():
        strange = _not_json(value)
        if strange:
            raise BrokenRuleError(f"the config's entry `{key}` holds {strange}, which JSON can't hold")


def _not_json(value: Any) -> str | None:
    if isinstance(value, dict):
        keys = [key for key in value if not isinstance(key, str)]
        if keys:
            return f"the {type(keys[0]).__name__} key {keys[0]!r}, which comes back as {str(keys[0])!r}"
        return next((found for item in value.values() if (found := _not_json(item))), None)
    if isinstance(value, list | tuple):
        return next((found for item in value if (found := _not_json(item))), None)
    if isinstance(value, set | frozenset | np.generic):
        return f"a {type(value).__name__}"
    return None


def check_revives_from_its_config(subject: Subject) -> None:
    """A layer that `from_config(get_config())` can't make leaves its users with files that no process can load.

    Mend: Return every constructor argument from `get_config()`, under the argument's own name, and let `__init__` take
    `**kwargs` for the entries of the base class.
    """
    subject.made.value()
    error = subject.revived.failure()
    if error is not None:
        raise BrokenRuleError(f"from_config(get_config()) raised {told(error)}")
    if type(subject.revived.value()) is not subject.cls:
        raise BrokenRuleError(f"the config revives another class: {type(subject.revived.value()).__name__}")


def check_config_is_the_same_after_build(subject: Subject) -> None:
    """A config that changes when the layer is built revives another layer after training than before.

    Mend: Keep the arguments as they were given in their own attributes, and derive what `build` needs into others.
    """
    built = subject.built.value()
    before, after = comparable(subject.fresh().get_config()), comparable(built.get_config())
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    # What was drawn or counted anew for the second layer differs between two unbuilt layers too.
    drawn = comparable(subject.fresh().get_config())
    changed = [key for key in changed if drawn.get(key) == before.get(key)]
    if changed:
        key = changed[0]
        raise BrokenRuleError(
            f"`{key}` is {shown(before.get(key))} in the config before build and {shown(after.get(key))} after"
        )


def check_config_is_a_copy(subject: Subject) -> None:
    """A config that shares a list or dict with the layer lets whoever edits the config change the layer behind it.

    Mend: Put copies of lists and dicts into the config: `list(self.sizes)`, `dict(self.table)`; and let `from_config`
    work on a copy of what it is given.
    """
    _refuse_keras_models(subject)
    layer = subject.fresh()
    config = layer.get_config()
    reference = copy.deepcopy(comparable(config))
    for key, value in config.items():
        if isinstance(value, list | dict) and value:
            kept = copy.copy(value)
            value.clear()
            follows = comparable(layer.get_config()) != reference
            # The list may be a default argument, which every later layer shares.
            value.update(kept) if isinstance(value, dict) else value.extend(kept)
            if follows:
                raise BrokenRuleError(f"emptying the config's entry `{key}` empties the layer's own")
    given = layer.get_config()
    reference = copy.deepcopy(comparable(given))
    subject.revived.value()
    with keras.saving.custom_object_scope(custom_objects(layer)):
        type(layer).from_config(given)
    if set(given) - {"name"} != set(reference):
        raise BrokenRuleError(
            f"from_config takes {sorted((set(reference) ^ set(given)) - {'name'})} out of the dict it is given"
        )


def check_config_survives_a_second_round_trip(subject: Subject) -> None:
    """A config that grows or drifts with each save changes the model of everyone who fine-tunes and saves again.

    Mend: Store arguments unchanged, and do not scale, wrap or append to them in `__init__` before `get_config()` reads
    them back.
    """
    _refuse_keras_models(subject)
    first = subject.revived.value()
    second = round_trip(first)
    for earlier, later in ((subject.made.value(), first), (first, second)):
        before, after = comparable(earlier.get_config()), comparable(later.get_config())
        changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        if changed:
            key = changed[0]
            raise BrokenRuleError(
                f"the config's `{key}` is {shown(before.get(key))}, and {shown(after.get(key))} one round trip later"
            )


def check_nested_objects_are_revived(subject: Subject) -> None:
    """A nested layer or function that comes back as a dict or a string breaks the first call after loading.

    Mend: Pass the value through `keras.saving.deserialize_keras_object` in `from_config`, or through the matching
    `keras.activations.get`, `keras.initializers.get`, `keras.regularizers.get`, `keras.constraints.get` in `__init__`.
    """
    layer, revived = subject.made.value(), subject.revived.value()
    for name, value in vars(layer).items():
        if name not in vars(revived) or name.startswith("_"):
            continue
        came_back = vars(revived)[name]
        evidence = _not_revived(value, came_back)
        if evidence:
            raise BrokenRuleError(f"`{name}` was {shown(value)} and came back as {evidence}")


def _not_revived(value: Any, came_back: Any) -> str | None:
    if isinstance(value, list | tuple) and isinstance(came_back, list | tuple):
        if len(value) == len(came_back):
            pairs = zip(value, came_back, strict=True)
            return next((evidence for pair in pairs if (evidence := _not_revived(*pair))), None)
        return f"{len(came_back)} items"
    is_object = isinstance(value, keras.Layer) or (callable(value) and not inspect.isclass(value))
    if is_object and isinstance(came_back, dict | str | list):
        return f"the {type(came_back).__name__} {shown(came_back)}"
    return None


def check_values_keep_their_type(subject: Subject) -> None:
    """A tuple that returns as a list, or a number as a string, fails wherever it is a key, an index or compared.

    Mend: Convert in `__init__`: `tuple(sizes)`, `{int(key): value for key, value in table.items()}`.
    """
    layer, revived = subject.made.value(), subject.revived.value()
    for name in parameters(type(layer)).keys() & layer.get_config().keys():
        if name in vars(layer) and name in vars(revived):
            before, after = vars(layer)[name], vars(revived)[name]
            if isinstance(before, list | tuple | dict | set | int | float) and not _alike(before, after):
                raise BrokenRuleError(f"`{name}` was {shown(before)} and came back as {shown(after)}")


def _alike(left: Any, right: Any) -> bool:
    """Whether the values and the types of all they hold are equal; what isn't plain data is taken as it comes."""
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(_alike(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and type(left) is type(right):
        return len(left) == len(right) and all(_alike(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, bool | int | float | str | list | tuple | dict | set):
        return type(left) is type(right) and same_plain(left, right)
    return True


_BASE_VALUES: dict[str, tuple[Any, ...]] = {
    "name": ("a_chosen_name",),
    # A layer that gives whole numbers may take dtypes of whole numbers only.
    "dtype": ("mixed_bfloat16", "int64"),
    "trainable": (False,),
}


def check_base_arguments_are_kept(subject: Subject) -> None:
    """A layer that drops `name`, `dtype` or `trainable` loses its name, its precision or its freeze with each reload.

    Mend: Take `**kwargs` in `__init__`, hand them to `super().__init__(**kwargs)`, and start `get_config()` from
    `super().get_config()`.
    """
    layer = subject.made.value()
    if isinstance(layer, keras.Model):
        raise NotApplicableError("a model takes its precision from its layers")
    subject.revived.value()
    given = arguments(layer)
    for name, values in _BASE_VALUES.items():
        made, value = _made_with(subject, given, name, values)
        try:
            revived = round_trip(made)
        except Exception as error:
            raise BrokenRuleError(f"made with {name}={value!r} it can't be revived: {told(error)}") from error
        for stage, seen in (("made", made), ("revived", revived)):
            kept = seen.dtype_policy.name if name == "dtype" else getattr(seen, name)
            if kept != value:
                raise BrokenRuleError(f"made with {name}={value!r}, once {stage} it has {name}={kept!r}")


def _made_with(subject: Subject, given: dict[str, Any], name: str, values: tuple[Any, ...]) -> tuple[Any, Any]:
    """A layer made with the first value that it takes for a base argument, and that value."""
    for value in values:
        try:
            return subject.cls(**given, **{name: value}), value
        except Exception as error:
            if value == values[-1]:
                raise BrokenRuleError(f"__init__ does not take `{name}`: {told(error)}") from error
    raise NotApplicableError("there is no value to try")


def _refuse_keras_models(subject: Subject) -> None:
    layer = subject.made.value()
    if isinstance(layer, keras.Model) and is_keras_own(type(layer)):
        raise NotApplicableError("the config of a functional or sequential model is Keras's to write")


RULES = (
    check_config_fits_in_json,
    check_revives_from_its_config,
    check_config_is_complete,
    check_config_is_the_same_after_build,
    check_config_is_a_copy,
    check_config_survives_a_second_round_trip,
    check_nested_objects_are_revived,
    check_values_keep_their_type,
    check_base_arguments_are_kept,
)
