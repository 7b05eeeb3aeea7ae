"""docs/layers.md: every rule has its entry, and the two listings are what the page says of them."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from models.checks import RULES, check_layer
from models.checks.rulebook import fix_of, reason_of

PAGE = (Path(__file__).parents[3] / "docs" / "layers.md").read_text()
LISTINGS = [code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "class Norm" in code]


def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, listing: str) -> Any:
    """The class of a listing, from a module that the fresh process can import."""
    (tmp_path / f"{name}.py").write_text(listing)
    monkeypatch.syspath_prepend(tmp_path)
    module: ModuleType = __import__(name)
    return module.Norm  # type: ignore[attr-defined]


def test_every_rule_has_one_entry() -> None:
    entries = re.findall(r"^\*\*`(check_\w+)`\*\*", PAGE, re.MULTILINE)
    assert sorted(entries) == sorted(rule.__name__ for rule in RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_says_what_breaks_and_how_to_mend_it(rule: Any) -> None:
    assert reason_of(rule).endswith(".")
    assert fix_of(rule)


@pytest.mark.slow
def test_first_listing_breaks_the_rules_that_the_page_goes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = check_layer(written(tmp_path, monkeypatch, "first_layer", LISTINGS[0]), (16,))
    steps = PAGE.partition("Going through")[2].partition("Once the weights")[0]
    assert set(re.findall(r"`(check_\w+)`", steps)) <= {failure.rule for failure in report.failures}


@pytest.mark.slow
def test_second_listing_passes_every_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = check_layer(written(tmp_path, monkeypatch, "sound_layer", LISTINGS[1]), (16,))
    assert report.failures == ()
