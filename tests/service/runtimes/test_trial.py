from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, chain, repeat

import numpy as np
import pytest

from models.manifest import Tensors
from service.runtimes.trial import Trial, rows_of, time_calls

ROWS: Tensors = {"x": np.arange(6, dtype=np.float32).reshape(3, 2)}


class Counted:
    """Counts its calls by their rows, and may fail or take its time on a clock that is only ours."""

    name = "counted"

    def __init__(self, seconds: Iterator[float], clock: list[float], *, fails: bool = False) -> None:
        self.calls: dict[int, int] = {}
        self.is_closed = False
        self._seconds, self._clock, self._fails = seconds, clock, fails

    def run(self, inputs: Tensors) -> Tensors:
        if self._fails:
            raise RuntimeError("it broke")
        rows = len(inputs["x"])
        self.calls[rows] = self.calls.get(rows, 0) + 1
        self._clock[0] += next(self._seconds)
        return inputs

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that `perf_counter` tells: its one item."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


def test_median_of_a_hundred_short_calls_is_taken_without_the_first(clock: list[float]) -> None:
    runtime = Counted(chain([0.05], repeat(0.0001)), clock)
    assert time_calls(runtime, ROWS) == {1: 100.0, 8: 100.0, 32: 100.0}
    assert runtime.calls == {1: 101, 8: 101, 32: 101}


def test_longer_calls_are_fewer_but_at_least_three(clock: list[float]) -> None:
    runtime = Counted(repeat(0.03), clock)
    time_calls(runtime, ROWS)
    assert runtime.calls == {1: 4, 8: 4, 32: 4}


def test_very_long_call_is_made_once(clock: list[float]) -> None:
    runtime = Counted(accumulate(repeat(1.0)), clock)
    assert time_calls(runtime, ROWS) == {1: 1e6, 8: 2e6, 32: 3e6}
    assert runtime.calls == {1: 1, 8: 1, 32: 1}


def test_runtime_that_fails_while_it_is_timed_is_closed(clock: list[float]) -> None:
    runtime = Counted(repeat(0.0), clock, fails=True)
    with pytest.raises(RuntimeError, match="it broke"):
        time_calls(runtime, ROWS)
    assert runtime.is_closed


def test_rows_begin_anew_where_there_are_fewer() -> None:
    assert rows_of(ROWS, 4)["x"].tolist() == [[0, 1], [2, 3], [4, 5], [0, 1]]
    assert rows_of(ROWS, 1)["x"].tolist() == [[0, 1]]


def test_trial_reads_as_one_line() -> None:
    chosen = Trial("litert", True, True, 8.3e-7, {1: 5.39, 8: 13.84, 32: 32.7}, 1)
    assert str(chosen) == "litert, 5.39/13.8/32.7 µs a call, error 8.3e-07, 1 thread: Chosen."
    assert str(Trial("keras", reason="Not tried.")) == "keras: Not tried."
