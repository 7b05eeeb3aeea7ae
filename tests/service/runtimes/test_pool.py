from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count

import pytest

from service.runtimes.pool import Pool


def numbers(most: int) -> Pool[int]:
    made: Iterator[int] = count()
    return Pool(lambda: next(made), most)


def test_idle_thing_is_lent_again() -> None:
    pool = numbers(2)
    for _ in range(3):
        thing = pool.take()
        assert thing == 0
        pool.give(thing)


def test_another_is_made_while_the_first_is_lent() -> None:
    pool = numbers(2)
    assert {pool.take(), pool.take()} == {0, 1}


def test_caller_waits_for_one_to_be_given_back_when_all_are_lent() -> None:
    pool = numbers(1)
    thing, taken = pool.take(), threading.Event()

    def wait() -> None:
        pool.give(pool.take())
        taken.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not taken.is_set()
    pool.give(thing)
    waiting.join()
    assert taken.is_set()


def test_thing_that_cannot_be_made_fails_at_once() -> None:
    def fail() -> int:
        raise ValueError("no memory")

    with pytest.raises(ValueError, match="no memory"):
        Pool(fail, 2)


def test_thing_that_could_not_be_made_does_not_count() -> None:
    answers = iter([0, ValueError("no memory"), 1])

    def make() -> int:
        answer = next(answers)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    pool = Pool(make, 2)
    pool.take()
    with pytest.raises(ValueError, match="no memory"):
        pool.take()
    assert pool.take() == 1
