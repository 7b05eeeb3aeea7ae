"""One command line for all our programs: a pydantic class is the flags, the environment and the help.

A flag wins over `LAYERSERVE_<NAME>` in the environment, which wins over the default. What is wrong is said in one line
a field, and the program ends with 2; a command that fails says why in one line and ends with 1.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BeforeValidator, Field, PositiveInt, ValidationError
from pydantic_settings import BaseSettings, CliApp, NoDecode, SettingsConfigDict, SettingsError, get_subcommand

ENV_PREFIX = "LAYERSERVE_"

Program = TypeVar("Program", bound=BaseSettings)


def split(value: Any) -> Any:
    """A text with commas as a list, for a field that may also be given repeatedly."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split)]
"""Several names: a flag given several times, or one text with commas."""

Sizes = Annotated[tuple[PositiveInt, ...], NoDecode, BeforeValidator(split)]
"""Several whole numbers from 1, given as `Names` are."""


class Command(BaseSettings):
    """What every command takes."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid")

    artifacts: Path = Field(Path("artifacts"), description="Folder of the published versions.")

    def run(self) -> int:
        """Does the work and gives the exit code."""
        raise NotImplementedError


def program_config(prog: str) -> SettingsConfigDict:
    """The settings of a program's root class: `--kebab-case` flags, booleans as `--flag` and `--no-flag`."""
    return SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        cli_prog_name=prog,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        frozen=True,
    )


def parse(program: type[Program], arguments: Sequence[str] | None = None) -> Program:
    """Reads flags and environment into `program`; prints one line a mistake and exits with 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    prog = program.model_config.get("cli_prog_name") or "program"
    try:
        return CliApp.run(program, cli_args=given, cli_exit_on_error=False)
    except ValidationError as error:
        for line in _mistakes(error):
            print(f"{prog}: {line}", file=sys.stderr)
    except SettingsError as error:
        print(f"{prog}: {_first_line(error)}. Try {prog} --help.", file=sys.stderr)
    raise SystemExit(2)


def main(program: type[BaseSettings], arguments: Sequence[str] | None = None) -> int:
    """Runs the subcommand that the arguments name."""
    options = parse(program, arguments)
    prog = program.model_config.get("cli_prog_name")
    try:
        command = get_subcommand(options, cli_exit_on_error=False)
    except SettingsError as error:
        print(f"{prog}: {_first_line(error)}. Try {prog} --help.", file=sys.stderr)
        return 2
    assert isinstance(command, Command)  # noqa: S101 - each subcommand is declared as one
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        return guarded(command.run, prog=str(prog))
    finally:
        signal.signal(signal.SIGTERM, before)


def guarded(run: Callable[[], int], *, prog: str) -> int:
    """Runs a command; the mistakes that a user can mend end in one line, not in a traceback."""
    try:
        return run()
    except (ValueError, OSError) as error:
        logging.getLogger(__name__).debug("The command failed", exc_info=True)
        print(f"{prog}: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 1
    except _Terminated:
        print(f"{prog}: ended by SIGTERM.", file=sys.stderr)
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        print(f"\n{prog}: interrupted.", file=sys.stderr)
        return 128 + signal.SIGINT


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: it removes what it has begun, or keeps what it can go on with."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - Python's signature
    raise _Terminated


def _mistakes(error: ValidationError) -> list[str]:
    """One line a field, the first of its mistakes; an item of a list counts as its field."""
    lines: dict[str, str] = {}
    for item in error.errors():
        field = next((part for part in reversed(item["loc"]) if isinstance(part, str)), None)
        line = f"`{field}`: {item['msg']}. Received: {item['input']}" if field else item["msg"]
        if item["type"] == "value_error":  # a validator of ours, whose message says it all
            line = item["msg"].removeprefix("Value error, ")
        lines.setdefault(field or item["msg"], line)
    return list(lines.values())


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].removeprefix("error parsing CLI: ").removeprefix("Error: ").rstrip(".")
