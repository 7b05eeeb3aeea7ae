"""One request on its way, and how the rows of several become one batch and its answers theirs again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate, pairwise
from operator import itemgetter
from typing import Generic, TypeVar

import numpy as np

from models.manifest import Tensors
from service.errors import ServiceError

T = TypeVar("T")

Run = Callable[[Tensors], Tensors]
"""Answers rows: inputs by name in, outputs by name out."""

OnBatch = Callable[[int, float, float, int], None]
"""Called after each run with its rows, the seconds that its first request waited, those it ran, and its requests."""


_SHORT_TEXT_BYTES = 1024


def form_of(values: np.ndarray) -> tuple[int, ...]:
    """What arrays must share to be joined: the shape of a row, and of texts beyond 256 characters about the length.

    NumPy pads each text to the longest, so one of 2 MB among a hundred short ones took 800 MB.
    """
    if values.dtype.kind != "U":
        return values.shape[1:]
    return (*values.shape[1:], max(values.dtype.itemsize, _SHORT_TEXT_BYTES).bit_length())


class Ticket(Generic[T]):
    """A request that has been taken in. Its caller may `cancel` it; the rest is the batcher's.

    `taken` counts the rows that batches have had so far, and `parts` holds the answers of a request that was cut, each
    with its first row; `answered` counts their rows. `done` is None once the request has been answered, refused or
    cancelled.
    """

    __slots__ = ("_cancel", "answered", "arrived", "deadline", "done", "inputs", "key", "parts", "rows", "taken")

    def __init__(
        self,
        inputs: Tensors,
        rows: int,
        done: Callable[[T | BaseException], None],
        cancel: Callable[[Ticket[T]], None],
        arrived: float,
        deadline: float,
        key: tuple[tuple[int, ...], ...] = (),
    ) -> None:
        self.inputs = inputs
        self.rows = rows
        self.done: Callable[[T | BaseException], None] | None = done
        self._cancel = cancel
        self.arrived = arrived
        self.deadline = deadline
        self.key = key
        self.taken = 0
        self.parts: list[tuple[int, Tensors]] | None = None
        self.answered = 0

    def cancel(self) -> None:
        """The caller left: `done` is not called any more, and rows that have not reached the runtime never do."""
        self._cancel(self)


Part = tuple[Ticket[T], int, int]
"""Rows of a ticket, from and up to."""


def count_rows(parts: list[Part[T]]) -> int:
    """The rows of a batch."""
    return sum([stop - start for _, start, stop in parts])


def join(parts: list[Part[T]]) -> Tensors:
    """The inputs of a batch: one array an input, without a copy where there is one part."""
    if len(parts) == 1:
        ticket, start, stop = parts[0]
        return ticket.inputs if stop - start == ticket.rows else _rows(ticket.inputs, start, stop)
    return {
        name: np.concatenate(
            [
                ticket.inputs[name] if stop - start == ticket.rows else ticket.inputs[name][start:stop]
                for ticket, start, stop in parts
            ]
        )
        for name in parts[0][0].inputs
    }


def split(outputs: Tensors, parts: list[Part[T]]) -> Iterable[Tensors]:
    """The outputs of each part, as views of the batch's: who keeps one keeps at most a batch's answers alive."""
    if len(parts) == 1:
        return [outputs]
    names = list(outputs)
    if count_rows(parts) == len(parts):  # iterating over an array is the quickest way to its rows
        columns = [list(values[:, np.newaxis]) for values in outputs.values()]
    else:
        ends = list(accumulate([stop - start for _, start, stop in parts], initial=0))
        columns = [[values[i:j] for i, j in pairwise(ends)] for values in outputs.values()]
    if len(names) == 1:
        return [{names[0]: values} for values in columns[0]]
    return [dict(zip(names, answer, strict=True)) for answer in zip(*columns, strict=True)]


def assemble(ticket: Ticket[T], start: int, outputs: Tensors) -> Tensors | None:
    """Keeps the answer of a part; gives the whole answer once all parts are there, in the order of the rows."""
    if ticket.parts is None:
        ticket.parts = []
    ticket.parts.append((start, outputs))
    ticket.answered += len(next(iter(outputs.values())))
    if ticket.answered < ticket.rows:
        return None
    answers = [answer for _, answer in sorted(ticket.parts, key=itemgetter(0))]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in outputs}


def attempt(run: Run, parts: list[Part[T]]) -> Tensors | Exception:
    """Runs a batch; whatever a model's own code raises comes back as something that a future can carry."""
    try:
        outputs = run(join(parts))
        rows = count_rows(parts)
        if len(parts) > 1 or rows < parts[0][0].rows:  # a whole request's outputs are its own affair
            _check_rows(outputs, rows)
        return outputs
    except BaseException as error:
        return _carried(error)


def attempt_rows(run: Run, inputs: Tensors) -> Tensors | Exception:
    """As `attempt`, of rows that have a caller each."""
    try:
        outputs = run(inputs)
        _check_rows(outputs, len(next(iter(inputs.values()))))
        return outputs
    except BaseException as error:
        return _carried(error)


def _carried(error: BaseException) -> Exception:
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError(f"The model raised {type(error).__name__}.")
    wrapped.__cause__ = error
    return wrapped


def _check_rows(outputs: Tensors, rows: int) -> None:
    """Where outputs are to be split or put together, axis 0 must be the rows."""
    for name, values in outputs.items():
        if values.shape[:1] != (rows,):
            raise ServiceError(f"The model answered {rows} rows with shape {values.shape} in `{name}`.")


def count_values(ticket: Ticket[T], rows: int) -> int:
    """How many values `rows` rows of a ticket's shape hold."""
    return sum([values.size for values in ticket.inputs.values()]) * rows // ticket.rows


def _rows(tensors: Tensors, start: int, stop: int) -> Tensors:
    return {name: values[start:stop] for name, values in tensors.items()}
