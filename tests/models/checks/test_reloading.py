"""Each rule on reloading in a fresh process: a layer that breaks it, and its sound twin."""

from __future__ import annotations

from typing import Any

import keras
import pytest

from models.checks.checker import make_subject
from models.checks.fresh_process import FreshProcess, FreshProcessError, Source
from models.checks.ordering import _uses_sets
from tests.models.checks import reloaded_layers as layers
from tests.models.checks.harness import Case, verdict

LOADS = "check_reloads_in_a_fresh_process"
ORDER = "check_weights_keep_their_order"
ALIKE, WEIGHTS = "check_reloaded_model_answers_alike", "check_weights_survive_a_reload"
CASES = [
    Case(
        LOADS,
        lambda: layers.BuildsBuiltChild(keras.layers.Dense(6)),
        "a layer that is already built",
        lambda: layers.Backbone(keras.layers.Dense(6)),
    ),
    Case(WEIGHTS, layers.HashOrdered, "` is named `hash_ordered/", layers.NameOrdered),
    Case(ORDER, layers.BlocksInASet, "has another value after the reload", layers.SortedBlocks),
    Case(ORDER, layers.HashOrdered, "` is named `hash_ordered/", layers.NameOrdered),
    Case(WEIGHTS, layers.BlocksInLayers, "after the reload", layers.Blocks),
    Case(ALIKE, layers.RandomProjectionInNumpy, "gives other answers", layers.RandomProjection),
    Case(ALIKE, layers.CountsInAnObject, "gives other answers", layers.RunningMean),
    Case("check_no_hidden_state", layers.RunningMeanInNumpy, "`average` changes with each call", layers.RunningMean),
    Case("check_no_hidden_state", layers.CountsOnTheClass, "`CountsOnTheClass.seen` changes", layers.CountsForItsLog),
    Case("check_no_hidden_state", layers.ChangesLate, "`steps` changes with each call", layers.CountsForItsLog),
    Case("check_no_hidden_state", layers.CountsInAnObject, "`holder.total` changes", layers.CountsForItsLog),
    Case("check_no_hidden_state", layers.RandomProjectionInNumpy, "`matrix` is drawn anew", layers.RandomProjection),
    Case("check_calls_leave_nothing_behind", layers.RemembersInputs, "`history` grows", layers.CountsForItsLog),
    Case(
        "check_frozen_parts_stay_frozen",
        lambda: layers.ThawingBackbone(layers.frozen_dense()),
        "kernel` was frozen and is trainable",
        lambda: layers.Backbone(layers.frozen_dense()),
    ),
    Case(
        "check_losses_survive_a_reload",
        lambda: layers.ForgetsPenalty("l2"),
        "became []",
        lambda: layers.Penalized("l2"),
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_broken_layer_is_caught_and_its_cause_named(case: Case) -> None:
    result = verdict(case.rule, case.broken, case.shape)
    assert result.status == "failed"
    assert case.words in result.message


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_sound_twin_passes(case: Case) -> None:
    assert verdict(case.rule, case.sound, case.shape).status == "passed"


@pytest.mark.slow
def test_layer_inside_a_function_is_skipped_with_the_reason() -> None:
    class Local(layers.Doubling):
        pass

    result = verdict("check_reloads_in_a_fresh_process", Local)
    assert result.status == "skipped"
    assert "defined inside a function" in result.message


def test_layer_typed_into_a_session_is_skipped_with_the_reason() -> None:
    typed: dict[str, Any] = {"__name__": "an_interactive_session", "keras": keras}
    exec("class Typed(keras.Layer):\n    def call(self, x):\n        return x", typed)
    result = verdict("check_reloads_in_a_fresh_process", typed["Typed"])
    assert result.status == "skipped"
    assert "no file that another process could import" in result.message


def test_layer_that_only_asks_a_set_starts_no_further_process() -> None:
    assert not _uses_sets(layers.AsksASet)
    assert _uses_sets(layers.HashOrdered)
    assert _uses_sets(layers.BlocksInASet)


@pytest.mark.slow
def test_process_that_died_is_replaced() -> None:
    process = FreshProcess()
    subject = make_subject(layers.Doubling, (6,))
    subject._process = process
    process.start()
    process._process.kill()  # type: ignore[union-attr]
    process._process.wait()  # type: ignore[union-attr]
    assert len(subject.journey.value().reloaded.outputs) == 1
    process.close()


@pytest.mark.slow
def test_process_that_does_not_answer_in_time_is_told_and_ended() -> None:
    process = FreshProcess(timeout_seconds=0.01)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(FreshProcessError, match="no answer within"):
        process.reload(model, [], Source({}, []))
    process.close()


def test_script_that_checks_while_it_is_imported_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERSERVE_FRESH_PROCESS", "1")
    with pytest.raises(FreshProcessError, match="__main__"):
        FreshProcess().start()
