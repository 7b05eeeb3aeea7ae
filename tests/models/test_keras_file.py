"""What a `.keras` file says of itself, and the files that are refused before Keras sees them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from models.keras_file import (
    KerasFileError,
    ObjectReference,
    config_differences,
    custom_objects_in,
    read_config,
)

CONFIG = {"module": "keras", "class_name": "Functional", "config": {"layers": []}, "registered_name": "Functional"}


def keras_file(
    folder: Path, config: Any = CONFIG, members: list[tuple[str, bytes]] | None = None, compression: int = 0
) -> Path:
    """Writes a file as Keras does, with `members` added, and gives its path."""
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", config if isinstance(config, bytes) else json.dumps(config))
        archive.writestr("model.weights.h5", b"weights")
        for name, content in members or []:
            archive.writestr(name, content)
    return path


def layer(module: str | None, class_name: str, registered_name: str | None, **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": class_name, "config": config, "registered_name": registered_name}


def function(name: str) -> dict[str, Any]:
    return {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}


def test_configuration_is_read(tmp_path: Path) -> None:
    assert read_config(keras_file(tmp_path)) == CONFIG


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (CONFIG, []),
        (layer("keras.layers", "Dense", None), []),
        (layer("keras.layers", "Dense", "Dense"), []),
        (layer("my.layers", "Norm", "mine>Norm"), [ObjectReference("my.layers", "Norm", "mine>Norm")]),
        (layer("my.layers", "Norm", "Norm"), [ObjectReference("my.layers", "Norm", "Norm")]),
        (layer(None, "Norm", "mine>Norm"), [ObjectReference(None, "Norm", "mine>Norm")]),
        (layer("keras.layers", "Dense", "mine>Trap"), [ObjectReference("keras.layers", "Dense", "mine>Trap")]),
        (layer("kerasx", "Dense", "Dense"), [ObjectReference("kerasx", "Dense", "Dense")]),
        (layer("my.layers", "Norm", None), [ObjectReference("my.layers", "Norm", "Norm")]),
        (function("mine>swish"), [ObjectReference(None, "function", "mine>swish")]),
        (function("swish"), [ObjectReference(None, "function", "swish")]),
        ({"class_name": "__tensor__", "config": {"value": [1], "dtype": "float32"}}, []),
        ({"layers": [], "units": 3}, []),
    ],
)
def test_custom_objects_are_those_that_are_not_keras_own(
    tmp_path: Path, config: dict[str, Any], expected: list[ObjectReference]
) -> None:
    assert custom_objects_in(keras_file(tmp_path, config)) == expected


def test_nested_objects_are_listed_once_in_order(tmp_path: Path) -> None:
    inner = layer("b", "B", "p>B", regularizer=layer("c", "C", "p>C"))
    config = layer("keras", "Functional", None, layers=[layer("a", "A", "p>A"), inner, layer("a", "A", "p>A")])
    found = custom_objects_in(keras_file(tmp_path, config))
    assert [reference.registered_name for reference in found] == ["p>A", "p>B", "p>C"]


def test_loss_of_the_training_is_not_needed(tmp_path: Path) -> None:
    path = keras_file(tmp_path, {**CONFIG, "compile_config": {"loss": function("mine>loss")}})
    assert custom_objects_in(path) == []


@pytest.mark.parametrize("name", ["assets/layer/words.txt", "assets/", "assets/a/b/c"])
def test_assets_are_allowed(tmp_path: Path, name: str) -> None:
    assert read_config(keras_file(tmp_path, members=[(name, b"")])) == CONFIG


@pytest.mark.parametrize(
    "name",
    [
        "evil.py",
        "../evil.py",
        "/etc/passwd",
        "assets/../evil.py",
        "assets/../../evil.py",
        "assets2/words.txt",
        "model.weights.json",
        "sub/config.json",
        "./config.json",
        "config.json/",
    ],
)
def test_strange_member_is_refused(tmp_path: Path, name: str) -> None:
    path = keras_file(tmp_path, members=[(name, b"x")])
    with pytest.raises(KerasFileError, match=r"^The .keras file holds a member that Keras never writes: "):
        read_config(path)


def test_member_without_a_name_is_refused(tmp_path: Path) -> None:
    path = keras_file(tmp_path, members=[("?evil", b"x")])
    path.write_bytes(path.read_bytes().replace(b"?evil", b"\0evil"))
    with pytest.raises(KerasFileError, match=r"^The .keras file holds a member that Keras never writes: ''.$"):
        read_config(path)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_member_that_appears_twice_is_refused(tmp_path: Path, name: str) -> None:
    path = keras_file(tmp_path, members=[(name, b"{}")])
    with pytest.raises(KerasFileError, match=r"^The .keras file holds a member twice.$"):
        read_config(path)


def test_zip_bomb_is_refused_without_unpacking(tmp_path: Path) -> None:
    path = keras_file(tmp_path, members=[("assets/zeros", bytes(65 * 2**20))], compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    with pytest.raises(KerasFileError, match=r"^The .keras file unpacks to far more than its size.$"):
        read_config(path)


def test_huge_configuration_is_refused(tmp_path: Path) -> None:
    config = b'{"padding": "' + b" " * (64 * 2**20) + b'"}'
    path = keras_file(tmp_path, config, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(KerasFileError, match=r"^The model's configuration is larger than 67108864 bytes.$"):
        read_config(path)


def test_compressed_file_of_the_usual_size_is_read(tmp_path: Path) -> None:
    path = keras_file(tmp_path, members=[("assets/zeros", bytes(2**20))], compression=zipfile.ZIP_DEFLATED)
    assert read_config(path) == CONFIG


@pytest.mark.parametrize("kept", [0, 1, 10, 0.5, -1])
def test_truncated_file_is_refused(tmp_path: Path, kept: float) -> None:
    path = keras_file(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept == 0.5 else int(kept)])
    with pytest.raises(KerasFileError, match=r"^`model.keras` is not a whole .keras file: "):
        read_config(path)


def test_file_without_a_configuration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
    with pytest.raises(KerasFileError, match=r"^`model.keras` is not a whole .keras file: .*config.json"):
        read_config(path)


@pytest.mark.parametrize(
    "config",
    [b"", b"{", b"\xff\xfe{}", b"[" * 100_000, b'{"a": ' * 100_000, b"[" + b"1" * 5000 + b"]"],
    ids=["empty", "cut", "no text", "deep list", "deep object", "long number"],
)
def test_configuration_that_is_no_json_is_refused(tmp_path: Path, config: bytes) -> None:
    path = keras_file(tmp_path, config)
    with pytest.raises(KerasFileError, match=r"^`model.keras` is not a whole .keras file: "):
        read_config(path)


@pytest.mark.parametrize("config", [b"[]", b"null", b"1", b'"config"'])
def test_configuration_that_is_no_object_is_refused(tmp_path: Path, config: bytes) -> None:
    with pytest.raises(KerasFileError, match=r"^`model.keras` holds no model configuration.$"):
        read_config(keras_file(tmp_path, config))


def test_flipped_byte_in_the_configuration_is_refused(tmp_path: Path) -> None:
    path = keras_file(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"Functional", b"Functionam", 1))
    with pytest.raises(KerasFileError, match=r"Bad CRC-32"):
        read_config(path)


@pytest.mark.parametrize(
    ("offset", "value"), [(8, b"\x01\x00"), (10, b"\x63\x00")], ids=["encrypted", "unknown compression"]
)
def test_member_that_cannot_be_unpacked_is_refused(tmp_path: Path, offset: int, value: bytes) -> None:
    path = keras_file(tmp_path)
    content = bytearray(path.read_bytes())
    entry = content.index(b"config.json", content.index(b"PK\x01\x02")) - 46  # in the central directory
    content[entry + offset : entry + offset + 2] = value
    path.write_bytes(content)
    with pytest.raises(KerasFileError, match=r"^`model.keras` is not a whole .keras file: "):
        read_config(path)


def test_broken_compression_is_refused(tmp_path: Path) -> None:
    path = keras_file(tmp_path, compression=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    start = content.index(b"config.json") + len("config.json")
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(KerasFileError, match=r"^`model.keras` is not a whole .keras file: Error -3"):
        read_config(path)


def layers(*items: dict[str, Any]) -> dict[str, Any]:
    return {"name": "model", "layers": list(items)}


@pytest.mark.parametrize(
    ("expected", "found", "line"),
    [
        ({"name": "a"}, {"name": "b"}, "`c.name` is 'b' instead of 'a'"),
        (
            layers({"config": {"name": "norm", "axis": [1, 2]}}),
            layers({"config": {"name": "norm", "axis": [1, 3]}}),
            "`c.layers[0].config.axis[1]` of `norm` is 3 instead of 2",
        ),
        (
            layers({"name": "block", "config": layers({"name": "inner", "n": 1})}),
            layers({"name": "block", "config": layers({"name": "inner", "n": 2})}),
            "`c.layers[0].config.layers[0].n` of `inner` is 2 instead of 1",
        ),
        (layers({"name": "old"}), layers({"name": "new"}), "`c.layers[0].name` of `old` is 'new' instead of 'old'"),
        (layers({"config": {"n": 1}}), layers({"config": {"n": 2}}), "`c.layers[0].config.n` is 2 instead of 1"),
        (layers({"name": 1}), layers({"name": 2}), "`c.layers[0].name` is 2 instead of 1"),
        ({"n": [1, 2]}, {"n": [1]}, "`c.n` is [1] instead of [1, 2]"),
    ],
)
def test_difference_is_told_with_its_place_and_layer(expected: Any, found: Any, line: str) -> None:
    assert list(config_differences(expected, found, "c")) == [line]
    assert list(config_differences(expected, expected, "c")) == []
