"""A second Python that reloads saved models: started once, kept warm, replaced when it dies.

It knows nothing but the files and the modules it is told to import, and it hashes strings differently, so whatever a
layer keeps elsewhere is missing there.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.checks.tensors import Array, storable

TIMEOUT_SECONDS = 120.0
HASH_SEED = 4242
CHECKED_ON_IMPORT = 'The script checks layers while it is imported. Put the check below `if __name__ == "__main__":`.'
_MARK = "LAYERSERVE_FRESH_PROCESS"
_PROJECT = Path(__file__).resolve().parents[2]


class FreshProcessError(Exception):
    """The fresh process could not load or run the model; the message is what it said."""


@dataclass(frozen=True)
class Source:
    """Where the fresh process finds the classes: modules by name, with their file where there is one."""

    modules: dict[str, str | None]
    classes: list[str]


@dataclass(frozen=True)
class Reloaded:
    """What the fresh process found in a saved model."""

    outputs: list[Array]
    weights: list[Array]
    paths: list[str]
    trainable: list[bool]
    losses: list[float]


class FreshProcess:
    """A kept-warm child process that reloads models. One request at a time; any thread may ask."""

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS, hash_seed: int = HASH_SEED) -> None:
        self._timeout_seconds = timeout_seconds
        self._hash_seed = hash_seed
        self._process: subprocess.Popen[str] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Starts the process if it isn't running, without waiting for it.

        Raises:
            FreshProcessError: called by a script that a fresh process is importing.
        """
        if os.environ.get(_MARK):
            raise FreshProcessError(CHECKED_ON_IMPORT)
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._answers = queue.Queue()
        # For the temporary files of TensorFlow and Keras, which a process that is killed leaves behind.
        self._folder = tempfile.TemporaryDirectory(prefix="layerserve-check-", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "models.checks.reload_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**_environment(self._hash_seed), "TMPDIR": self._folder.name},
        )
        threading.Thread(target=_read_lines, args=(self._process, self._answers), daemon=True).start()

    def reload(self, model: Any, inputs: list[Array], source: Source) -> Reloaded:
        """Saves the model, loads it in the fresh process and runs it there.

        Raises:
            FreshProcessError: saving, importing, loading or running failed, or took longer than the timeout.
        """
        with self._lock, tempfile.TemporaryDirectory(prefix="layerserve-check-") as name:
            directory = Path(name)
            _save(model, inputs, directory)
            found = self._ask(
                {
                    "directory": name,
                    "modules": source.modules,
                    "classes": source.classes,
                    "sys_path": [entry for entry in sys.path if entry],
                }
            )
            return _read(directory, found)

    def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout) if process is not None else ():
            if stream is not None:
                stream.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self.start()
        assert self._process is not None and self._process.stdin is not None  # noqa: S101, PT018 -- start() saw to it
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=self._timeout_seconds)
        except (OSError, queue.Empty) as error:
            self.close()
            raise FreshProcessError(f"no answer within {self._timeout_seconds:.0f} s") from error
        if not line:
            self.close()
            raise FreshProcessError("the process ended while it loaded or ran the model")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise FreshProcessError(answer["error"])
        return answer


@functools.cache
def shared_process(hash_seed: int = HASH_SEED) -> FreshProcess:
    """The one fresh process of this program with a hash seed, ended with the program."""
    process = FreshProcess(hash_seed=hash_seed)
    atexit.register(process.close)
    return process


def _environment(hash_seed: int) -> dict[str, str]:
    # Never the seed of this process, where that is fixed.
    seed = hash_seed + 1 if os.environ.get("PYTHONHASHSEED") == str(hash_seed) else hash_seed
    paths = [str(_PROJECT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        _MARK: "1",
        "PYTHONHASHSEED": str(seed),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONWARNINGS": "ignore",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def _read_lines(process: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
    """Hands on each line, and an empty one at the end."""
    assert process.stdout is not None  # noqa: S101 -- opened as a pipe
    try:
        for line in process.stdout:
            answers.put(line)
    except ValueError:  # closed while reading
        pass
    answers.put("")


def _save(model: Any, inputs: list[Array], directory: Path) -> None:
    try:
        model.save(directory / "model.keras")
    except Exception as error:  # a user's get_config may raise anything
        raise FreshProcessError(f"model.save() raised {type(error).__name__}: {error}") from error
    named = {str(index): storable(array) for index, array in enumerate(inputs)}
    np.savez(directory / "inputs.npz", **named)  # type: ignore[arg-type]  # names, not allow_pickle


def _read(directory: Path, found: dict[str, Any]) -> Reloaded:
    with np.load(directory / "results.npz", allow_pickle=False) as stored:
        return Reloaded(
            outputs=[stored[f"output_{index}"] for index in range(found["num_outputs"])],
            weights=[stored[f"weight_{index}"] for index in range(len(found["weights"]))],
            paths=found["weights"],
            trainable=found["trainable"],
            losses=found["losses"],
        )
