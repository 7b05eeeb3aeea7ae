"""What a rule says of a layer, and what all rules together say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "failed", "skipped"]


class BrokenRuleError(Exception):
    """Raised by a rule that the layer breaks: what was seen, naming the cause."""

    def __init__(self, message: str, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix


class NotApplicableError(Exception):
    """Raised by a rule that has nothing to say of this layer: the reason."""


@dataclass(frozen=True)
class CheckResult:
    """One rule's verdict: what was seen, and how to mend it where the rule is broken."""

    rule: str
    status: Status
    message: str = ""
    fix: str = ""

    def __str__(self) -> str:
        told = f"{self.rule} {self.status}"
        told += f": {self.message}" if self.message else ""
        return told + (f"\n  Mend: {self.fix}" if self.fix else "")


@dataclass(frozen=True)
class CheckReport:
    """Every rule's verdict on one layer, in the order of the list of rules."""

    layer: str
    results: tuple[CheckResult, ...]
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether no rule is broken."""
        return not self.failures

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """The broken rules."""
        return tuple(result for result in self.results if result.status == "failed")

    def __getitem__(self, rule: str) -> CheckResult:
        """The verdict of one rule, by its name.

        Raises:
            KeyError: no rule has that name.
        """
        for result in self.results:
            if result.rule == rule:
                return result
        raise KeyError(rule)

    def __str__(self) -> str:
        if self.passed:
            return f"{self.layer}: all rules hold"
        return "\n".join([f"{self.layer}: {len(self.failures)} broken", *(str(failure) for failure in self.failures)])
