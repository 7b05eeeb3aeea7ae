"""How far a version's answers lie from those of the version that it replaces."""

from __future__ import annotations

import logging

from models.artifact import Artifact
from models.golden import Golden, compare
from service.runtimes import Runtime

_log = logging.getLogger(__name__)


def drift(new: Artifact, runtime: Runtime, old: Artifact, golden: Golden) -> tuple[int, float] | None:
    """Lets the new version answer the old one's golden rows.

    Args:
        new: The version that is about to serve.
        runtime: That runs it.
        old: The version that serves until then.
        golden: Its golden rows, with the answers that it was trained to give.

    Returns:
        The old version's number and the largest difference from its answers; None where the two have other inputs or
        outputs, or it could not be measured. That is logged: a difference is news, not a reason to refuse a version.
    """
    before, after = old.manifest, new.manifest
    if (before.signature.inputs, before.signature.outputs) != (after.signature.inputs, after.signature.outputs):
        return None
    try:
        difference = compare(golden.outputs, runtime.run(golden.inputs)).max_abs_error
    except Exception:  # whatever the model's own code raises; its own golden answers have agreed
        _log.exception("%s@%d cannot answer the golden rows of version %d.", after.name, after.version, before.version)
        return None
    _log.info(
        "%s@%d answers the golden rows of version %d with a largest difference of %.3g.",
        after.name, after.version, before.version, difference,
    )  # fmt: skip
    return before.version, difference
