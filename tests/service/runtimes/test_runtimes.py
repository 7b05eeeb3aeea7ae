"""What every runtime keeps to, on versions that the real export made."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.golden import compare
from models.manifest import Tensors, dtype_name
from models.store import ArtifactStore
from service.repository import ModelRepository
from service.runtimes import RUNTIMES, RuntimeUnavailableError, load, why_unavailable
from service.runtimes.selection import choose
from tests.service.runtimes.conftest import RUNS, Version

pytestmark = pytest.mark.slow
each_run = pytest.mark.parametrize(("name", "runtime"), RUNS)


def repeated(tensors: Tensors, rows: int) -> Tensors:
    return {name: values[np.arange(rows) % len(values)] for name, values in tensors.items()}


@each_run
def test_golden_rows_are_answered_under_the_signatures_names_and_dtypes(
    versions: dict[str, Version], name: str, runtime: str
) -> None:
    version = versions[name]
    answers = load(runtime, version.artifact).run(version.golden.inputs)
    assert compare(version.golden.outputs, answers).differences == ()
    promised = {spec.name: spec.dtype for spec in version.artifact.manifest.signature.outputs}
    assert {key: dtype_name(values) for key, values in answers.items()} == promised


@each_run
def test_batch_size_may_change_from_call_to_call(versions: dict[str, Version], name: str, runtime: str) -> None:
    golden, loaded = versions[name].golden, load(runtime, versions[name].artifact)
    for rows in (1, 7, 1, 1000, 2, 32):
        answers = loaded.run(repeated(golden.inputs, rows))
        assert compare(repeated(golden.outputs, rows), answers).differences == (), rows


@each_run
def test_arrays_need_not_be_contiguous(versions: dict[str, Version], name: str, runtime: str) -> None:
    golden = versions[name].golden
    inputs = {key: np.asfortranarray(values[::-1]) for key, values in repeated(golden.inputs, 6).items()}
    answers = load(runtime, versions[name].artifact).run(inputs)
    expected = {key: values[::-1] for key, values in repeated(golden.outputs, 6).items()}
    assert compare(expected, answers).differences == ()


@each_run
def test_answers_are_not_overwritten_by_the_next_call(versions: dict[str, Version], name: str, runtime: str) -> None:
    golden, loaded = versions[name].golden, load(runtime, versions[name].artifact)
    first, second = ({key: values[row : row + 1] for key, values in golden.inputs.items()} for row in (0, 1))
    answers = loaded.run(first)
    kept = {key: values.copy() for key, values in answers.items()}
    loaded.run(second)
    loaded.close()
    assert all(np.array_equal(answers[key], kept[key]) for key in kept)


@each_run
def test_many_threads_may_call_at_once(versions: dict[str, Version], name: str, runtime: str) -> None:
    golden, loaded = versions[name].golden, load(runtime, versions[name].artifact)

    def differences(call: int) -> tuple[str, ...]:
        rows = call % 5 + 1
        shifted = {key: np.roll(values, call, axis=0) for key, values in golden.inputs.items()}
        expected = {key: np.roll(values, call, axis=0) for key, values in golden.outputs.items()}
        return compare(repeated(expected, rows), loaded.run(repeated(shifted, rows))).differences

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(differences, range(200))) == {()}


@pytest.mark.parametrize("_attempt", range(4))
def test_first_calls_may_come_at_once(versions: dict[str, Version], _attempt: int) -> None:
    script = """if True:
        import sys, threading
        from pathlib import Path
        from models.golden import read_golden
        from models.store import ArtifactStore
        from service.runtimes import load

        folder = Path(sys.argv[1])
        artifact = ArtifactStore(folder.parent.parent).open("numbers", 1)
        runtime, inputs, ready = load("openvino", artifact), read_golden(artifact).inputs, threading.Barrier(8)
        threads = [threading.Thread(target=lambda: (ready.wait(), runtime.run(inputs))) for _ in range(8)]
        [thread.start() for thread in threads], [thread.join() for thread in threads]
    """
    # It hung in every second process.
    subprocess.run([sys.executable, "-c", script, versions["numbers"].artifact.path], check=True, timeout=120)


@each_run
def test_closed_runtime_runs_nothing(versions: dict[str, Version], name: str, runtime: str) -> None:
    loaded = load(runtime, versions[name].artifact)
    assert loaded.name == runtime
    loaded.close()
    loaded.close()
    with pytest.raises(RuntimeError, match=r"The runtime is closed\."):
        loaded.run(versions[name].golden.inputs)


@pytest.mark.parametrize("runtime", [runtime for name, runtime in RUNS if name == "numbers"])
def test_length_may_change_from_call_to_call(versions: dict[str, Version], runtime: str) -> None:
    version = versions["numbers"]
    loaded, reference = load(runtime, version.artifact), load("keras", version.artifact)
    for length in (1, 9, 2):
        series = np.random.default_rng(length).normal(size=(3, length, 2)).astype(np.float32)
        inputs = version.golden.inputs | {"series": series}
        assert compare(reference.run(inputs), loaded.run(inputs)).differences == ()


def test_bfloat16_answers_within_its_own_tolerance(versions: dict[str, Version]) -> None:
    version, tolerance = versions["numbers"], RUNTIMES["openvino-bf16"].tolerance
    assert tolerance is not None
    loaded = load("openvino-bf16", version.artifact)
    assert loaded.name == "openvino-bf16"
    assert compare(version.golden.outputs, loaded.run(version.golden.inputs), tolerance).differences == ()


@pytest.mark.parametrize("runtime", ["litert", "onnx"])
def test_shared_among_threads_inside_a_call_it_answers_the_same(versions: dict[str, Version], runtime: str) -> None:
    version = versions["numbers"]
    answers = load(runtime, version.artifact, threads=2).run(version.golden.inputs)
    assert compare(version.golden.outputs, answers).differences == ()


def test_format_that_is_not_there_is_named(versions: dict[str, Version]) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"has no format `litert`\. It has: keras, saved_model, onnx\."):
        load("litert", versions["small_numbers"].artifact)


def test_reason_why_a_format_was_left_out_is_given(versions: dict[str, Version]) -> None:
    artifact = versions["small_numbers"].artifact
    manifest = artifact.manifest.model_copy(update={"left_out": {"litert": "It has no float64."}})
    reason = why_unavailable("litert", replace(artifact, manifest=manifest))
    assert "no format `litert`, which was left out: It has no float64. It has: " in reason


def test_package_that_is_not_installed_is_named(versions: dict[str, Version], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNTIMES, "onnx", replace(RUNTIMES["onnx"], package="no_such_package"))
    with pytest.raises(RuntimeUnavailableError, match=r"no_such_package is not installed: pip install 'layerserve\[sl"):
        load("onnx", versions["numbers"].artifact)


def test_auto_serves_by_a_light_runtime_that_agrees(versions: dict[str, Version]) -> None:
    selection = choose(versions["numbers"].artifact, versions["numbers"].golden, "auto", ())
    trials = {trial.runtime: trial for trial in selection.trials}
    assert [name for name, trial in trials.items() if trial.agrees] == ["litert", "onnx", "openvino"]
    assert trials[selection.runtime.name].is_chosen
    assert trials["keras"].reason.startswith(f"Not tried: {selection.runtime.name} agrees")


def test_damaged_file_is_refused_before_any_runtime_reads_it(versions: dict[str, Version], tmp_path: Path) -> None:
    artifact = versions["numbers"].artifact
    store = ArtifactStore(tmp_path / "copy")
    copy = shutil.copytree(artifact.path, store.root / "numbers" / "1")
    content = bytearray((copy / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "model.onnx").write_bytes(content)
    repository = ModelRepository(store, lambda artifact, golden: choose(artifact, golden, "onnx", ()))
    repository.reconcile()
    assert "`model.onnx` is damaged" in repository.problem("numbers")


def test_onnx_runtime_writes_nothing_past_the_log(
    versions: dict[str, Version], capfd: pytest.CaptureFixture[str]
) -> None:
    version = versions["numbers"]
    loaded = load("onnx", version.artifact)
    with pytest.raises(Exception, match="Reshape node"):
        loaded.run(version.golden.inputs | {"series": np.ones((3, 0, 2), np.float32)})
    assert "Reshape node" not in capfd.readouterr().err
