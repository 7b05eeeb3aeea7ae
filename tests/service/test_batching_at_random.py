"""Whatever arrives, leaves, fails and runs late: each caller gets its own rows' answer, in order, once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from models.manifest import Tensors
from service.batching import Batcher
from service.cost import LOOP_SECONDS
from service.errors import DeadlineExceeded, QueueFull
from service.limits import Limits
from service.tickets import Ticket
from tests.examples import examples
from tests.service.fake_loop import FakeExecutor, FakeLoop

POISON = -1.0


@dataclass
class Caller:
    rows: np.ndarray
    deadline: float
    results: list[Tensors | BaseException] = field(default_factory=list)
    ticket: Ticket[Tensors] | None = None
    has_left: bool = False


class Traffic(RuleBasedStateMachine):
    """Callers around one batcher, whose runtime squares numbers, fails on -1 and takes as long as it is told to."""

    @initialize(
        joins=st.booleans(),
        most=st.integers(1, 5),
        threads=st.integers(1, 3),
        delay=st.sampled_from([0.0, 2.0]),
        is_dear=st.booleans(),
    )
    def build(self, joins: bool, most: int, threads: int, delay: float, is_dear: bool) -> None:
        self.loop, self.executor = FakeLoop(), FakeExecutor()
        self.joins, self.most = joins, most
        self.seconds = LOOP_SECONDS * (10 if is_dear else 0.01)
        self.callers: list[Caller] = []
        self.holds = 0
        self.next_value = 0.0
        self.batcher: Batcher[Tensors] = Batcher(
            self.run_rows,
            lambda outputs: outputs,
            joins=joins,
            ragged=("x",),
            limits=Limits(most, 12, delay, 100.0, threads),
            executor=self.executor,
            hold=self.hold,
            release=self.release,
            loop=self.loop,
            clock=lambda: self.loop.now,
        )

    def hold(self) -> bool:
        self.holds += 1
        return True

    def release(self) -> None:
        self.holds -= 1

    def run_rows(self, inputs: Tensors) -> Tensors:
        self.loop.now += self.seconds
        values = inputs["x"]
        assert not self.joins or len(values) <= self.most
        if (values == POISON).any():
            raise RuntimeError("poisoned")
        return {"y": values**2, "sum": values.sum(axis=1)}

    @rule(rows=st.integers(1, 9), width=st.integers(1, 2), is_bad=st.booleans(), timeout=st.sampled_from([None, 1, 50]))
    def ask(self, rows: int, width: int, is_bad: bool, timeout: float | None) -> None:
        values = self.next_value + np.arange(rows * width, dtype=float).reshape(rows, width)
        self.next_value += rows * width
        if is_bad:
            values[rows // 2] = POISON
        caller = Caller(values, self.loop.now + (timeout or 100.0))
        try:
            caller.ticket = self.batcher.submit({"x": values}, caller.results.append, timeout)
        except QueueFull:
            assert self.batcher.queued_rows + rows > 12
            return
        assert caller.results == []
        self.callers.append(caller)

    @rule(index=st.integers(0, 100))
    def leave(self, index: int) -> None:
        if self.callers:
            caller = self.callers[index % len(self.callers)]
            caller.has_left = caller.has_left or not caller.results
            assert caller.ticket is not None
            caller.ticket.cancel()

    @rule()
    def turn(self) -> None:
        self.loop.turn()

    @rule(index=st.integers(0, 100))
    def work(self, index: int) -> None:
        if self.executor.waiting:
            self.executor.work(index % len(self.executor.waiting))

    @rule(seconds=st.sampled_from([0.002, 1.0, 49.0]))
    def advance(self, seconds: float) -> None:
        self.loop.advance(seconds)

    @invariant()
    def everyone_got_his_own(self) -> None:
        for caller in getattr(self, "callers", []):
            assert len(caller.results) <= 1
            assert not (caller.has_left and caller.results)
            for result in caller.results:
                self.check(caller, result)

    @invariant()
    def version_is_held_while_it_runs(self) -> None:
        if hasattr(self, "callers"):
            assert self.holds == 1 if self.executor.waiting else self.holds in {0, 1}

    def check(self, caller: Caller, result: Tensors | BaseException) -> None:
        if isinstance(result, DeadlineExceeded):
            assert self.loop.now >= caller.deadline
        elif isinstance(result, BaseException):
            assert str(result) == "poisoned"
            assert POISON in caller.rows
        else:
            assert POISON not in caller.rows
            np.testing.assert_array_equal(result["y"], caller.rows**2)
            np.testing.assert_array_equal(result["sum"], caller.rows.sum(axis=1))

    def teardown(self) -> None:
        """In the end all have been told, nothing waits and nothing is held."""
        if not hasattr(self, "callers"):
            return
        for _ in range(1000):
            self.loop.advance(0.002)
            if self.executor.waiting:
                self.executor.work()
        self.everyone_got_his_own()
        assert all(caller.results or caller.has_left for caller in self.callers)
        assert (self.batcher.queued_rows, self.holds, self.batcher.problem()) == (0, 0, "")


Traffic.TestCase.settings = settings(
    max_examples=examples(200), stateful_step_count=40, deadline=None, derandomize=True
)
TestTraffic = pytest.mark.filterwarnings("default")(Traffic.TestCase)
