from __future__ import annotations

import math

from service.alarm import Alarm
from tests.service.fake_loop import FakeLoop


def test_earliest_time_wins_and_it_rings_once() -> None:
    loop, rings = FakeLoop(), []
    alarm = Alarm(loop, lambda: rings.append(loop.now))
    for at in (loop.now + 3, loop.now + 1, loop.now + 2):
        alarm.set(at, loop.now)
    for _ in range(4):
        loop.advance(1)
    assert rings == [1001.0]
    assert alarm.at == math.inf


def test_time_that_is_past_rings_in_the_next_turn_instead_of_later() -> None:
    loop, rings = FakeLoop(), []
    alarm = Alarm(loop, lambda: rings.append(loop.now))
    alarm.set(loop.now + 1, loop.now)
    alarm.set(-math.inf, loop.now)
    assert rings == []
    loop.turn()
    loop.advance(2)
    assert rings == [1000.0]


def test_cleared_alarm_does_not_ring_and_may_be_set_again() -> None:
    loop, rings = FakeLoop(), []
    alarm = Alarm(loop, lambda: rings.append(loop.now))
    alarm.set(loop.now + 1, loop.now)
    alarm.clear()
    loop.advance(1)
    assert rings == []
    alarm.set(loop.now + 1, loop.now)
    loop.advance(1)
    assert rings == [1002.0]
