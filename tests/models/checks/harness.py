"""What the tests of the rules share: a case, and one rule's verdict on a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from models.checks import RULES, CheckResult
from models.checks.example import make_example
from models.checks.fresh_process import shared_process
from models.checks.rulebook import run_rule
from models.checks.subject import Subject


@dataclass(frozen=True)
class Case:
    """A rule, a layer that breaks it and the words that must name the cause, and a sound twin."""

    rule: str
    broken: Callable[[], Any]
    words: str
    sound: Callable[[], Any]
    shape: Any = (6,)
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.rule}-{getattr(self.broken, '__name__', 'layer')}"


def verdict(rule: str, factory: Any, shape: Any = (6,), **options: Any) -> CheckResult:
    """One rule's verdict on a layer. The fresh process is started only by a rule that asks it."""
    check = next(check for check in RULES if check.__name__ == rule)
    example = make_example(shape, options.get("dtype", "float32"), options.get("inputs"))
    return run_rule(check, Subject(factory, example, options.get("mask", False), shared_process()))
