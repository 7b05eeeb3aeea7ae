"""How many examples a test tries that draws them by hypothesis."""

from __future__ import annotations

import os

_TIMES = int(os.environ.get("LAYERSERVE_TEST_EXAMPLES", "1"))


def examples(usual: int) -> int:
    """The usual number, times LAYERSERVE_TEST_EXAMPLES."""
    return usual * _TIMES
