from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.command_line import parse
from service.settings import Settings

SWITCHES = {name for name, field in Settings.model_fields.items() if field.annotation is bool}


def test_defaults_suit_a_laptop() -> None:
    settings = parse(Settings, [])
    assert (settings.host, settings.port, settings.artifacts) == ("127.0.0.1", 8000, Path("artifacts"))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("artifacts", "elsewhere", Path("elsewhere")),
        ("layers", "my.layers, yours", ("my.layers", "yours")),
        ("runtime", "onnx,churn=litert", "onnx,churn=litert"),
        ("versions", "latest,churn=3", "latest,churn=3"),
        ("labels", "digits@stable=3", "digits@stable=3"),
        ("default_model", "digits", "digits"),
        ("host", "0.0.0.0", "0.0.0.0"),
        ("port", "9000", 9000),
        ("grpc_port", "9001", 9001),
        ("reload_interval", "0.5", 0.5),
        ("max_body_bytes", "1000", 1000),
        ("max_header_bytes", "2000", 2000),
        ("keep_alive_timeout", "5", 5.0),
        ("client_timeout", "2.5", 2.5),
        ("tls_certificate", "chain.pem", Path("chain.pem")),
        ("tls_key", "key.pem", Path("key.pem")),
        ("max_batch_size", "8", 8),
        ("max_queue_size", "100", 100),
        ("max_queue_delay_ms", "1.5", 1.5),
        ("request_timeout", "2", 2.0),
        ("max_rows", "10", 10),
        ("max_elements", "100", 100),
        ("max_connections", "5", 5),
        ("workers", "4", 4),
        ("drain_delay", "5", 5.0),
        ("drain_timeout", "30", 30.0),
        ("log_level", "debug", "debug"),
        ("log_format", "json", "json"),
    ],
)
def test_every_setting_comes_from_the_environment_or_a_flag(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    from_flag = parse(Settings, [f"--{name.replace('_', '-')}", *([] if value is True else [text])])
    monkeypatch.setenv(f"LAYERSERVE_{name.upper()}", text)
    from_environment = parse(Settings, [])
    assert (getattr(from_flag, name), getattr(from_environment, name)) == (value, value)


def test_table_above_names_every_setting() -> None:
    marks = test_every_setting_comes_from_the_environment_or_a_flag.pytestmark
    assert {row[0] for row in marks[0].args[1]} == set(Settings.model_fields) - SWITCHES


@pytest.mark.parametrize("name", sorted(SWITCHES))
def test_switch_is_a_flag_or_a_word_in_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    flag = name.replace("_", "-")
    values = [getattr(parse(Settings, [argument]), name) for argument in (f"--{flag}", f"--no-{flag}")]
    for word in ("true", "false"):
        monkeypatch.setenv(f"LAYERSERVE_{name.upper()}", word)
        values.append(getattr(parse(Settings, []), name))
    assert values == [True, False, True, False]


def test_models_are_not_loaded_by_request_in_several_processes() -> None:
    with pytest.raises(ValidationError, match="`control_api` needs a single process"):
        Settings(control_api=True, workers=2)


def test_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERSERVE_PORT", "9000")
    assert parse(Settings, ["--port", "9001"]).port == 9001


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", ("auto", "auto")),
        ("onnx", ("onnx", "onnx")),
        ("churn=litert", ("litert", "auto")),
        ("onnx, churn = openvino-bf16", ("openvino-bf16", "onnx")),
        ("churn=auto,onnx", ("auto", "onnx")),
    ],
)
def test_runtime_is_for_all_models_or_for_one(text: str, expected: tuple[str, str]) -> None:
    settings = parse(Settings, ["--runtime", text])
    assert (settings.runtime_of("churn"), settings.runtime_of("digits")) == expected


@pytest.mark.parametrize(
    "text", ["tensorflow", "", "onnx,litert", "churn=onnx,churn=litert", "=onnx", "churn=", "churn"]
)
def test_runtime_that_does_not_exist_or_comes_twice_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(Settings, ["--runtime", text])
    choices = "auto, litert, onnx, openvino, openvino-bf16, keras, saved_model"
    assert capsys.readouterr().err == (
        f"python -m service: `runtime` must be one of {choices}, for single models too: auto,churn=onnx. "
        f"Received: {text}\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latest", (0, 0)),
        ("all", (sys.maxsize, sys.maxsize)),
        ("2", (2, 2)),
        ("churn=all", (sys.maxsize, 0)),
        ("latest, churn = 3", (3, 0)),
        ("churn=latest,5", (0, 5)),
    ],
)
def test_versions_are_for_all_models_or_for_one(text: str, expected: tuple[int, int]) -> None:
    settings = parse(Settings, ["--versions", text])
    assert (settings.newest_of("churn"), settings.newest_of("digits")) == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "newest", "all,latest", "churn=1,churn=2", "=all", "1000000"])
def test_versions_that_cannot_be_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(Settings, [f"--versions={text}"])
    assert capsys.readouterr().err == (
        "python -m service: `versions` must be latest, all or a number from 1 to 999999, "
        f"for single models too: latest,churn=3. Received: {text}\n"
    )


def test_layers_may_be_given_repeatedly() -> None:
    assert parse(Settings, ["--layers", "a", "--layers", "b"]).layers == ("a", "b")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "65536"], "`port`: Input should be less than or equal to 65535. Received: 65536"),
        (["--port", "http"], "`port`: Input should be a valid integer"),
        (["--reload-interval", "0"], "`reload_interval`: Input should be greater than 0. Received: 0"),
        (["--reload-interval", "nan"], "`reload_interval`: Input should be"),
        (["--drain-delay", "inf"], "`drain_delay`: Input should be less than or equal to 3600. Received: inf"),
        (["--drain-timeout", "inf"], "`drain_timeout`: Input should be less than or equal to 3600. Received: inf"),
        (["--default-model", "../etc"], "A name is at most 100 letters"),
        (["--log-level", "loud"], "`log_level`: Input should be 'debug', 'info', 'warning' or 'error'"),
        (["--prot", "9000"], "unrecognized arguments: --prot 9000. Try python -m service --help."),
    ],
)
def test_mistake_is_one_line_and_exit_2(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(Settings, arguments)
    lines = capsys.readouterr().err.splitlines()
    assert (caught.value.code, len(lines)) == (2, 1)
    assert lines[0].startswith(f"python -m service: {words}")


def test_help_describes_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(Settings, ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    assert [name for name in Settings.model_fields if f"--{name.replace('_', '-')}" not in text] == []
    assert [f.description for f in Settings.model_fields.values() if str(f.description).split(".")[0] not in text] == []


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="Instance is frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_labels_are_those_of_each_model() -> None:
    settings = parse(Settings, ["--labels", "digits@stable=3, digits@canary=4,churn@stable=1"])
    assert settings.labels_of("digits") == {"stable": 3, "canary": 4}
    assert settings.labels_of("churn") == {"stable": 1}
    assert settings.labels_of("other") == {}


@pytest.mark.parametrize("text", ["stable=3", "a@b", "a@b=0", "a@b=x", "a@7=1", "a@b=1,a@b=2", "@b=1", "a@b@c=1"])
def test_labels_that_cannot_be_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(Settings, [f"--labels={text}"])
    assert capsys.readouterr().err == (
        "python -m service: `labels` must give each label of a model one version from 1 to 999999: "
        f"digits@stable=3,digits@canary=4. Received: {text.rsplit(',', maxsplit=1)[-1]}\n"
    )


def test_grpc_takes_another_port_than_http(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(Settings, ["--port", "9000", "--grpc-port", "9000"])
    message = "`grpc_port` must be another port than that of HTTP. Received: 9000 for both."
    assert capsys.readouterr().err == f"python -m service: {message}\n"
