"""What the fresh process does, here in this one: a description of the model, and its answers or the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from export.reload import Answer, Description, Request, answer, describe
from models import layers, registry
from models.golden import load_tensors, save_tensors

Build = Callable[..., keras.Model]
ROWS = np.array([[1, 2, 3, 4]], dtype=np.float32)


def request_for(path: Path, *modules: str) -> Request:
    save_tensors(path.parent / "in.npz", inputs={"x": ROWS})
    return Request(
        model=path,
        layers=modules,
        labels=None,
        inputs=path.parent / "in.npz",
        outputs=path.parent / "out.npz",
        batch_sizes=(1,),
    )


def saved(model: keras.Model, folder: Path) -> Path:
    model.save(folder / "model.keras")
    return folder / "model.keras"


def test_description_names_every_weight(build: Build) -> None:
    description = describe(build(y=[layers.Dense(2, name="dense")]), None)
    assert [(weight.name, weight.shape) for weight in description.variables] == [("kernel", (4, 2)), ("bias", (2,))]


def test_description_tells_values_apart(build: Build) -> None:
    model = build(y=[layers.Dense(2, name="dense")])
    before = describe(model, None)
    model.set_weights([weight + 1 for weight in model.get_weights()])
    after = describe(model, None)
    assert before.config == after.config
    assert before.variables[0] != after.variables[0]


def test_description_is_the_same_twice(build: Build) -> None:
    model = build(y=[layers.Dense(2), layers.LayerNorm()])
    assert describe(model, ("a", "b")) == describe(model, ("a", "b"))


def test_twin_names_are_two_weights(build: Build) -> None:
    zeros, ones = describe(build(y=[registry.find("TinyTwins")()]), None).variables
    assert zeros.name == ones.name
    assert zeros.sha256 != ones.sha256


def test_weight_without_a_name_is_the_same_in_every_process(build: Build) -> None:
    descriptions = [describe(build(y=[registry.find("TinyScale")(name="scale")]), None) for _ in range(2)]
    assert descriptions[0].variables == descriptions[1].variables


def test_random_generators_are_no_weights(build: Build) -> None:
    assert describe(build(y=[keras.layers.Dropout(0.5)]), None).variables == ()


def test_description_survives_json(build: Build) -> None:
    description = describe(build(y=[layers.Dense(2), layers.LayerNorm()]), ("a", "b"))
    assert Description.model_validate_json(description.model_dump_json()) == description


def test_config_from_config_describes_the_same_model(build: Build) -> None:
    model = build(y=[layers.Dense(2), registry.find("TinyScale")(factor=3.0)])
    with keras.saving.custom_object_scope(registry.custom_objects()):
        again = keras.Model.from_config(model.get_config())
    assert describe(again, None).config == describe(model, None).config
    assert [weight.shape for weight in describe(again, None).variables] == [(4, 2), (2,), (2,)]


def test_answer_holds_the_description_and_writes_the_outputs(tmp_path: Path, build: Build) -> None:
    model = build(y=[registry.find("TinyScale")(factor=2.0)])
    given = answer(request_for(saved(model, tmp_path), "tiny_layers"))
    assert (given.error, given.description) == (None, describe(model, None))
    assert list(given.layers) == ["TinyScale"]
    np.testing.assert_array_equal(load_tensors(tmp_path / "out.npz", "1")["y"], 2 * ROWS)


def test_answer_of_layers_holds_what_each_gave(tmp_path: Path, build: Build) -> None:
    model = build(y=[registry.find("TinyScale")(factor=2.0, name="twice"), keras.layers.ReLU(name="positive")])
    request = request_for(saved(model, tmp_path), "tiny_layers").model_copy(update={"of_layers": True})
    assert answer(request).error is None
    assert sorted(load_tensors(tmp_path / "out.npz", "1")) == ["00000 y/twice", "00001 y/positive"]


def test_file_that_does_not_load_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"nothing")
    given = answer(request_for(tmp_path / "model.keras"))
    assert given == Answer(error="`model.keras` is not a whole .keras file: File is not a zip file.")


@pytest.mark.parametrize("limit", [float("inf"), float("-inf"), float("nan")])
def test_number_that_json_lacks_survives(build: Build, limit: float) -> None:
    description = describe(build(y=[registry.find("TinyScale")(limit=limit)]), None)
    again = Description.model_validate_json(description.model_dump_json())
    assert repr(again.config) == repr(description.config)


def test_module_that_does_not_import_is_a_reason(tmp_path: Path, build: Build) -> None:
    given = answer(request_for(saved(build(y=[layers.Dense(2)]), tmp_path), "no_such_module"))
    assert (given.error or "").startswith("ValueError: The module `no_such_module` could not be imported: ")


def test_layer_that_fails_when_it_is_called_is_a_reason(
    tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(build(y=[registry.find("TinyFragile")()]), tmp_path)
    monkeypatch.setattr(registry.find("TinyFragile"), "is_broken", True)
    given = answer(request_for(path, "tiny_layers"))
    assert given.error == "AttributeError: Exception encountered when calling TinyFragile.call(). it broke"
