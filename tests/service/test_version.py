from __future__ import annotations

import tomllib

from service.version import VERSION
from tests.service.processes import ROOT


def test_version_is_that_of_the_package() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
