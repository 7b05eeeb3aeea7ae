"""`check_layer`: what it takes, and what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from models.checks import RULES, CheckReport, LayerCase, check_layer, parametrize_with_checks
from models.checks.example import make_example
from tests.models.checks import realistic_layers as realistic
from tests.models.checks import reloaded_layers as layers
from tests.models.checks.test_configuration import HiddenForgetfulScale

ROOT = Path(__file__).parents[3]
SCRIPT = """
import keras
from models.checks import check_layer

@keras.saving.register_keras_serializable(package="script")
class Mine(keras.layers.Layer):
    def call(self, x):
        return x * 2

{guard}
    report = check_layer(Mine, (6,))
    print(report, report["check_reloads_in_a_fresh_process"])
"""


def run_script(tmp_path: Path, guard: str) -> str:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(guard=guard))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", str(path)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_layer_of_a_guarded_script_is_reloaded(tmp_path: Path) -> None:
    said = run_script(tmp_path, 'if __name__ == "__main__":')
    assert "Mine: all rules hold check_reloads_in_a_fresh_process passed" in said


@pytest.mark.slow
def test_layer_of_an_unguarded_script_is_told_how_to_guard_it(tmp_path: Path) -> None:
    said = run_script(tmp_path, "if True:")
    assert "check_reloads_in_a_fresh_process skipped: The script checks layers while it is imported" in said


@pytest.mark.slow
@pytest.mark.parametrize("made", [lambda: realistic.Standardize(0.5), lambda: keras.layers.Embedding(9, 2)])
def test_layer_is_taken_as_well_as_a_factory(made: Any) -> None:
    dtype = "int32" if isinstance(made(), keras.layers.Embedding) else "float32"
    failures = {failure.rule for failure in check_layer(made(), (6,), dtype=dtype).failures}
    assert failures <= {"check_config_is_complete"} if dtype == "int32" else failures == set()


@pytest.mark.slow
def test_argument_that_only_keras_noted_is_found_in_a_given_layer() -> None:
    assert "`factor` is lost" in check_layer(HiddenForgetfulScale(3.0), (6,))["check_config_is_complete"].message


@pytest.mark.slow
def test_whole_model_is_checked_like_a_layer() -> None:
    def functional() -> Any:
        inputs = keras.Input((6,))
        return keras.Model(inputs, keras.layers.Dense(2)(layers.NameOrdered()(inputs)))

    rules = [failure.rule for failure in check_layer(functional, (6,)).failures]
    assert set(rules) <= {"check_wrong_input_is_named", "check_gradients_reach_every_weight"}


@pytest.mark.slow
def test_factory_that_makes_no_layer_is_told_once() -> None:
    report = check_layer(lambda: 3, (6,))
    assert [failure.rule for failure in report.failures] == ["check_can_be_called"]
    assert "must make a keras.Layer. Received: int" in report.failures[0].message


@pytest.mark.slow
def test_report_has_one_result_a_rule_and_finds_it_by_name() -> None:
    report = check_layer(lambda: 3, (6,))
    assert [result.rule for result in report.results] == [rule.__name__ for rule in RULES]
    with pytest.raises(KeyError):
        report["check_nothing"]


@pytest.mark.slow
def test_report_reads_as_its_failures_with_their_mends() -> None:
    text = str(check_layer(lambda: 3, (6,)))
    assert text.startswith("<lambda>: 1 broken\ncheck_can_be_called failed: ")
    assert "\n  Mend: " in text
    assert str(CheckReport("Mine", ())) == "Mine: all rules hold"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input_shape": None}, "Received: neither"),
        ({"input_shape": [(3,), (4,)], "dtype": ["int32"]}, "`dtype` must have one entry an input, 2 in all"),
        ({"input_shape": {"a": (3,)}, "inputs": {"b": np.zeros((2, 3))}}, "`inputs` must have the keys"),
    ],
)
def test_inputs_that_do_not_fit_together_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_example(**arguments)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "bool", "string"])
def test_example_rows_differ_and_have_the_dtype(dtype: str) -> None:
    example = make_example((None, 3), dtype)
    assert example.dtypes == (dtype,)
    assert example.arrays[0].shape == (4, 6, 3)
    assert len(np.unique(example.arrays[0].reshape(4, -1), axis=0)) > 1


def test_rows_given_as_plain_lists_are_one_input() -> None:
    assert make_example(None, inputs=[[1.0, 2.0], [3.0, 4.0]]).shapes == ((2,),)


def test_expected_failure_must_name_a_rule() -> None:
    with pytest.raises(ValueError, match="must name rules of the contract"):
        parametrize_with_checks([LayerCase(layers.Doubling, (6,), expected_failures={"check_nothing": "why"})])


def test_case_gives_one_test_a_rule_and_marks_the_expected_failure() -> None:
    case = LayerCase(layers.Doubling, (6,), expected_failures={"check_no_float64": "known"})
    parameters = parametrize_with_checks([case]).mark.args[1]  # type: ignore[attr-defined]
    marked = {parameter.id: parameter.marks for parameter in parameters}
    assert len(marked) == len(RULES)
    assert marked["Doubling-check_no_float64"][0].kwargs["strict"]
    assert not marked["Doubling-check_can_be_called"]
