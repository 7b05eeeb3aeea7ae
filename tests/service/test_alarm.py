from __future__ import annotations

import asyncio
import gc
import math
import weakref

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


def test_silenced_alarm_lets_go_of_what_it_would_call() -> None:
    class Listener:
        def ring(self) -> None:
            raise AssertionError("it rang")

    async def silence() -> object:
        listener = Listener()
        alarm = Alarm(asyncio.get_running_loop(), listener.ring)
        alarm.set(3600, 0)
        alarm.silence()
        await asyncio.sleep(0)
        return weakref.ref(listener)

    async def main() -> None:
        reference = await silence()
        assert callable(reference)
        gc.collect()
        assert reference() is None

    asyncio.run(main())


def test_alarm_of_a_closed_loop_may_be_silenced() -> None:
    loop = asyncio.new_event_loop()
    alarm = Alarm(loop, lambda: None)
    loop.close()
    alarm.silence()


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
