"""The pytest door: one test a rule for each layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from models.checks.checker import make_subject
from models.checks.example import Dtypes, Shapes
from models.checks.rulebook import RULES, Rule, run_rule
from models.checks.subject import Fact, Subject

Test = TypeVar("Test", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False)
class LayerCase:
    """A layer to test, with the arguments of `check_layer`.

    Args:
        factory, input_shape, dtype, mask, inputs: As `check_layer` takes them.
        expected_failures: Why the layer may break a rule, by the rule's name. A rule named here must break: one that
            holds again fails its test, so that the list stays true.
        name: How the tests are called; the class's name by default.
    """

    factory: Any
    input_shape: Shapes | None
    dtype: Dtypes = "float32"
    mask: bool = False
    inputs: Any = None
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None


def parametrize_with_checks(cases: Sequence[LayerCase]) -> Callable[[Test], Test]:
    """Parametrizes a test over `check`, one test a rule for each layer.

        @parametrize_with_checks([LayerCase(lambda: MyLayer(8), (32,))])
        def test_layer(check):
            check()

    What the rules share, such as the reload, is measured once a layer. `pytest -k check_config` picks rules.

    Raises:
        ValueError: an expected failure names no rule.
    """
    import pytest  # noqa: PLC0415 -- only those who write tests have it

    parameters = []
    for number, case in enumerate(cases):
        _refuse_unknown(case)
        subject = Fact(lambda case=case: _subject(case), "")  # type: ignore[misc]  # bound now, not when it is called
        title = case.name or _title(case, number)
        for rule in RULES:
            reason = case.expected_failures.get(rule.__name__)
            marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError)]
            check = _Check(rule, subject)
            parameters.append(pytest.param(check, marks=marks, id=f"{title}-{rule.__name__}"))
    decorator: Callable[[Test], Test] = pytest.mark.parametrize("check", parameters)
    return decorator


@dataclass(frozen=True, eq=False)
class _Check:
    """One rule on one layer, to be called in a test."""

    rule: Rule
    subject: Fact[Subject]

    def __call__(self) -> None:
        import pytest  # noqa: PLC0415 -- only those who write tests have it

        error = self.subject.failure()
        if error is not None:
            raise error
        result = run_rule(self.rule, self.subject.value())
        if result.status == "skipped":
            pytest.skip(result.message)
        if result.status == "failed":
            raise AssertionError(str(result))


def _subject(case: LayerCase) -> Subject:
    return make_subject(case.factory, case.input_shape, dtype=case.dtype, mask=case.mask, inputs=case.inputs)


def _title(case: LayerCase, number: int) -> str:
    """The name of the class or function that makes the layer; a number for a lambda, which is not called yet."""
    name = getattr(case.factory, "__name__", type(case.factory).__name__)
    return f"layer{number}" if name == "<lambda>" else str(name)


def _refuse_unknown(case: LayerCase) -> None:
    unknown = set(case.expected_failures) - {rule.__name__ for rule in RULES}
    if unknown:
        raise ValueError(f"`expected_failures` must name rules of the contract. Received: {sorted(unknown)}")
