"""Rules on registration: a saved file must find this class, and no other, by its registered name."""

from __future__ import annotations

import keras

from models.checks.origin import is_keras_own
from models.checks.subject import Subject
from models.checks.verdict import BrokenRuleError, NotApplicableError


def check_class_is_registered(subject: Subject) -> None:
    """Without registration, whoever loads the model must know every class and pass it as `custom_objects`.

    Mend: Put `@keras.saving.register_keras_serializable(package="my_package")` above the class.
    """
    cls = _own_class(subject)
    if not _is_registered(cls):
        raise BrokenRuleError(f"`{cls.__name__}` is not registered with Keras")


def check_class_has_its_own_package(subject: Subject) -> None:
    """Two libraries that leave the package at Keras's default replace each other's classes of the same name.

    Mend: Give `register_keras_serializable` a package of your own: `package="my_package"`.
    """
    cls = _own_class(subject)
    if not _is_registered(cls):
        raise NotApplicableError("the class is not registered")
    package = keras.saving.get_registered_name(cls).rpartition(">")[0]
    if package in {"", "Custom", "keras"}:
        raise BrokenRuleError(f"`{cls.__name__}` is registered in the package {package!r}, which everyone shares")


def check_registered_name_is_its_own(subject: Subject) -> None:
    """Where two classes hold one registered name, the later one is built from the files of the earlier.

    Mend: Give one of the two classes another name or another package.
    """
    cls = _own_class(subject)
    name = keras.saving.get_registered_name(cls)
    if not _is_registered(cls):
        raise NotApplicableError("the class is not registered")
    holder = keras.saving.get_registered_object(name)
    if holder is not cls:
        where = f"{getattr(holder, '__module__', '?')}.{getattr(holder, '__qualname__', holder)}"
        raise BrokenRuleError(f"`{name}` now leads to {where}, not to {cls.__module__}.{cls.__qualname__}")


def _own_class(subject: Subject) -> type:
    if is_keras_own(subject.cls):
        raise NotApplicableError("the class is Keras's own")
    return subject.cls


def _is_registered(cls: type) -> bool:
    # Keras keeps the name of every class it registered, even after another class took the name over.
    return ">" in str(keras.saving.get_registered_name(cls))


RULES = (check_class_is_registered, check_class_has_its_own_package, check_registered_name_is_its_own)
