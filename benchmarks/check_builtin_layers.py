"""Holds Keras's own layers to the contract, and prints what is reported of each, with the reason.

    python -m benchmarks.check_builtin_layers [part of a layer's name]

Exits 1 if a report has no reason in `benchmarks/builtin_traits.py`, or a reason no report.
"""

from __future__ import annotations

import statistics
import sys
import time

import keras

from benchmarks.builtin_layers import BUILTINS, Builtin
from benchmarks.builtin_traits import reason_for, unseen
from models.checks import CheckReport, check_layer


def main(part: str) -> int:
    """Checks the layers whose name holds `part`, prints the table, and returns the exit code."""
    keras.utils.set_random_seed(0)
    chosen = [builtin for builtin in BUILTINS if part.lower() in builtin.name.lower()]
    print(f"Keras {keras.__version__}, {keras.backend.backend()} backend: {len(chosen)} layers")
    reports, unexplained = [], 0
    for builtin in chosen:
        report = _check(builtin)
        reports.append(report)
        unexplained += _show(report)
    first, *further = [report.seconds for report in reports]
    print(f"\n{len(reports)} layers, {sum(len(report.results) for report in reports)} verdicts")
    print(f"reports: {sum(len(report.failures) for report in reports)}, without a reason: {unexplained}")
    print(f"first layer {first:.1f} s, each further {statistics.median(further or [first]):.2f} s (median), ", end="")
    print(f"slowest {max(further or [first]):.1f} s")
    idle = [] if part else unseen([(report.layer, failure.rule) for report in reports for failure in report.failures])
    for reason in idle:
        print(f"this reason explains no report: {reason}")
    return 1 if unexplained or idle else 0


def _check(builtin: Builtin) -> CheckReport:
    return check_layer(builtin.make, builtin.shape, **builtin.options)


def _show(report: CheckReport) -> int:
    """Prints one layer's row and reports; returns how many have no reason."""
    counts = {status: sum(result.status == status for result in report.results) for status in ("passed", "skipped")}
    print(f"{report.layer:<45} {counts['passed']:>3} passed {counts['skipped']:>3} skipped {report.seconds:6.2f} s")
    unexplained = 0
    for failure in report.failures:
        reason = reason_for(report.layer, failure)
        unexplained += reason is None
        print(f"    {failure.rule}: {failure.message}")
        print(f"        {'because ' + reason if reason else 'NO REASON KNOWN'}")
    return unexplained


if __name__ == "__main__":
    started = time.perf_counter()
    code = main(sys.argv[1] if len(sys.argv) > 1 else "")
    print(f"{time.perf_counter() - started:.0f} s in all")
    sys.exit(code)
