from __future__ import annotations

import math

import pytest

from service.cost import LOOP_SECONDS, Cost


def test_nothing_is_known_before_the_first_run() -> None:
    assert Cost().estimate(1) == math.inf


def test_shortest_of_recent_runs_counts() -> None:
    cost = Cost()
    for seconds in (3.0, 1.0, 2.0):
        cost.learn(100, seconds)
    assert cost.estimate(100) == 1.0


def test_model_that_has_become_slow_counts_as_slow_after_eight_runs() -> None:
    cost = Cost()
    cost.learn(100, 0.001)
    estimates = []
    for _ in range(8):
        cost.learn(100, 1.0)
        estimates.append(cost.estimate(100))
    assert estimates == [0.001] * 7 + [1.0]


@pytest.mark.parametrize(("size", "seconds"), [(64, 1.0), (127, 1.0), (128, 2.0), (1024, 16.0), (1, 1.0)])
def test_size_that_was_never_seen_is_guessed_too_high_rather_than_too_low(size: int, seconds: float) -> None:
    cost = Cost()
    cost.learn(100, 1.0)
    assert cost.estimate(size) == seconds


def test_guess_for_a_size_between_is_no_higher_than_the_larger_one_took() -> None:
    cost = Cost()
    cost.learn(1, 1.0)
    cost.learn(1024, 4.0)
    assert cost.estimate(512) == 4.0


CHEAP, DEAR = LOOP_SECONDS / 10, LOOP_SECONDS * 100


def runs_until_cheap(cost: Cost, seconds: float = CHEAP) -> int:
    for runs in range(10_000):
        if cost.is_cheap(1):
            return runs
        cost.learn(1, seconds)
    raise AssertionError("never cheap again")


def test_after_a_run_that_took_far_longer_none_is_cheap_for_a_while() -> None:
    cost = Cost()
    cost.learn(1, CHEAP)
    cost.learn(1, DEAR)
    assert not cost.is_cheap(64)
    assert runs_until_cheap(cost) == 8


def test_runs_that_now_and_then_take_far_longer_are_less_and_less_cheap() -> None:
    cost = Cost()
    cost.learn(1, CHEAP)
    wary = []
    for _ in range(10):
        cost.learn(1, DEAR)
        wary.append(runs_until_cheap(cost))
    assert wary == [8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024]


def test_runs_that_took_far_longer_long_ago_are_forgotten() -> None:
    cost = Cost()
    cost.learn(1, CHEAP)
    for _ in range(2):
        cost.learn(1, DEAR)
        for _ in range(128):
            cost.learn(1, CHEAP)
    cost.learn(1, DEAR)
    assert runs_until_cheap(cost) == 8


def test_dear_run_of_a_size_that_is_known_to_be_dear_changes_nothing() -> None:
    cost = Cost()
    cost.learn(1, CHEAP)
    cost.learn(1024, DEAR)
    cost.learn(1024, DEAR)
    assert cost.is_cheap(1)
