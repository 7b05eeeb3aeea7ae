"""Requests to the digits model, and what each of its versions answers to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.golden import read_golden
from models.store import ArtifactStore

NAME = "digits"
ROWS = 32
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Answers:
    """Random rows, `(32, 64)`, and each version's answers to them, `(32, 10)`, known apart from the service."""

    input_name: str
    inputs: list[list[float]]
    expected: dict[int, np.ndarray]

    def problem(self, rows: list[int], version: int, found: np.ndarray) -> str:
        """What is wrong with an answer to some of the rows by a version; empty where it is right."""
        if version not in self.expected:
            return f"version {version} answers, which is none that may serve"
        if found.shape != (len(rows), 10):
            return f"{len(rows)} rows have an answer of shape {found.shape}"
        matches = [each for each, known in self.expected.items() if np.abs(known[rows] - found).max() <= TOLERANCE]
        return "" if matches == [version] else f"version {version} gives the answer of {matches or 'none'}"


def known_answers(store: ArtifactStore) -> Answers:
    """Of versions 1 and 2.

    Raises:
        SystemExit: they answer too much alike to tell them apart.
    """
    inputs = np.random.default_rng(0).integers(0, 17, size=(ROWS, 64)).tolist()
    expected = {version: _by_onnx(store, version, inputs) for version in (1, 2)}
    if np.abs(expected[1] - expected[2]).max(axis=1).min() < 100 * TOLERANCE:
        raise SystemExit("The two versions answer too much alike to tell them apart.")
    (spec,) = store.open(NAME, 1).manifest.signature.inputs
    return Answers(spec.name, inputs, expected)


def _by_onnx(store: ArtifactStore, version: int, inputs: list[list[float]]) -> np.ndarray:
    """By ONNX Runtime's own API; the golden answers show that it may be believed."""
    import onnxruntime  # noqa: PLC0415 - only those who compare answers need it

    artifact = store.open(NAME, version)
    name = artifact.manifest.signature.inputs[0].name
    session = onnxruntime.InferenceSession(artifact.format_path("onnx"), providers=["CPUExecutionProvider"])
    golden = read_golden(artifact)
    (answers,) = session.run(None, {name: golden.inputs[name]})
    np.testing.assert_allclose(answers, next(iter(golden.outputs.values())), atol=TOLERANCE)
    (answers,) = session.run(None, {name: np.array(inputs, dtype=np.float32)})
    return np.asarray(answers)
