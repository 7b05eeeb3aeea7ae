"""Fresh Python processes: what they do rests on nothing that this process has imported, built or trained."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

_TIMEOUT_SECONDS = 900
_HASH_SEED = "20250417"


class ProofError(ValueError):
    """What was saved is not what was trained. The message says what differs."""


WITHOUT_KERAS = {"TF_USE_LEGACY_KERAS": "1"}
"""An environment in which TensorFlow does not import Keras, and with it all that Keras finds: half of its time."""


def run_module(module: str, *arguments: Path, environment: Mapping[str, str] = MappingProxyType({})) -> None:
    """Runs one of our modules in a fresh process, with another hash seed, so that nothing rests on set order.

    Its own temporary files are made in the folder of the first argument, which is the caller's to remove: a process
    that is killed removes nothing.

    Raises:
        ProofError: it fails or takes too long; the message ends with the last line it wrote.
    """
    root = str(Path(__file__).resolve().parent.parent)
    search_path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    _run(["-m", module, *map(str, arguments)], arguments[0].parent, {**environment, "PYTHONPATH": search_path})


def run_file(script: Path, *arguments: Path) -> None:
    """Runs a script in a fresh process in which neither our code nor Keras is found by accident.

    Its temporary files are those of `run_module`.

    Raises:
        ProofError: as `run_module`.
    """
    _run(["-P", str(script), *map(str, arguments)], arguments[0].parent, WITHOUT_KERAS)


def _run(arguments: list[str], folder: Path, environment: Mapping[str, str]) -> None:
    own = {"TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"), "TMPDIR": str(folder.resolve())}
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, **own, **environment, "PYTHONHASHSEED": _HASH_SEED},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProofError(f"A fresh process did not load the saved model within {_TIMEOUT_SECONDS} s.") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() if done.returncode > 0 else []
        raise ProofError(
            f"A fresh process failed on the saved model: {(lines or [f'exit code {done.returncode}'])[-1]}"
        )
