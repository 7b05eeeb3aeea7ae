"""TensorFlow's chatter stays off the terminal, unless it explains a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.quiet import quiet_import

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _default_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)


def test_what_is_written_inside_is_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_import():
        os.write(2, b"chatter\n")
    assert capfd.readouterr().err == ""


def test_what_is_written_afterwards_is_seen(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_import():
        pass
    os.write(2, b"a message\n")
    assert capfd.readouterr().err == "a message\n"


def test_failure_prints_what_was_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), quiet_import():
        sys.exit(os.write(2, b"the cause\n"))
    assert capfd.readouterr().err == "the cause\n"


def test_level_0_shows_everything(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with quiet_import():
        os.write(2, b"chatter\n")
    assert capfd.readouterr().err == "chatter\n"


def test_standard_output_is_untouched(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_import():
        os.write(1, b"a result\n")
    assert capfd.readouterr().out == "a result\n"


@pytest.mark.slow
def test_importing_keras_says_nothing() -> None:
    script = "from models.quiet import quiet_import\nwith quiet_import(): import keras"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
