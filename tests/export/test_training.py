"""Training: the same arguments give the same weights, and the metrics are those of the held-out rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from export.config import TrainConfig
from export.datasets import Dataset, load_dataset
from export.splitting import Part
from export.training import TrainResult, build, train
from models.problem import Feature, Problem

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "data.md"
CONFIG = TrainConfig(hidden_units=(8,), dropout=0.1, epochs=30, patience=5, learning_rate=0.01, seed=3)


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three clouds of points that a line separates."""
    random = np.random.default_rng(0)
    targets = np.repeat(np.arange(3), 40)
    centres = np.array([[0, 0], [8, 0], [0, 8]])[targets]
    path = tmp_path_factory.mktemp("data") / "clouds.npz"
    np.savez(path, points=centres + random.normal(size=(120, 2)), cloud=np.array(["a", "b", "c"])[targets])
    return load_dataset(TrainConfig(data=str(path), target="cloud", seed=3))


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Large numbers that follow from a small one."""
    x = np.random.default_rng(0).uniform(-1, 1, size=200)
    path = tmp_path_factory.mktemp("data") / "line.npz"
    np.savez(path, x=x, y=1e6 + 1e5 * x)
    return load_dataset(TrainConfig(data=str(path), target="y"))


@pytest.fixture(scope="module")
def result(clouds: Dataset) -> TrainResult:
    return train(CONFIG, clouds, show_progress=False)


@pytest.mark.slow
def test_clouds_are_told_apart(result: TrainResult) -> None:
    assert result.metrics["test_accuracy"] > 0.95
    assert result.metrics["test_baseline_accuracy"] < 0.5


@pytest.mark.slow
def test_metrics_are_those_of_the_returned_model(clouds: Dataset, result: TrainResult) -> None:
    test = clouds.load(Part.TEST)
    probabilities = keras.ops.convert_to_numpy(result.model(test.inputs["points"]))
    assert result.metrics["test_accuracy"] == np.mean(probabilities.argmax(axis=1) == test.targets)
    loss = -np.log(probabilities[np.arange(len(test)), test.targets]).mean()
    assert result.metrics["test_loss"] == pytest.approx(loss, abs=1e-5)  # another batch size


@pytest.mark.slow
def test_same_arguments_give_the_same_weights(clouds: Dataset, result: TrainResult) -> None:
    again = train(CONFIG, clouds, show_progress=False)
    assert again.history == result.history
    for first, second in zip(result.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_model_comes_without_its_optimizer(result: TrainResult) -> None:
    assert not result.model.compiled
    assert (result.model.name, result.model.output_shape) == ("clouds", (None, 3))


@pytest.mark.slow
def test_history_has_a_figure_for_each_epoch(result: TrainResult) -> None:
    assert {"loss", "validation_loss", "validation_accuracy"} <= result.history.keys()
    (epochs,) = {len(figures) for figures in result.history.values()}
    assert epochs <= 30


@pytest.mark.slow
def test_regression_answers_in_the_targets_own_unit(line: Dataset) -> None:
    config = TrainConfig(hidden_units=(16,), dropout=0, epochs=40, learning_rate=0.01)
    result = train(config, line, show_progress=False)
    assert result.metrics["test_r2"] > 0.95
    assert result.metrics["test_rmse"] < result.metrics["test_baseline_rmse"] / 4


@pytest.mark.slow
def test_encoder_tells_the_digits_apart() -> None:
    config = TrainConfig(model="encoder", epochs=25)
    assert train(config, load_dataset(config), show_progress=False).metrics["test_accuracy"] >= 0.97


@pytest.mark.slow
def test_balanced_classes_count_alike(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rare = np.arange(1000) % 20 == 0
    np.savez(tmp_path / "rare.npz", x=random.normal(size=1000) + 1.5 * rare, y=np.where(rare, "rare", "often"))
    recall = []
    for balance in (False, True):
        config = TrainConfig(
            data=str(tmp_path / "rare.npz"),
            target="y",
            hidden_units=(4,),
            epochs=20,
            learning_rate=0.01,
            balance=balance,
        )
        dataset = load_dataset(config)
        model, test = train(config, dataset, show_progress=False).model, dataset.load(Part.TEST)
        answers = keras.ops.convert_to_numpy(model(test.inputs["x"])).argmax(axis=1)
        recall.append(np.mean(answers[test.targets == 1] == 1))
    assert recall[1] > recall[0]


@pytest.mark.slow
def test_progress_is_one_bar_with_the_figures(clouds: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    train(CONFIG.model_copy(update={"epochs": 2}), clouds)
    bar = capsys.readouterr().err
    assert "epoch 2/2" in bar
    assert "validation loss" in bar


PROBLEM = Problem("p", (Feature("x", "number"),), labels=("a", "b"))
BUILDERS = """
import keras

def build(problem, hidden_units=(), dropout=0.0):
    inputs = [keras.Input(feature.shape, dtype=feature.dtype, name=feature.name) for feature in problem.features]
    x = keras.layers.Reshape((1,))(inputs[0])
    return keras.Model(inputs, keras.layers.Dense(len(problem.labels), activation="softmax", name="mine")(x))

def wide(problem, **options):
    inputs = keras.Input((2,), name="x")
    return keras.Model(inputs, keras.layers.Dense(2)(inputs))

def single(problem, **options):
    inputs = keras.Input((), name="x")
    return keras.Model(inputs, keras.layers.Reshape((1,))(inputs))

def nothing(problem, **options):
    return None

def bare(problem):
    return None

def failing(problem, **options):
    raise KeyError("price")

number = 3
"""


@pytest.fixture
def my_builders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_builders.py").write_text(BUILDERS)
    monkeypatch.syspath_prepend(tmp_path)


def test_own_builder_is_taken(my_builders: None) -> None:
    model = build(TrainConfig(builder="my_builders:build"), PROBLEM)
    assert model.output_names == ["mine"]


def test_builder_of_the_documentation_works() -> None:
    (source,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENTATION.read_text(), flags=re.MULTILINE | re.DOTALL)
    module: dict[str, Any] = {}
    exec(source, module)
    model = module["build"](PROBLEM, hidden_units=(4,))
    assert (model.input_shape, model.output_shape) == ((None,), (None, 2))


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        ("my_builders:wide", r"must take the inputs {'x': \('float32', \(None,\)\)}. Its model takes"),
        ("my_builders:single", r"must give one output of shape \(None, 2\). Its model gives \(None, 1\)"),
        ("my_builders:nothing", r"must return a keras.Model. Received: NoneType"),
        ("my_builders:number", r"must be a function. Received: int"),
        ("my_builders:bare", r"^The builder `my_builders:bare`, called with \(problem, hidden_units=\(256, 256\)\), "),
        ("my_builders:bare", r"keyword argument 'hidden_units'. A builder is a function build\(problem, \*, hidden_"),
        ("my_builders:failing", r"^The builder `my_builders:failing`, called with .*, failed: KeyError: 'price'\. A "),
        ("my_builders:absent", r"^There is no builder `my_builders:absent`. Registered: encoder, mlp"),
        ("no_such_module:build", r"^The module `no_such_module` could not be imported"),
        ("tree", r"^There is no builder `tree`. Registered: encoder, mlp. Your own is named my.module:build"),
    ],
)
def test_builder_that_does_not_fit_is_refused(my_builders: None, builder: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(TrainConfig(builder=builder), PROBLEM)
