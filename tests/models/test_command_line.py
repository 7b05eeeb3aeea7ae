"""The command line of all programs: flags over environment over defaults, one line for a mistake."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg, CliSubCommand

from models.command_line import Command, Names, Sizes, guarded, main, parse, program_config


class Greet(Command):
    """Says hello."""

    who: CliPositionalArg[str] = Field(description="Whom to greet.")
    num_times: int = Field(1, ge=1, description="How often.")
    layers: Names = Field((), description="Some modules.")
    sizes: Sizes = Field((1,), min_length=1, description="Some sizes.")
    is_loud: bool = Field(False, description="In capitals.")

    def run(self) -> int:
        """Greets."""
        print(*[f"Hello {self.who}"] * self.num_times, sep="\n")
        return 0


class Leave(Command):
    """Is told to end, in the middle of its work."""

    def run(self) -> int:
        """Leaves."""
        signal.raise_signal(signal.SIGTERM)
        return 0


class Program(BaseSettings):
    """Greets people."""

    model_config = program_config("python -m greeter")

    greet: CliSubCommand[Greet] = Field(description=Greet.__doc__)


class Other(BaseSettings):
    """Does not go on for long."""

    model_config = program_config("python -m other")

    leave: CliSubCommand[Leave] = Field(description=Leave.__doc__)


def greet(*arguments: str) -> Greet:
    command = parse(Program, ["greet", "you", *arguments]).greet
    assert command is not None
    return command


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LAYERSERVE_ARTIFACTS", "LAYERSERVE_LAYERS", "LAYERSERVE_NUM_TIMES"):
        monkeypatch.delenv(name, raising=False)


def test_command_runs_with_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(Program, ["greet", "you", "--num-times", "2"]) == 0
    assert capsys.readouterr().out == "Hello you\nHello you\n"


def test_artifacts_are_in_the_working_directory_by_default() -> None:
    assert greet().artifacts == Path("artifacts")


def test_environment_wins_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERSERVE_ARTIFACTS", "/srv/models")
    monkeypatch.setenv("LAYERSERVE_NUM_TIMES", "3")
    assert (greet().artifacts, greet().num_times) == (Path("/srv/models"), 3)


def test_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERSERVE_ARTIFACTS", "/srv/models")
    monkeypatch.setenv("LAYERSERVE_LAYERS", "a,b")
    command = greet("--artifacts", "here", "--layers", "c")
    assert (command.artifacts, command.layers) == (Path("here"), ("c",))


def test_setting_of_another_program_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERSERVE_PORT", "9000")
    assert greet().who == "you"


@pytest.mark.parametrize(
    ("flags", "layers"),
    [
        ([], ()),
        (["--layers", "a"], ("a",)),
        (["--layers", "a,b.c"], ("a", "b.c")),
        (["--layers", " a , b ,"], ("a", "b")),
        (["--layers", "a", "--layers", "b,c"], ("a", "b", "c")),
        (["--layers", ""], ()),
    ],
)
def test_names_come_repeated_or_with_commas(flags: list[str], layers: tuple[str, ...]) -> None:
    assert greet(*flags).layers == layers


def test_names_come_from_the_environment_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERSERVE_LAYERS", "a, b.c")
    assert greet().layers == ("a", "b.c")


@pytest.mark.parametrize("flags", [["--sizes", "4,3"], ["--sizes", "4", "--sizes", "3"]])
def test_sizes_come_repeated_or_with_commas(flags: list[str]) -> None:
    assert greet(*flags).sizes == (4, 3)


def test_sizes_come_from_the_environment_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERSERVE_SIZES", "4, 3")
    assert greet().sizes == (4, 3)


@pytest.mark.parametrize(("flags", "is_loud"), [([], False), (["--is-loud"], True), (["--no-is-loud"], False)])
def test_boolean_is_a_flag_of_its_own(flags: list[str], is_loud: bool) -> None:
    assert greet(*flags).is_loud is is_loud


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "CLI subcommand is required {greet}. Try python -m greeter --help."),
        (["greet"], "the following arguments are required: WHO. Try python -m greeter --help."),
        (["greet", "you", "--bogus"], "unrecognized arguments: --bogus. Try python -m greeter --help."),
        (["greet", "you", "me"], "unrecognized arguments: me. Try python -m greeter --help."),
        (["greet", "you", "--artifacts"], "argument --artifacts: expected one argument. Try python -m greeter --help."),
        (
            ["greet", "you", "--num-times", "0"],
            "`num_times`: Input should be greater than or equal to 1. Received: 0",
        ),
        (
            ["greet", "you", "--num-times", "x"],
            "`num_times`: Input should be a valid integer, unable to parse string as an integer. Received: x",
        ),
        (
            ["greet", "you", "--sizes", "4,x,y"],
            "`sizes`: Input should be a valid integer, unable to parse string as an integer. Received: x",
        ),
        (["greet", "you", "--sizes", "0"], "`sizes`: Input should be greater than 0. Received: 0"),
    ],
)
def test_wrong_option_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    try:
        code: object = main(Program, arguments)
    except SystemExit as error:
        code = error.code
    output = capsys.readouterr()
    assert (code, output.err, output.out) == (2, f"python -m greeter: {line}\n", "")


def test_wrong_environment_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERSERVE_NUM_TIMES", "often")
    with pytest.raises(SystemExit, match="2"):
        greet()
    assert capsys.readouterr().err.startswith("python -m greeter: `num_times`: Input should be a valid integer")


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["--help"], ["usage: python -m greeter", "Greets people.", "greet", "Says hello."]),
        (["greet", "--help"], ["WHO", "Whom to greet.", "--num-times", "How often. (default: 1)", "--artifacts"]),
    ],
)
def test_help_names_everything(capsys: pytest.CaptureFixture[str], arguments: list[str], texts: list[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(Program, arguments)
    output = capsys.readouterr().out
    assert [text for text in texts if text not in output] == []


def failing_with(error: BaseException) -> Callable[[], int]:
    def run() -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "output"),
    [
        (ValueError("No such thing."), 1, "program: No such thing.\n"),
        (FileNotFoundError(2, "No such file", "x"), 1, "program: [Errno 2] No such file: 'x'\n"),
        (ValueError("One.\n\n  Two.\n"), 1, "program: One. Two.\n"),
        (ValueError(), 1, "program: ValueError\n"),
        (KeyboardInterrupt(), 130, "\nprogram: interrupted.\n"),
    ],
)
def test_failure_is_one_line_without_a_traceback(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, output: str
) -> None:
    assert guarded(failing_with(error), prog="program") == code
    assert capsys.readouterr().err == output


def test_sigterm_ends_a_command_as_ctrl_c_does(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(Other, ["leave"]) == 143
    assert capsys.readouterr().err == "python -m other: ended by SIGTERM.\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_mistake_in_our_own_code_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError, match="ours"):
        guarded(failing_with(ZeroDivisionError("ours")), prog="program")


def test_exit_code_of_the_command_is_kept() -> None:
    assert guarded(lambda: 3, prog="program") == 3
