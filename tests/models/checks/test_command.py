"""`python -m models check`: what it prints, and its exit codes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import keras
import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliApp, CliSubCommand, SettingsConfigDict

from models.check_options import Check, parse_shape
from models.checks import CheckReport, CheckResult
from models.checks.command import run_check
from models.checks.render import render, wants_color
from tests.models.checks import reloaded_layers as layers

MODULE = layers.__name__
SOUND = CheckResult("check_one", "passed")
BROKEN = CheckResult("check_two", "failed", "it is broken", "mend it")
SKIPPED = CheckResult("check_three", "skipped", "nothing to see")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Program(BaseSettings):
    """A program with our command, as `python -m models` has it."""

    model_config = SettingsConfigDict(cli_kebab_case=True, cli_implicit_flags=True)

    check: CliSubCommand[Check]


def run(options: Check) -> tuple[int, str]:
    out = io.StringIO()
    return run_check(options, out), out.getvalue()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.keras"
    inputs = keras.Input((6,))
    keras.Model(inputs, layers.Doubling()(layers.NameOrdered()(inputs))).save(path)
    return path


@pytest.mark.slow
def test_sound_layer_ends_with_0() -> None:
    code, text = run(Check(target=f"{MODULE}:Doubling", shape="6"))
    assert code == 0
    assert "1 layer checked: every rule holds" in text


@pytest.mark.slow
def test_broken_layer_ends_with_1_and_the_mend() -> None:
    code, text = run(Check(target=f"{MODULE}:ForgetsPenalty", shape="6", config='{"regularizer": "l2"}'))
    assert code == 1
    assert "BROKEN  check_config_is_complete" in text
    assert "Mend: Add the argument" in text


@pytest.mark.slow
def test_json_holds_one_entry_a_rule() -> None:
    code, text = run(Check(target=f"{MODULE}:Doubling", shape="6", as_json=True))
    report = json.loads(text)
    assert (code, report["passed"], report["layers"][0]["layer"]) == (0, True, "Doubling")
    assert report["layers"][0]["rules"][0] == {
        "rule": "check_can_be_called",
        "status": "passed",
        "message": "",
        "fix": "",
    }


@pytest.mark.slow
def test_every_layer_of_a_file_is_checked_and_the_model(saved: Path) -> None:
    _, text = run(Check(target=str(saved), layers=(MODULE,), as_json=True))
    assert [layer["layer"] for layer in json.loads(text)["layers"]] == ["NameOrdered", "Doubling", "Functional"]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("no.such.module:Layer", "`no.such.module` can't be imported"),
        (f"{MODULE}:Nothing", "has no layer class `Nothing`"),
        (f"{MODULE}:Holder", "has no layer class `Holder`"),
        (f"{MODULE}:Backbone", "Backbone(**{}) raised TypeError"),
    ],
)
def test_wrong_target_ends_with_2_and_one_line(target: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_check(Check(target=target, shape="6")) == 2
    text = capsys.readouterr().err
    assert words in text
    assert len(text.splitlines()) == 1


def test_missing_file_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_check(Check(target="nowhere/model.keras")) == 2
    assert "does not exist" in capsys.readouterr().err


def test_file_whose_layers_are_unknown_says_how_to_name_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(b"not a model")
    assert run_check(Check(target=str(path))) == 2
    assert "--layers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"target": "a:B"}, "`shape` must be given"),
        ({"target": "justaname", "shape": "3"}, "`target` must be"),
        ({"target": "a:B", "shape": "3,x"}, "`shape` must hold positive integers"),
        ({"target": "a:B", "shape": "-3"}, "`shape` must hold positive integers"),
        ({"target": "a:B", "shape": "3", "config": "[1]"}, "`config` must be a JSON object"),
        ({"target": "a:B", "shape": "3", "config": "{"}, "`config` must be JSON"),
        ({"target": "m.keras", "shape": "3"}, "a file says its own"),
    ],
)
def test_wrong_option_is_refused_by_name(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Check(**wrong)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("32,16", (32, 16)),
        ("8", (8,)),
        ("None,4", (None, 4)),
        ("[[3, 4], [5]]", [[3, 4], [5]]),
        ('{"a": [3]}', {"a": [3]}),
    ],
)
def test_shape_is_read(text: str, shape: Any) -> None:
    assert parse_shape(text) == shape


def test_flags_reach_the_options() -> None:
    program = CliApp.run(Program, cli_args=["check", "my.module:MyLayer", "--shape", "32,16", "--json", "--mask"])
    assert program.check.as_json
    assert program.check.mask
    assert program.check.target == "my.module:MyLayer"


def test_table_shows_the_fault_and_its_mend() -> None:
    text = render([CheckReport("MyLayer", (SOUND, BROKEN, SKIPPED), 1.5)])
    assert "MyLayer  1 passed, 1 failed, 1 skipped, 1.5 s" in text
    assert "it is broken\n          Mend: mend it" in text
    assert "check_three  nothing to see" in text
    assert "\x1b[" not in text


def test_color_is_for_terminals_and_respects_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert wants_color(Terminal())
    assert not wants_color(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_color(Terminal())
    assert "\x1b[31;1mBROKEN" in render([CheckReport("MyLayer", (BROKEN,))], color=True)
