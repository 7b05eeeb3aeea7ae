"""Golden examples: written the same each time, read only as the signature says, compared with a tolerance."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.artifact import Artifact, ArtifactError
from models.golden import GOLDEN, TOLERANCE, Golden, compare, load_tensors, read_golden, save_tensors, write_golden
from models.store import ArtifactStore


def golden_of(**outputs: object) -> Golden:
    return Golden({"x": np.ones((1, 2), np.float32)}, {name: np.asarray(value) for name, value in outputs.items()})


def test_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
        write_golden(folder, golden_of(y=[[0.5, 0.25]]))
    assert (folders[0] / GOLDEN).read_bytes() == (folders[1] / GOLDEN).read_bytes()


def test_golden_reads_back_what_was_published(artifact: Artifact) -> None:
    golden = read_golden(artifact)
    assert golden.inputs["x"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert golden.outputs["y"].tolist() == [3, 7, 11]


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.5], np.float16),
        np.array([[-1, 2]], np.int64),
        np.array([True, False]),
        np.array(["grün", "日本", ""]),
        np.zeros((0, 3), np.float32),
    ],
    ids=["float16", "int64", "bool", "string", "no rows"],
)
def test_array_keeps_its_dtype_and_shape(tmp_path: Path, artifact: Artifact, values: np.ndarray) -> None:
    write_golden(tmp_path, Golden({"x": values}, {"y": values}))
    read = read_golden(Artifact(tmp_path, artifact.manifest, artifact.digest)).inputs["x"]
    assert (read.dtype, read.shape, read.tolist()) == (values.dtype, values.shape, values.tolist())


@pytest.mark.parametrize("name", ["file", "allow_pickle", "a.npy", "inputs/x", "é"])
def test_tensor_may_have_any_name(tmp_path: Path, name: str) -> None:
    save_tensors(tmp_path / "t.npz", inputs={name: np.ones(2)}, outputs={"y": np.zeros(1)})
    assert {key: values.tolist() for key, values in load_tensors(tmp_path / "t.npz", "inputs").items()} == {
        name: [1, 1]
    }


def npz_of(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{"inputs/x": values, "outputs/y": values})
    return buffer.getvalue()


def npy_of(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


WHOLE = npz_of(np.arange(99))
UNREADABLE = {
    "empty": b"",
    "nonsense": b"nonsense",
    "pickled": npz_of(np.array([{}], dtype=object)),
    "one array": npy_of(np.ones(3)),
    "cut": WHOLE[:-40],
    "broken stream": WHOLE[:50] + b"\xff" * 20 + WHOLE[70:],
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_golden_is_refused(artifact: Artifact, content: bytes) -> None:
    (artifact.path / GOLDEN).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"^`golden.npz` cannot be read"):
        read_golden(artifact)


@pytest.mark.parametrize("name", ["z", "y "])
def test_golden_of_other_names_is_refused(
    store: ArtifactStore, publish_fake: Callable[..., Artifact], name: str
) -> None:
    artifact = publish_fake(store, golden=golden_of(**{name: [1.0]}))
    with pytest.raises(ArtifactError, match=r"^`golden.npz` holds other names than the signature.$"):
        read_golden(artifact)


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        ([1.0, 2.0], [1.0, 2.0]),
        ([1.0], [1.0 + 0.9 * TOLERANCE]),
        ([1000.0], [1000.0 + 900 * TOLERANCE]),
        ([0.0], [0.9 * TOLERANCE]),
        (np.float32([0.5]), np.float16([0.5])),
        (["a", "b"], ["a", "b"]),
        (["a"], np.array(["a"], dtype="<U9")),
        ([1, 2], [1, 2]),
        (np.zeros((0, 3)), np.zeros((0, 3))),
    ],
)
def test_answers_within_the_tolerance_agree(wanted: object, got: object) -> None:
    comparison = compare({"y": np.asarray(wanted)}, {"y": np.asarray(got)})
    assert comparison.differences == ()


@pytest.mark.parametrize(
    ("wanted", "got", "line"),
    [
        ([1.0, 2.0], [1.0, 2.1], "output `y`: 1 of 2 golden rows differ by more than 1e-05, at most by 0.1"),
        ([0.0], [1.1 * TOLERANCE], "output `y`: 1 of 1 golden rows differ by more than 1e-05, at most by 1.1e-05"),
        ([[1.0, 2.0]], [[3.0, 4.0]], "output `y`: 1 of 1 golden rows differ by more than 1e-05, at most by 2"),
        ([1.0], [np.nan], "output `y`: 1 of 1 golden rows differ by more than 1e-05, at most by inf"),
        ([np.nan], [np.nan], "output `y`: 1 of 1 golden rows differ by more than 1e-05, at most by inf"),
        ([np.inf], [1.0], "output `y`: 1 of 1 golden rows differ by more than 1e-05, at most by inf"),
        ([1.0], [np.inf], "output `y`: 1 of 1 golden rows differ by more than 1e-05, at most by inf"),
        ([1, 2, 3], [1, 0, 0], "output `y`: 2 of 3 golden rows differ"),
        ([1000, 2], [1000, 3], "output `y`: 1 of 2 golden rows differ"),
        (["a"], ["b"], "output `y`: 1 of 1 golden rows differ"),
        ([1.0], [1], "output `y` is int64 of shape (1,) instead of float64 of shape (1,)"),
        ([1.0, 2.0], [[1.0, 2.0]], "output `y` is float64 of shape (1, 2) instead of float64 of shape (2,)"),
        ([1.0], np.zeros(0), "output `y` is float64 of shape (0,) instead of float64 of shape (1,)"),
    ],
)
def test_difference_is_told_in_one_line(wanted: object, got: object, line: str) -> None:
    comparison = compare({"y": np.asarray(wanted)}, {"y": np.asarray(got)})
    assert comparison.differences == (line,)


def test_other_output_names_differ() -> None:
    comparison = compare({"y": np.ones(1)}, {"b": np.ones(1), "a": np.ones(1)})
    assert comparison.differences == ("outputs are named a, b instead of y",)
    assert comparison.max_abs_error == float("inf")


def test_largest_error_is_over_all_outputs() -> None:
    comparison = compare({"a": np.array([1.0]), "b": np.array([1.0])}, {"a": np.array([1.25]), "b": np.array([1.5])})
    assert comparison.max_abs_error == 0.5
    assert len(comparison.differences) == 2


def test_tolerance_can_be_the_manifests() -> None:
    wanted, got = {"y": np.array([1.0])}, {"y": np.array([1.01])}
    assert compare(wanted, got, tolerance=0.02).differences == ()
