"""The rules on mistakes: a layer that breaks each, and its sound twin."""

from __future__ import annotations

from typing import Any

import keras
import pytest

from tests.models.checks.harness import Case, verdict
from tests.models.checks.test_state import Gain


class Units(keras.Layer):
    """Sound: names the argument and what came."""

    def __init__(self, units: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(units, int):
            raise TypeError(f"`units` must be an integer. Received: units={units!r}")
        self.units = units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(shape[-1], self.units))

    def call(self, x: Any) -> Any:
        return keras.ops.matmul(x, self.kernel)


class AnyUnits(Units):
    def __init__(self, units: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units


class MuteUnits(Units):
    def __init__(self, units: int = 4, **kwargs: Any) -> None:
        if not isinstance(units, int):
            raise TypeError("wrong argument")
        super().__init__(units, **kwargs)


class IgnoresUnits(Gain):
    def __init__(self, units: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class BoundGain(Gain):
    """Sound: refuses another width than it was built for."""

    def build(self, shape: Any) -> None:
        super().build(shape)
        self.input_spec = keras.InputSpec(min_ndim=2, axes={-1: shape[-1]})


CASES = [
    Case(
        "check_bad_argument_is_named", AnyUnits, "units='not-a-number' is refused only when the layer is called", Units
    ),
    Case("check_bad_argument_is_named", MuteUnits, "TypeError: wrong argument (which does not name both)", Units),
    Case("check_bad_argument_is_named", IgnoresUnits, "units='not-a-number' is accepted", Units),
    Case("check_wrong_input_is_named", Gain, "it accepts an input narrower, (4, 1)", BoundGain),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_broken_layer_is_caught_and_its_cause_named(case: Case) -> None:
    result = verdict(case.rule, case.broken, case.shape)
    assert result.status == "failed"
    assert case.words in result.message


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sound_twin_passes(case: Case) -> None:
    assert verdict(case.rule, case.sound, case.shape).status == "passed"
