"""Which custom objects a process knows: registered ones, and those of the modules that the operator names."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import keras
import pytest

from models import layers, registry

WriteModule = Callable[[str, str], None]

UNREGISTERED = """
import keras

class {name}(keras.layers.Layer):
    def call(self, x):
        return x * 2
"""

REGISTERED = """
import keras

@keras.saving.register_keras_serializable(package="plugins")
class {name}(keras.layers.Layer):
    def call(self, x):
        return x * 3
"""


def test_our_layers_are_registered_under_our_package() -> None:
    assert registry.find("layerserve>Dense") is layers.Dense
    assert keras.saving.get_registered_object("layerserve>LayerNorm") is layers.LayerNorm


def test_our_layers_are_custom_objects_too() -> None:
    assert registry.custom_objects()["layerserve>Dense"] is layers.Dense


def test_custom_objects_are_a_copy() -> None:
    registry.custom_objects().clear()
    assert "layerserve>Dense" in registry.custom_objects()


def test_unknown_name_is_not_found() -> None:
    assert registry.find("nobody>Nothing") is None


def test_registering_keeps_the_class() -> None:
    class KeptLayer(keras.layers.Layer):
        pass

    assert registry.register_layer(KeptLayer) is KeptLayer
    assert keras.saving.get_registered_name(KeptLayer) == "layerserve>KeptLayer"


def test_same_class_may_be_registered_again() -> None:
    assert registry.register_layer(layers.Dense) is layers.Dense


def test_duplicate_registration_is_refused() -> None:
    stranger = type("Dense", (keras.layers.Layer,), {"__module__": "elsewhere"})
    message = (
        r"^`layerserve>Dense` is already registered by models.layers.dense.Dense. Received: elsewhere.Dense. "
        r"Rename one of the two classes.$"
    )
    with pytest.raises(ValueError, match=message):
        registry.register_layer(stranger)
    assert registry.find("layerserve>Dense") is layers.Dense


def test_unregistered_class_of_a_plugin_is_a_custom_object_only(write_module: WriteModule) -> None:
    write_module("plain_plugin", UNREGISTERED.format(name="PlainPlugin"))
    registry.load_plugins(["plain_plugin"])
    assert registry.custom_objects()["PlainPlugin"].__module__ == "plain_plugin"
    assert keras.saving.get_registered_object("PlainPlugin") is None
    assert registry.find("PlainPlugin") is registry.custom_objects()["PlainPlugin"]


def test_registered_class_needs_no_custom_objects(write_module: WriteModule) -> None:
    write_module("registering_module", REGISTERED.format(name="Registering"))
    module = importlib.import_module("registering_module")
    assert "plugins>Registering" not in registry.custom_objects()
    assert registry.find("plugins>Registering") is module.Registering


def test_registered_class_of_a_plugin_is_found_both_ways(write_module: WriteModule) -> None:
    write_module("registered_plugin", REGISTERED.format(name="RegisteredPlugin"))
    registry.load_plugins(["registered_plugin"])
    found = registry.custom_objects()["plugins>RegisteredPlugin"]
    assert keras.saving.get_registered_object("plugins>RegisteredPlugin") is found


def test_plugin_may_define_functions(write_module: WriteModule) -> None:
    write_module("function_plugin", "def triple(x):\n    return 3 * x\n")
    registry.load_plugins(["function_plugin"])
    assert registry.find("triple")(2) == 6


def test_only_what_a_plugin_defines_and_shows_is_taken(write_module: WriteModule) -> None:
    write_module("modest_plugin", "from keras.layers import Dense as Borrowed\n\nclass _Hidden:\n    pass\n\nX = 3\n")
    before = registry.custom_objects()
    registry.load_plugins(["modest_plugin"])
    assert registry.custom_objects() == before


def test_plugin_may_be_named_twice(write_module: WriteModule) -> None:
    write_module("repeated_plugin", UNREGISTERED.format(name="Repeated"))
    registry.load_plugins(["repeated_plugin", "repeated_plugin"])
    registry.load_plugins(["repeated_plugin"])
    assert registry.find("Repeated").__module__ == "repeated_plugin"


@pytest.mark.parametrize(("source", "name"), [(UNREGISTERED, "TwiceA"), (REGISTERED, "TwiceB")])
def test_two_plugins_with_the_same_class_name_are_refused(write_module: WriteModule, source: str, name: str) -> None:
    first, second = f"first_{name}", f"second_{name}"
    write_module(first, source.format(name=name))
    write_module(second, source.format(name=name))
    message = rf"{name}` is defined by both {first}.{name} and {second}.{name}. Rename one of the two.$"
    with pytest.raises(ValueError, match=message):
        registry.load_plugins([first, second])


def test_plugin_cannot_take_the_name_of_our_layer(write_module: WriteModule) -> None:
    source = "import keras\nfrom models.registry import register_layer\n\n@register_layer\nclass LayerNorm:\n    pass\n"
    write_module("greedy_plugin", source)
    with pytest.raises(ValueError, match=r"`greedy_plugin` could not be imported: .*is already registered by models"):
        registry.load_plugins(["greedy_plugin"])
    assert registry.find("layerserve>LayerNorm") is layers.LayerNorm


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError: invalid syntax"),
    ],
)
def test_plugin_that_cannot_be_imported_is_refused(write_module: WriteModule, source: str, reason: str) -> None:
    name = f"broken_plugin_{abs(hash(source))}"
    write_module(name, source)
    with pytest.raises(ValueError, match=rf"^The module `{name}` could not be imported: {reason}"):
        registry.load_plugins([name])


@pytest.mark.parametrize("name", ["no_such_module", "models.no_such_module", "", "../evil", "a..b", ".relative"])
def test_module_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"could not be imported: .*Name it as `import` would"):
        registry.load_plugins([name])


def test_plugin_is_found_in_the_working_directory(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("project")
    (folder / "local_plugin.py").write_text(UNREGISTERED.format(name="LocalPlugin"))
    monkeypatch.syspath_prepend(folder.parent)  # restores sys.path afterwards
    monkeypatch.chdir(folder)
    registry.load_plugins(["local_plugin"])
    assert registry.find("LocalPlugin").__module__ == "local_plugin"
