"""`check_layer`: all rules on one layer."""

from __future__ import annotations

import time
from typing import Any

from models.checks.example import Dtypes, Shapes, make_example
from models.checks.fresh_process import shared_process
from models.checks.rulebook import RULES, run_rule
from models.checks.subject import Subject, quiet
from models.checks.verdict import CheckReport


def check_layer(
    factory: Any, input_shape: Shapes | None, *, dtype: Dtypes = "float32", mask: bool = False, inputs: Any = None
) -> CheckReport:
    """Holds a layer to every rule of the contract: configuration, registration, state, computation, errors.

    The layer is saved and loaded in a second Python process, which is started on first use (about 4 seconds) and kept
    for the layers checked after this one. Python's and NumPy's random state is given back; the backend's seed is not.

    Args:
        factory: Makes a fresh layer each time it is called; or a layer, of which others are made by its arguments.
        input_shape: Without the batch axis: `(32, 16)`; a list of shapes for a layer that takes a list or several
            arguments; a dict of them by argument name. None is an open length. May be None when `inputs` is given.
        dtype: Of the example inputs, "float32", "int32", "bool", "string", …; a list or dict of them like the shapes.
        mask: Whether to check that a mask on the first input is kept or used.
        inputs: Example arrays with the batch axis, two different rows at least, where random numbers won't do.

    Returns:
        A report with `.passed`, `.failures`, and one result a rule. It raises for no fault of the layer.

    Raises:
        ValueError: `input_shape`, `dtype` and `inputs` do not fit together.
    """
    started = time.perf_counter()
    subject = make_subject(factory, input_shape, dtype=dtype, mask=mask, inputs=inputs)
    results = tuple(run_rule(rule, subject) for rule in RULES)
    return CheckReport(name_of(subject, factory), results, time.perf_counter() - started)


def make_subject(
    factory: Any, input_shape: Shapes | None, *, dtype: Dtypes = "float32", mask: bool = False, inputs: Any = None
) -> Subject:
    """The layer with its example inputs, ready for rules. The fresh process starts meanwhile."""
    example = make_example(input_shape, dtype, inputs)
    process = shared_process()
    process.start()
    return Subject(factory, example, mask, process)


def name_of(subject: Subject, factory: Any) -> str:
    """The class of the layer; where none can be made, the name of the factory."""
    with quiet():
        if subject.made.failure() is None:
            return type(subject.made.value()).__name__
    return str(getattr(factory, "__name__", type(factory).__name__))
