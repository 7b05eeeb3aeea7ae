"""The list of all rules, in the order they are told, and how one is run."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from models.checks import batches, computation, configuration, errors, ordering, registration, reloading, state
from models.checks.subject import Subject, quiet
from models.checks.verdict import BrokenRuleError, CheckResult, NotApplicableError
from models.checks.wording import told

Rule = Callable[[Subject], None]

RULES: tuple[Rule, ...] = (
    *computation.RULES[:1],
    *configuration.RULES,
    *registration.RULES,
    *state.RULES,
    *computation.RULES[1:],
    *batches.RULES,
    *errors.RULES,
    *reloading.RULES[:1],
    *ordering.RULES,
    *reloading.RULES[1:],
)


def run_rule(rule: Rule, subject: Subject) -> CheckResult:
    """One rule's verdict. Whatever a layer raises where a rule expects nothing breaks that rule."""
    name = rule.__name__
    with quiet():
        try:
            rule(subject)
        except NotApplicableError as reason:
            return CheckResult(name, "skipped", str(reason))
        except BrokenRuleError as broken:
            return CheckResult(name, "failed", broken.message, broken.fix or fix_of(rule))
        except Exception as error:  # a user's layer may raise anything, anywhere
            return CheckResult(name, "failed", f"{told(error)}", fix_of(rule))
    return CheckResult(name, "passed")


def reason_of(rule: Rule) -> str:
    """What breaks for whom when the rule is broken: the first sentence of its docstring."""
    return " ".join(inspect.cleandoc(rule.__doc__ or "").partition("Mend:")[0].split())


def fix_of(rule: Rule) -> str:
    """How to mend a layer that breaks the rule: what its docstring says after `Mend:`."""
    return " ".join(inspect.cleandoc(rule.__doc__ or "").partition("Mend:")[2].split())
