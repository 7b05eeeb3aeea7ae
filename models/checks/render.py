"""The table that a person reads: one line a rule, the fault and its mend below a broken one."""

from __future__ import annotations

import os
import textwrap
from typing import TextIO

from models.checks.verdict import CheckReport, CheckResult, Status

_MARKS: dict[Status, tuple[str, str]] = {"passed": ("ok", "32"), "failed": ("BROKEN", "31;1"), "skipped": ("-", "2")}
_WIDTH = 100
_INDENT = " " * 10


def wants_color(out: TextIO) -> bool:
    """Whether to colour: on a terminal only, and never against NO_COLOR (https://no-color.org)."""
    return out.isatty() and not os.environ.get("NO_COLOR")


def render(reports: list[CheckReport], color: bool = False) -> str:
    """The table of all reports, with a summary at the end. Rules that hold for all layers take one line."""
    parts = [_report(report, color) for report in reports]
    broken = [report for report in reports if not report.passed]
    count = f"{len(reports)} layer{'s' if len(reports) != 1 else ''}"
    verdict = f"{len(broken)} of {count} broken" if broken else f"{count} checked: every rule holds"
    return "\n\n".join([*parts, _paint(verdict, "31;1" if broken else "32", color)])


def _report(report: CheckReport, color: bool) -> str:
    counts = {status: sum(result.status == status for result in report.results) for status in _MARKS}
    tally = ", ".join(f"{count} {status}" for status, count in counts.items())
    title = _paint(report.layer, "1", color)
    return "\n".join([f"{title}  {tally}, {report.seconds:.1f} s", *(_result(each, color) for each in report.results)])


def _result(result: CheckResult, color: bool) -> str:
    mark, code = _MARKS[result.status]
    lines = [f"  {_paint(f'{mark:<6}', code, color)}  {result.rule}"]
    if result.status == "skipped":
        lines[0] += _paint(f"  {result.message}", "2", color)
    if result.status == "failed":
        lines += textwrap.wrap(result.message, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
        mend = textwrap.wrap(f"Mend: {result.fix}", _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
        lines += [_paint(line, "36", color) for line in mend]
    return "\n".join(lines)


def _paint(text: str, code: str, color: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if color else text
