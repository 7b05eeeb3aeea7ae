from __future__ import annotations

import importlib
import itertools
import textwrap
from collections.abc import Callable

import pytest

from models.manifest import LayerRecord
from models.sources import change_of, record_of, told

NUMBERS = itertools.count()
WriteModule = Callable[[str, str], None]

BEFORE = """
    class Scale(Base):
        '''Scales.'''

        def __init__(self, factor):
            self.factor = factor

        @property
        def half(self):
            return self.factor / 2

        def call(self, x):
            return x * self.factor
    """


def record(write_module: WriteModule, source: str, base: str = "class Base:\n    pass\n") -> LayerRecord:
    name = f"scales_{next(NUMBERS)}"  # Python imports a name once
    write_module(name, base + textwrap.dedent(source))
    return record_of(importlib.import_module(name).Scale)


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("x * self", "self", "`call` differs"),
        ("'''Scales.'''", "'''Scales numbers.'''", "only what is outside its methods differs"),
        ("@property\n", "@staticmethod\n", "`half` differs"),
        ("half", "third", "`third` is new, `half` is gone"),
        ("        def call", "        def build(self): ...\n\n        def call", "`build` is new"),
    ],
)
def test_change_names_the_methods(write_module: WriteModule, old: str, new: str, change: str) -> None:
    before = record(write_module, BEFORE)
    assert change_of(before, record(write_module, BEFORE.replace(old, new))) == change


def test_same_source_is_no_change(write_module: WriteModule) -> None:
    assert change_of(found := record(write_module, BEFORE), found) is None


def test_method_of_an_own_base_is_named_with_it(write_module: WriteModule) -> None:
    before = record(write_module, BEFORE, "class Base:\n    def build(self): return 1\n")
    after = record(write_module, BEFORE, "class Base:\n    def build(self): return 2\n")
    assert change_of(before, after) == "`Base.build` differs"


def test_record_of_an_older_release_tells_no_method(write_module: WriteModule) -> None:
    before = LayerRecord(module="scales", source_sha256="0" * 64)
    assert change_of(before, record(write_module, BEFORE)) == "its source differs"


def test_moved_layer_is_told() -> None:
    before, after = (LayerRecord(module=module, source_sha256="0" * 64) for module in ("old", "new"))
    assert change_of(before, after) == "it is in new instead of old"


def test_function_is_recorded_without_methods(write_module: WriteModule) -> None:
    write_module("functions", "def double(x):\n    return 2 * x\n")
    found = record_of(importlib.import_module("functions").double)
    assert (found.module, found.methods) == ("functions", {})
    assert len(found.source_sha256 or "") == 64


def test_changes_are_told_in_one_line() -> None:
    assert (
        told({"a>A": "`call` differs", "b>B": "its source differs"}) == "a>A (`call` differs), b>B (its source differs)"
    )
