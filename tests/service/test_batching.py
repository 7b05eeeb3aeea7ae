from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from models.manifest import Tensors
from service.batching import Batcher
from service.cost import LOOP_SECONDS
from service.errors import DeadlineExceeded, NotReady, QueueFull, ServiceError
from service.limits import Limits
from service.refusals import Closed
from service.tickets import Ticket
from tests.service.fake_loop import FakeExecutor, FakeLoop

CHEAP, DEAR = LOOP_SECONDS / 10, LOOP_SECONDS * 10
LIMITS = {"max_batch_size": 4, "max_queue_size": 20, "max_queue_delay_ms": 0.0, "request_timeout": 30.0, "threads": 2}


@dataclass
class House:
    """A batcher among fakes. Its runtime doubles, costs `seconds` a run, and fails where an input holds `poison`."""

    seconds: float = CHEAP
    poison: float | None = None
    is_open: bool = True
    has_bug: bool = False
    loop: FakeLoop = field(default_factory=FakeLoop)
    executor: FakeExecutor = field(default_factory=FakeExecutor)
    runs: list[Tensors] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    batches: list[tuple[int, float, float, int]] = field(default_factory=list)
    batcher: Batcher[Tensors] = field(init=False)

    def build(self, *, joins: bool = True, ragged: tuple[str, ...] = (), run: Any = None, **limits: Any) -> House:
        self.batcher = Batcher(
            run or self.run,
            self.answer,
            joins=joins,
            ragged=ragged,
            limits=Limits(**{**LIMITS, **limits}),
            executor=self.executor,
            hold=self.hold,
            release=lambda: self.events.append("release"),
            on_batch=lambda *figures: self.batches.append(figures),
            loop=self.loop,
            clock=lambda: self.loop.now,
        )
        return self

    def hold(self) -> bool:
        self.events.append("hold")
        return self.is_open

    def run(self, inputs: Tensors) -> Tensors:
        self.runs.append(inputs)
        self.loop.now += self.seconds
        if self.poison is not None and (inputs["x"] == self.poison).any():
            raise RuntimeError("poisoned")
        return {"y": inputs["x"] * 2}

    def answer(self, outputs: Tensors) -> Tensors:
        assert not self.has_bug
        return outputs

    def rows_run(self) -> list[list[float]]:
        """The first value of each row of each run."""
        return [inputs["x"].reshape(len(inputs["x"]), -1)[:, 0].tolist() for inputs in self.runs]

    def ask(self, *rows: float, timeout: float | None = None, width: int = 1) -> Caller:
        caller = Caller()
        inputs = {"x": np.repeat(np.array(rows)[:, np.newaxis], width, axis=1)}
        caller.ticket = self.batcher.submit(inputs, caller.results.append, timeout)
        return caller

    def warm_up(self) -> None:
        """Lets the batcher learn what a run costs, and forgets it."""
        self.ask(0.0)
        self.loop.settle()
        self.executor.work()
        self.loop.settle()
        self.runs.clear(), self.events.clear(), self.batches.clear()


@dataclass
class Caller:
    results: list[Tensors | BaseException] = field(default_factory=list)
    ticket: Ticket[Tensors] = field(init=False)

    def answer(self) -> list[float]:
        [result] = self.results
        assert isinstance(result, dict), result
        return result["y"][:, 0].tolist()

    def error(self) -> BaseException:
        [result] = self.results
        assert isinstance(result, BaseException)
        return result


@pytest.fixture
def house() -> House:
    """Of a cheap model, as it has found out."""
    house = House().build()
    house.warm_up()
    return house


def dear_house(**settings: Any) -> House:
    house = House(seconds=DEAR).build(**settings)
    house.warm_up()
    return house


def test_rows_of_one_turn_run_together_and_go_back_to_their_callers(house: House) -> None:
    callers = [house.ask(1.0), house.ask(2.0, 3.0), house.ask(4.0)]
    house.loop.turn()
    assert house.rows_run() == [[1.0, 2.0, 3.0, 4.0]]
    assert [caller.answer() for caller in callers] == [[2.0], [4.0, 6.0], [8.0]]


def test_nothing_is_called_back_before_submit_has_returned(house: House) -> None:
    caller = house.ask(1.0)
    assert caller.results == []
    house.loop.turn()
    assert caller.answer() == [2.0]


def test_lone_request_reaches_the_runtime_without_a_copy(house: House) -> None:
    inputs = {"x": np.ones((1, 1))}
    house.batcher.submit(inputs, lambda result: None)
    house.loop.turn()
    assert house.runs[0] is inputs


def test_request_that_fits_a_batch_is_not_cut(house: House) -> None:
    callers = [house.ask(1.0, 2.0, 3.0), house.ask(4.0, 5.0)]
    house.loop.settle()
    assert house.rows_run() == [[1.0, 2.0, 3.0], [4.0, 5.0]]
    assert [caller.answer() for caller in callers] == [[2.0, 4.0, 6.0], [8.0, 10.0]]


def test_long_request_is_cut_and_waits_behind_the_others_each_time(house: House) -> None:
    long, short = house.ask(*range(10)), house.ask(20.0, 21.0)
    house.loop.settle()
    assert house.rows_run() == [[0, 1, 2, 3], [20, 21, 4, 5], [6, 7, 8, 9]]
    assert long.answer() == [2 * row for row in range(10)]
    assert short.answer() == [40, 42]


def test_requests_of_other_shapes_run_apart_and_take_turns() -> None:
    house = House().build(ragged=("x",))
    house.warm_up()
    callers = [house.ask(*[1.0] * 9, width=2), house.ask(2.0, width=3), house.ask(3.0, width=2)]
    house.loop.settle()
    assert [inputs["x"].shape for inputs in house.runs] == [(4, 2), (1, 3), (4, 2), (2, 2)]
    assert [len(caller.answer()) for caller in callers] == [9, 1, 1]


def test_texts_of_other_lengths_run_together_but_not_with_one_that_is_far_longer() -> None:
    runs: list[list[int]] = []

    def run(inputs: Tensors) -> Tensors:
        lengths = np.char.str_len(inputs["x"])
        runs.append(lengths.tolist())
        return {"y": lengths}

    house = House().build(run=run, ragged=("x",))
    house.warm_up()
    runs.clear()
    got: list[Any] = []
    for length in (1, 5000, 256, 7000):
        house.batcher.submit({"x": np.array(["a" * length])}, got.append)
    house.loop.settle()
    while house.executor.waiting:
        house.executor.work()
        house.loop.settle()
    assert runs == [[1, 256], [5000, 7000]]
    assert sorted(int(result["y"][0]) for result in got) == [1, 256, 5000, 7000]


def test_model_whose_rows_depend_on_each_other_runs_every_request_alone_and_whole() -> None:
    house = House().build(joins=False)
    house.warm_up()
    callers = [house.ask(*range(9)), house.ask(1.0)]
    house.loop.settle()
    assert house.rows_run() == [list(range(9)), [1.0]]
    assert callers[0].answer() == [2 * row for row in range(9)]


def test_first_run_is_beside_the_event_loop_and_cheap_ones_on_it() -> None:
    house = House().build()
    first = house.ask(1.0)
    house.loop.settle()
    assert house.runs == []
    house.executor.work()
    house.loop.settle()
    second = house.ask(2.0)
    house.loop.settle()
    assert (first.answer(), second.answer(), house.executor.waiting) == ([2.0], [4.0], [])


def test_dear_model_runs_in_as_many_threads_as_there_are_and_gathers_rows_meanwhile() -> None:
    house = dear_house()
    callers = []
    for row in (1.0, 2.0, 3.0, 4.0):
        callers.append(house.ask(row))
        house.loop.settle()
    assert len(house.executor.waiting) == 2
    house.executor.work(1)
    house.loop.settle()
    house.executor.work()
    house.executor.work()
    house.loop.settle()
    assert house.rows_run() == [[2.0], [1.0], [3.0, 4.0]]
    assert [caller.answer() for caller in callers] == [[2.0], [4.0], [6.0], [8.0]]


def test_batch_too_large_for_the_loop_goes_to_a_thread_though_one_row_would_not(house: House) -> None:
    house.seconds = LOOP_SECONDS / 2
    for _ in range(20):
        house.ask(1.0)
        house.loop.settle()
    house.ask(1.0, 2.0, 3.0, 4.0)
    house.loop.settle()
    assert len(house.executor.waiting) == 1


def test_cheap_batch_goes_to_a_thread_while_another_runs_for_it_may_have_to_wait_there(house: House) -> None:
    house.seconds = LOOP_SECONDS / 2
    for _ in range(20):
        house.ask(1.0)
        house.loop.settle()
    house.runs.clear()
    long = house.ask(1.0, 2.0, 3.0, 4.0)
    house.loop.settle()
    short = house.ask(5.0)
    house.loop.settle()
    assert (house.runs, len(house.executor.waiting)) == ([], 2)
    house.executor.work(), house.executor.work()
    house.loop.settle()
    assert (long.answer(), short.answer()) == ([2.0, 4.0, 6.0, 8.0], [10.0])


def test_parts_that_end_out_of_order_are_answered_in_order() -> None:
    house = dear_house()
    caller = house.ask(*range(7))
    house.loop.settle()
    house.executor.work(1)
    house.executor.work()
    house.loop.settle()
    assert house.rows_run() == [[4, 5, 6], [0, 1, 2, 3]]
    assert caller.answer() == [2 * row for row in range(7)]


def test_flush_gives_others_their_turn_after_a_while(house: House) -> None:
    house.seconds = LOOP_SECONDS * 0.9
    callers = [house.ask(*[float(row)] * 4) for row in range(5)]
    house.loop.turn()
    assert len(house.runs) == 2
    house.loop.settle()
    assert [caller.answer() for caller in callers] == [[2.0 * row] * 4 for row in range(5)]


@pytest.mark.parametrize("is_dear", [False, True])
def test_guilty_request_fails_alone(is_dear: bool) -> None:
    house = dear_house() if is_dear else House().build()
    if not is_dear:
        house.warm_up()
    house.poison = 2.0
    callers = [house.ask(row) for row in (1.0, 2.0, 3.0)]
    house.loop.settle()
    while house.executor.waiting:
        house.executor.work()
        house.loop.settle()
    assert [callers[0].answer(), callers[2].answer()] == [[2.0], [6.0]]
    assert str(callers[1].error()) == "poisoned"
    assert sorted(house.rows_run()) == [[1.0], [1.0, 2.0, 3.0], [2.0], [2.0, 3.0], [3.0]]


def test_guilty_request_is_found_by_halves() -> None:
    house = House().build(max_batch_size=64, max_queue_size=64)
    house.warm_up()
    house.poison = 40.0
    callers = [house.ask(float(row)) for row in range(64)]
    while not all(caller.results for caller in callers):
        house.loop.settle()
        while house.executor.waiting:
            house.executor.work()
    assert [row for row, caller in enumerate(callers) if isinstance(caller.results[0], Exception)] == [40]
    assert len(house.runs) == 13


def test_long_request_with_a_bad_row_fails_once_and_its_other_rows_are_not_run(house: House) -> None:
    house.poison = 1.0
    caller = house.ask(*range(12))
    house.loop.settle()
    assert str(caller.error()) == "poisoned"
    assert (house.rows_run(), house.batcher.queued_rows) == ([[0, 1, 2, 3]], 0)


@pytest.mark.parametrize("outputs", [None, {"y": [[1.0], [2.0]]}])
def test_model_that_answers_no_arrays_fails_its_callers_and_nothing_else(outputs: Any) -> None:
    house = House().build(run=lambda inputs: outputs)
    callers = [house.ask(*range(5)), house.ask(2.0)]
    for _ in range(9):
        house.loop.settle()
        if house.executor.waiting:
            house.executor.work()
    assert all(len(caller.results) == 1 for caller in callers)
    assert house.batcher.problem() == ""


@pytest.mark.parametrize("error", [StopIteration(), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_model_raises_reaches_the_caller_as_an_exception(error: BaseException) -> None:
    def run(inputs: Tensors) -> Tensors:
        raise error

    house = House().build(run=run)
    caller = house.ask(1.0)
    house.loop.settle()
    house.executor.work()
    house.loop.settle()
    assert str(caller.error()) == f"The model raised {type(error).__name__}."
    assert caller.error().__cause__ is error


def test_answer_with_other_rows_than_asked_for_is_no_answer_for_a_joined_batch() -> None:
    house = House().build(run=lambda inputs: {"y": np.ones((1, 1))})
    house.warm_up()
    callers = [house.ask(1.0), house.ask(2.0, 3.0)]
    house.loop.settle()
    assert callers[0].answer() == [1.0]
    assert callers[1].answer() == [1.0]  # alone: what the model answers is its own affair


def test_parts_that_do_not_fit_together_fail_their_request_only() -> None:
    house = House().build(run=lambda inputs: {"y": np.ones((len(inputs["x"]), len(inputs["x"])))})
    house.warm_up()
    long, short = house.ask(*range(6)), house.ask(1.0)
    house.loop.settle()
    assert isinstance(long.error(), ValueError)
    assert (len(short.results), house.batcher.problem()) == (1, "")


def test_parts_whose_answer_no_memory_holds_fail_their_request_only() -> None:
    house = House().build(run=lambda inputs: {"y": np.broadcast_to(0.0, (len(inputs["x"]), 2**50))})
    house.warm_up()
    long, short = house.ask(*range(6)), house.ask(1.0)
    house.loop.settle()
    assert isinstance(long.error(), MemoryError)
    assert (len(short.results), house.batcher.problem()) == (1, "")


def test_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    house = dear_house(threads=1)
    house.ask(1.0)
    house.loop.settle()
    for _ in range(5):
        house.ask(1.0, 2.0, 3.0, 4.0)
    with pytest.raises(QueueFull) as caught:
        house.ask(1.0)
    assert str(caught.value) == (
        "The queue is full: 20 rows wait, 20 may. Received: 1 more. Send the request again later."
    )
    assert caught.value.headers == {"retry-after": "1"}


@pytest.mark.parametrize(("threads", "seconds"), [(1, "15"), (4, "4")])
def test_retry_after_is_the_time_that_the_queue_takes(threads: int, seconds: str) -> None:
    house = House(seconds=3.0).build(threads=threads)
    house.warm_up()
    house.ask(1.0, 2.0, 3.0, 4.0)
    house.loop.settle()
    house.executor.work()
    house.loop.settle()
    for _ in range(threads + 5):
        house.ask(1.0, 2.0, 3.0, 4.0)
        house.loop.settle()
    with pytest.raises(QueueFull) as caught:
        house.ask(1.0)
    assert caught.value.headers == {"retry-after": seconds}


def test_request_longer_than_the_queue_is_served_where_nothing_waits(house: House) -> None:
    caller = house.ask(*range(50))
    with pytest.raises(QueueFull):
        house.ask(*range(21))
    house.loop.settle()
    assert caller.answer() == [2 * row for row in range(50)]


def test_request_longer_than_the_queue_takes_no_room_from_others() -> None:
    house = dear_house(threads=1)
    long, callers = house.ask(*range(50)), [house.ask(float(row)) for row in range(20)]
    with pytest.raises(QueueFull):
        house.ask(20.0)
    for _ in range(18):
        house.loop.settle()
        house.executor.work()
    house.loop.settle()
    assert [caller.answer() for caller in callers] == [[2.0 * row] for row in range(20)]
    assert long.answer() == [2 * row for row in range(50)]


@pytest.mark.parametrize("ends", ["answered", "cancelled"])
def test_after_a_request_longer_than_the_queue_another_may_come(house: House, ends: str) -> None:
    first = house.ask(*range(50))
    if ends == "cancelled":
        first.ticket.cancel()
    house.loop.settle()
    second = house.ask(*range(30))
    house.ask(*range(20))
    with pytest.raises(QueueFull):
        house.ask(1.0)
    house.loop.settle()
    assert second.answer() == [2 * row for row in range(30)]


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_request_without_time_is_refused(house: House, timeout: float) -> None:
    with pytest.raises(DeadlineExceeded):
        house.ask(1.0, timeout=timeout)


def test_rows_whose_time_is_up_never_reach_the_runtime() -> None:
    house = dear_house(threads=1)
    first = house.ask(1.0)
    house.loop.settle()
    late, patient = house.ask(2.0, timeout=0.25), house.ask(3.0)
    house.loop.advance(0.25)
    assert str(late.error()) == "The request was not answered within 250 ms."
    assert house.batcher.queued_rows == 1
    for _ in range(2):
        house.executor.work()
        house.loop.settle()
    assert house.rows_run() == [[1.0], [3.0]]
    assert (first.answer(), patient.answer()) == ([2.0], [6.0])


def test_rows_whose_time_is_up_are_left_out_though_no_timer_rang(house: House) -> None:
    late, other = house.ask(1.0, timeout=0.5), house.ask(2.0)
    house.loop.now += 0.5
    house.loop.turn()
    assert isinstance(late.error(), DeadlineExceeded)
    assert (house.rows_run(), other.answer()) == ([[2.0]], [4.0])


def test_request_that_runs_is_answered_at_its_deadline_and_its_result_dropped() -> None:
    house = dear_house()
    late, patient = house.ask(1.0, timeout=1.0), house.ask(2.0)
    house.loop.settle()
    house.loop.advance(1.0)
    assert isinstance(late.error(), DeadlineExceeded)
    house.executor.work()
    house.loop.settle()
    assert (len(late.results), patient.answer()) == (1, [4.0])


def test_timeout_is_never_longer_than_the_settings_allow() -> None:
    house = dear_house(request_timeout=2.0)
    caller = house.ask(1.0, timeout=1e9)
    house.loop.settle()
    house.loop.advance(2.0)
    assert str(caller.error()) == "The request was not answered within 2000 ms."


def test_deadlines_are_kept_in_any_order() -> None:
    house = dear_house(threads=1)
    callers = {seconds: house.ask(1.0, timeout=seconds) for seconds in (3.0, 1.0, 2.0)}
    house.loop.settle()
    order = []
    for _ in range(3):
        house.loop.advance(1.0)
        order.append([seconds for seconds, caller in callers.items() if caller.results])
    assert order == [[1.0], [1.0, 2.0], [3.0, 1.0, 2.0]]


def test_cancelled_rows_never_reach_the_runtime_and_nobody_is_called(house: House) -> None:
    gone, other = house.ask(1.0), house.ask(2.0)
    gone.ticket.cancel()
    gone.ticket.cancel()
    house.loop.settle()
    assert (house.rows_run(), gone.results, other.answer()) == ([[2.0]], [], [4.0])


def test_cancelling_what_runs_drops_its_result() -> None:
    house = dear_house()
    gone, other = house.ask(1.0), house.ask(2.0)
    house.loop.settle()
    gone.ticket.cancel()
    house.executor.work()
    house.loop.settle()
    assert (gone.results, other.answer()) == ([], [4.0])


def test_cancelling_after_the_answer_is_nothing(house: House) -> None:
    caller = house.ask(1.0)
    house.loop.settle()
    caller.ticket.cancel()
    assert caller.answer() == [2.0]


def test_long_request_that_is_cancelled_between_its_parts_ends_there() -> None:
    house = dear_house(threads=1)
    caller = house.ask(*range(12))
    house.loop.settle()
    caller.ticket.cancel()
    house.executor.work()
    house.loop.settle()
    assert (house.rows_run(), caller.results, house.executor.waiting) == ([[0, 1, 2, 3]], [], [])


def test_caller_that_raises_harms_no_other(house: House, caplog: pytest.LogCaptureFixture) -> None:
    def done(result: object) -> None:
        raise RuntimeError("the connection was closed")

    house.batcher.submit({"x": np.ones((1, 1))}, done)
    other = house.ask(2.0)
    house.loop.settle()
    assert (other.answer(), house.batcher.problem()) == ([4.0], "")
    assert "A caller failed on its answer." in caplog.text


def test_caller_may_come_back_while_it_is_answered(house: House) -> None:
    got: list[Any] = []
    house.batcher.submit({"x": np.ones((1, 1))}, lambda result: got.append(house.ask(5.0)))
    house.loop.settle()
    assert got[0].answer() == [10.0]


def test_version_is_held_while_there_is_work_and_released_after(house: House) -> None:
    for _ in range(2):
        house.ask(1.0), house.ask(2.0)
        house.loop.settle()
    assert house.events == ["hold", "release"] * 2


def test_version_is_held_until_its_thread_has_ended_though_everyone_left() -> None:
    house = dear_house()
    caller = house.ask(1.0)
    house.loop.settle()
    caller.ticket.cancel()
    assert house.events == ["hold"]
    house.executor.work()
    house.loop.settle()
    assert house.events == ["hold", "release"]


def test_version_is_released_when_all_leave_before_they_run(house: House) -> None:
    house.ask(1.0).ticket.cancel()
    assert house.events == ["hold", "release"]


def test_version_that_is_gone_takes_nothing_in(house: House) -> None:
    house.is_open = False
    with pytest.raises(Closed):
        house.ask(1.0)
    house.loop.settle()
    assert (house.runs, house.batcher.queued_rows) == ([], 0)


def test_batch_waits_for_more_rows_if_told_to_but_no_longer_than_told() -> None:
    house = House().build(max_queue_delay_ms=5.0)
    house.ask(0.0)
    house.loop.advance(0.005)
    house.executor.work()
    house.loop.settle()
    house.runs.clear()
    house.ask(1.0)
    house.loop.advance(0.004)
    house.ask(2.0)
    house.loop.settle()
    assert house.runs == []
    house.loop.advance(0.001)
    assert house.rows_run() == [[1.0, 2.0]]


def test_full_batch_does_not_wait() -> None:
    house = House().build(max_queue_delay_ms=5.0)
    house.ask(1.0, 2.0), house.ask(3.0, 4.0)
    house.loop.settle()
    assert len(house.executor.waiting) == 1


def test_hanging_runtime_is_a_problem_once_all_threads_hang_longer_than_a_request_may() -> None:
    house = dear_house(request_timeout=10.0)
    house.ask(1.0)
    house.loop.settle()
    house.loop.advance(11.0)
    assert house.batcher.problem() == ""
    house.ask(2.0)
    house.loop.settle()
    house.loop.advance(11.0)
    assert house.batcher.problem() == "It has not answered for 11 s."
    house.executor.work()
    house.loop.settle()
    assert house.batcher.problem() == ""


def test_mistake_of_ours_fails_all_who_wait_and_who_come_later(caplog: pytest.LogCaptureFixture) -> None:
    house = dear_house(threads=1)
    callers = [house.ask(1.0)]
    house.loop.settle()
    callers.append(house.ask(2.0))
    house.has_bug = True
    house.executor.work()
    house.loop.settle()
    assert [type(caller.error()) for caller in callers] == [ServiceError, ServiceError]
    assert house.events == ["hold", "release"]
    assert house.batcher.problem() == "Its queue has failed; the log says why. Restart the service."
    with pytest.raises(NotReady, match="Its queue has failed"):
        house.ask(3.0)
    assert "A batch queue has failed" in caplog.text


def test_no_thread_to_be_had_fails_the_request(house: House) -> None:
    def refuse(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    house.executor.submit = refuse  # type: ignore[method-assign, assignment]
    house.seconds = DEAR
    for _ in range(30):
        last = house.ask(1.0)
        house.loop.settle()
    assert str(last.error()) == "can't start new thread"
    assert house.batcher.problem() == ""


def test_observer_is_told_rows_waiting_running_and_requests() -> None:
    house = dear_house(threads=1)
    house.ask(1.0)
    house.loop.settle()
    house.ask(2.0, 3.0), house.ask(4.0)
    house.loop.now += 2.0
    for _ in range(2):
        house.executor.work()
        house.loop.settle()
    assert [(rows, requests) for rows, _, _, requests in house.batches] == [(1, 1), (3, 2)]
    assert house.batches[1][1:3] == pytest.approx((2.0 + DEAR, DEAR))


def test_rows_of_several_callers_run_at_once(house: House) -> None:
    outputs = house.batcher.run_at_once({"x": np.array([[1.0], [2.0], [3.0]])}, [1, 2], 0.25)
    assert outputs is not None
    assert outputs["y"].tolist() == [[2.0], [4.0], [6.0]]
    assert house.batches == [(3, 0.25, pytest.approx(CHEAP), 2)]
    assert house.events == ["hold", "release"]


@pytest.mark.parametrize(("settings", "rows"), [({"joins": False}, 2), ({"max_queue_delay_ms": 1.0}, 2), ({}, 5)])
def test_rows_that_submit_would_not_run_together_at_once_are_left_to_it(settings: dict[str, Any], rows: int) -> None:
    house = House().build(**settings)
    house.ask(0.0)
    house.loop.settle()
    house.loop.advance(0.001)
    house.executor.work()
    house.loop.settle()
    house.runs.clear()
    assert house.batcher.run_at_once({"x": np.ones((rows, 1))}, [rows], 0.0) is None
    assert house.runs == []


def test_nothing_runs_at_once_where_it_is_dear_or_unknown() -> None:
    for house in (dear_house(), House().build()):
        assert house.batcher.run_at_once({"x": np.ones((1, 1))}, [1], 0.0) is None
        assert house.runs == []


def test_nothing_runs_at_once_before_those_who_wait(house: House) -> None:
    caller = house.ask(1.0)
    assert not house.batcher.may_run_at_once()
    assert house.batcher.run_at_once({"x": np.array([[2.0]])}, [1], 0.0) is None
    house.loop.settle()
    assert caller.answer() == [2.0]
    assert house.batcher.may_run_at_once()
    assert house.batcher.run_at_once({"x": np.array([[2.0]])}, [1], 0.0) is not None


def test_run_at_once_that_fails_is_left_to_submit_for_each(house: House) -> None:
    house.poison = 2.0
    assert house.batcher.run_at_once({"x": np.array([[1.0], [2.0]])}, [1, 1], 0.0) is None
    assert house.events == ["hold", "release"]
    assert house.batches == []
    callers = [house.ask(1.0), house.ask(2.0)]
    house.loop.settle()
    assert callers[0].answer() == [2.0]
    assert isinstance(callers[1].error(), RuntimeError)


def test_nothing_runs_at_once_on_a_version_that_is_gone(house: House) -> None:
    house.is_open = False
    assert house.batcher.run_at_once({"x": np.ones((1, 1))}, [1], 0.0) is None
    assert (house.runs, house.events) == ([], ["hold"])


def test_rows_run_at_once_in_batches_that_cut_no_request(house: House) -> None:
    rows = np.arange(9.0)[:, np.newaxis]
    outputs = house.batcher.run_at_once({"x": rows}, [1, 2, 3, 1, 2], 0.0)
    assert outputs is not None
    assert outputs["y"].tolist() == (rows * 2).tolist()
    assert house.rows_run() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0, 6.0], [7.0, 8.0]]
    assert [(figures[0], figures[3]) for figures in house.batches] == [(3, 2), (4, 2), (2, 1)]


def test_rows_that_together_would_hold_up_the_loop_are_left_to_submit(house: House) -> None:
    house.seconds = LOOP_SECONDS * 0.9
    for _ in range(8):
        house.ask(1.0)
        house.loop.settle()
    house.runs.clear()
    assert house.batcher.run_at_once({"x": np.ones((4, 1))}, [1] * 4, 0.0) is None
    assert house.runs == []
