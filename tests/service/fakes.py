"""Versions that need no Keras: `model.keras` names one of the functions below and a factor, and FakeRuntime runs it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import get_args

import numpy as np

from models.artifact import Artifact, file_paths, file_record
from models.golden import Golden, write_golden
from models.manifest import (
    Certificate,
    DatasetRecord,
    DType,
    FormatRecord,
    Manifest,
    Signature,
    Tensors,
    TensorSpec,
    TrainingRecord,
)
from models.store import ArtifactStore
from service.runtimes import Runtime
from service.runtimes.selection import Selection
from service.runtimes.trial import Trial, replay_golden

Function = Callable[[Tensors, np.float32], Tensors]


@dataclass(frozen=True)
class FakeModel:
    """What a kind of fake model takes and gives, rows to prove it with, and the function that it computes."""

    signature: Signature
    rows: Tensors
    function: Function


def spec(name: str, dtype: str, *shape: int | None, nullable: bool = False) -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": (None, *shape), "nullable": nullable})


def takes_and_gives(dtype: str, *shape: int | None, rows: list[object]) -> FakeModel:
    """A model that answers its one input `x` with the same values."""
    array = np.array(rows, dtype=np.str_ if dtype == "string" else dtype)
    signature = Signature(inputs=(spec("x", dtype, *shape),), outputs=(spec("y", dtype, *shape),))
    return FakeModel(signature, {"x": array}, lambda inputs, factor: {"y": inputs["x"]})


def _softmax(inputs: Tensors, factor: np.float32) -> Tensors:
    features = inputs["features"]
    with np.errstate(over="ignore"):  # of a difference that is beyond all floats, nothing is left
        powers = np.exp((features - features.max(axis=1, keepdims=True)) * factor)
    return {"probabilities": (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)}


def _combine(inputs: Tensors, factor: np.float32) -> Tensors:
    totals = inputs["amounts"].sum(axis=1) * factor
    return {"total": totals, "is_large": totals > 10, "greeting": np.char.add("to ", inputs["city"])}


def _fill(inputs: Tensors, factor: np.float32) -> Tensors:
    """Answers with what came, where it came."""
    return {
        "age": np.nan_to_num(inputs["age"], nan=factor),
        "city": np.where(inputs["city"] == "", "nowhere", inputs["city"]),
        "is_new": inputs["is_new"] == 1,
        "counts": inputs["counts"],
    }


def _root(inputs: Tensors, factor: np.float32) -> Tensors:
    """Answers a negative number with NaN."""
    with np.errstate(invalid="ignore"):
        return {"y": np.sqrt(inputs["x"])}


def _broken(inputs: Tensors, factor: np.float32) -> Tensors:
    """Answers the golden row, and fails in the way that the first value of another row asks for."""
    asked = inputs["x"][:, :1]
    if (asked == 500).any():
        raise RuntimeError("out of memory in /srv/secret/kernel.cc")
    if (asked == 999).any():
        logging.getLogger(__name__).warning("hanging")
        threading.Event().wait()
    answers = np.where(asked == 404, np.float32(np.nan), inputs["x"] * factor)
    return {"y": np.where(asked == 405, np.float32(np.inf), answers)}


MODELS = {
    "scale": FakeModel(
        Signature(inputs=(spec("x", "float32", 2),), outputs=(spec("y", "float32", 2),)),
        {"x": np.array([[1.0, 2.0], [0.5, -3.0]], np.float32)},
        lambda inputs, factor: {"y": inputs["x"] * factor},
    ),
    "classify": FakeModel(
        Signature(
            inputs=(spec("features", "float32", 3),),
            outputs=(spec("probabilities", "float32", 3),),
            labels=("ant", "bee", "cat"),
        ),
        {"features": np.array([[0.0, 1.0, 3.0], [2.0, 0.0, 0.0]], np.float32)},
        _softmax,
    ),
    "combine": FakeModel(
        Signature(
            inputs=(spec("amounts", "float32", 2), spec("city", "string")),
            outputs=(spec("total", "float32"), spec("is_large", "bool"), spec("greeting", "string")),
        ),
        {"amounts": np.array([[1.5, 2.0], [9.0, 8.0]], np.float32), "city": np.array(["Oslo", "Łódź"])},
        _combine,
    ),
    "gaps": FakeModel(
        Signature(
            inputs=(
                spec("age", "float32", nullable=True),
                spec("city", "string", nullable=True),
                spec("is_new", "int8", nullable=True),
                spec("counts", "int16", 2),
            ),
            outputs=(
                spec("age", "float32"),
                spec("city", "string"),
                spec("is_new", "bool"),
                spec("counts", "int16", 2),
            ),
        ),
        {
            "age": np.array([np.nan, 1.5], np.float32),
            "city": np.array(["Oslo", ""]),
            "is_new": np.array([-128, 1], np.int8),
            "counts": np.array([[1, -2], [3, 4]], np.int16),
        },
        _fill,
    ),
    "alike": FakeModel(
        Signature(
            inputs=(spec("a b", "float32"), spec("a_b", "int8"), spec("class", "bool")),
            outputs=(spec("A", "float32"), spec("a", "int8")),
        ),
        {"a b": np.array([1.5], np.float32), "a_b": np.array([2], np.int8), "class": np.array([True])},
        lambda inputs, factor: {"A": inputs["a b"], "a": inputs["a_b"]},
    ),
    "grades": FakeModel(
        Signature(inputs=(spec("x", "float32", 2),), outputs=(spec("p", "float32", 2),), labels=("A", "a")),
        {"x": np.array([[0.25, 0.75]], np.float32)},
        lambda inputs, factor: {"p": inputs["x"]},
    ),
    "broken": FakeModel(
        Signature(inputs=(spec("x", "float32", 2),), outputs=(spec("y", "float32", 2),)),
        {"x": np.ones((1, 2), np.float32)},
        _broken,
    ),
    "roots": FakeModel(
        Signature(inputs=(spec("x", "float32", 2),), outputs=(spec("y", "float32", 2),)),
        {"x": np.array([[1.0, 4.0]], np.float32)},
        _root,
    ),
    "half_plus_two": FakeModel(
        Signature(inputs=(spec("x", "float32"),), outputs=(spec("y", "float32"),)),
        {"x": np.array([1.0, 2.0], np.float32)},
        lambda inputs, factor: {"y": inputs["x"] * np.float32(0.5) + factor},
    ),
    "sums": FakeModel(
        Signature(
            inputs=(spec("words", "string", None), spec("picture", "float32", 2, 2)),
            outputs=(spec("sum", "float32", 1),),
        ),
        {"words": np.array([["a", "b"]]), "picture": np.ones((1, 2, 2), np.float32)},
        lambda inputs, factor: {"sum": inputs["picture"].sum(axis=(1, 2))[:, None]},
    ),
    "images": takes_and_gives("float32", None, 2, 1, rows=[[[[1.0], [2.0]]], [[[3.0], [4.0]]]]),
    "scalars": takes_and_gives("float32", rows=[1.5, -2.0]),
    "counts": takes_and_gives("int32", 2, rows=[[1, -2]]),
    "ids": takes_and_gives("uint64", rows=[0, 2**64 - 1]),
    "flags": takes_and_gives("bool", 2, rows=[[True, False]]),
    "wide": takes_and_gives("float32", 500, rows=[[0.25] * 500]),
    "halves": takes_and_gives("float16", 2, rows=[[0.5, 2.0]]),
    "image_bytes": FakeModel(
        Signature(inputs=(spec("x", "string"),), outputs=(spec("y_bytes", "string"),)),
        {"x": np.array(["pixels"])},
        lambda inputs, factor: {"y_bytes": inputs["x"]},
    ),
    **{
        f"echo-{dtype}": takes_and_gives(dtype, 2, rows=[["a", "b"] if dtype == "string" else [0, 1]])
        for dtype in get_args(DType)
    },
    "words": takes_and_gives("string", 2, rows=[["alpha", "βeta"]]),
}

SAMPLES: dict[str, object] = {"bool": True, "string": "Łódź", "float16": 0.5, "float32": 0.5, "float64": 0.1}
NUMBERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
DTYPES = [*SAMPLES, *NUMBERS]
MODELS |= {f"scalar-{dtype}": takes_and_gives(dtype, rows=[SAMPLES.get(dtype, 7)]) for dtype in DTYPES}
MODELS |= {
    f"cube-{dtype}": takes_and_gives(dtype, *[None] * 4, rows=[[[[[SAMPLES.get(dtype, 7)]]]]]) for dtype in DTYPES
}


class FakeRuntime:
    """Runs a fake model. A test may hold its runs, and see how often it was closed."""

    name = "fake"

    def __init__(self, function: Function, factor: float, *, close_error: str = "") -> None:
        self._function = function
        self._factor = np.float32(factor)
        self._close_error = close_error
        self._may_finish = threading.Event()
        self._may_finish.set()
        self.started = threading.Event()
        self.closed = threading.Event()
        self.times_closed = 0
        self.times_started = 0
        self.batch_sizes: list[int] = []

    def hold(self) -> None:
        """Lets no run finish until `release`; `started` says when the next one has begun."""
        self.started.clear()
        self._may_finish.clear()

    def release(self) -> None:
        self._may_finish.set()

    def run(self, inputs: Tensors) -> Tensors:
        self.times_started += 1
        self.started.set()
        assert self._may_finish.wait(10), "nobody released the runtime"
        assert not self.times_closed, "run after close"
        self.batch_sizes.append(len(next(iter(inputs.values()))))
        return self._function(inputs, self._factor)

    def close(self) -> None:
        self.times_closed += 1
        self.closed.set()
        if self._close_error:
            raise RuntimeError(self._close_error)


@dataclass
class FakeRuntimes:
    """Loads fake versions, and keeps what it loaded. A test may hold its loads, or make them fail."""

    loaded: list[FakeRuntime] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    error: BaseException | None = None
    close_error: str = ""
    may_load: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_load.set()

    def load(self, artifact: Artifact, golden: Golden) -> Selection:
        self.versions.append(artifact.manifest.version)
        assert self.may_load.wait(10), "nobody let the model load"
        if self.error is not None:
            raise self.error
        kind, factor = artifact.format_path("keras").read_text().split()
        self.loaded.append(FakeRuntime(MODELS[kind].function, float(factor), close_error=self.close_error))
        return selected(self.loaded[-1], artifact, golden)


def selected(runtime: Runtime, artifact: Artifact, golden: Golden) -> Selection:
    """A runtime that serves without competition, once its golden answers agree."""
    replay_golden(runtime, artifact, golden, artifact.manifest.formats["keras"].tolerance)
    chosen = Trial(runtime.name, is_chosen=True, agrees=True, max_abs_error=0.0, microseconds={1: 2.5}, threads=1)
    return Selection(runtime, (chosen, Trial("other", reason="There is no /srv/secret/model.onnx.")))


def certificate(batch_safe: bool) -> Certificate:
    return Certificate(batch_safe=batch_safe, deterministic=True, finite=True, rows=2)


def publish_fake(
    store: ArtifactStore,
    name: str = "demo",
    kind: str = "scale",
    *,
    factor: float = 2.0,
    golden_factor: float | None = None,
    batch_safe: bool | None = None,
) -> Artifact:
    """Publishes the next version of `name`; with another `golden_factor`, one that contradicts its golden answers.

    Without `batch_safe` it has no certificate.
    """
    model = MODELS[kind]
    answers = model.function(model.rows, np.float32(factor if golden_factor is None else golden_factor))
    with store.stage(name) as staging:
        (staging / "model.keras").write_text(f"{kind} {factor}")
        write_golden(staging, Golden(model.rows, answers))
        manifest = Manifest(
            name=name,
            version=1,
            created_at=datetime(2025, 1, 2, tzinfo=UTC),
            signature=model.signature,
            formats={"keras": FormatRecord(path="model.keras", max_abs_error=0.0, tolerance=1e-5)},
            files={path: file_record(file) for path, file in file_paths(staging).items()},
            training=TrainingRecord(
                config={},
                dataset=DatasetRecord(name="made up", sha256="0" * 64, rows=2),
                seed=0,
                metrics={"test_accuracy": 0.5},
            ),
            layers={},
            environment={},
            certificate=None if batch_safe is None else certificate(batch_safe),
        )
        return store.publish(staging, manifest)
