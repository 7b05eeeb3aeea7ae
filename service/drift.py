"""How far a version's answers lie from those of the version that it replaces."""

from __future__ import annotations

import logging

from models.golden import compare
from service.versions import LoadedModel

_log = logging.getLogger(__name__)


def drift(new: LoadedModel, old: LoadedModel) -> tuple[int, float] | None:
    """Lets a version that is about to serve answer the golden rows of the one that serves until then.

    Returns:
        The old version's number and the largest difference from its answers; None where the two have other inputs or
        outputs, or it could not be measured. That is logged: a difference is news, not a reason to refuse a version.
    """
    before, after = old.artifact.manifest, new.artifact.manifest
    if (before.signature.inputs, before.signature.outputs) != (after.signature.inputs, after.signature.outputs):
        return None
    try:
        difference = compare(old.golden.outputs, new.runtime.run(old.golden.inputs)).max_abs_error
    except Exception:  # whatever the model's own code raises; its own golden answers have agreed
        _log.exception("%s@%d cannot answer the golden rows of version %d.", after.name, after.version, before.version)
        return None
    _log.info(
        "%s@%d answers the golden rows of version %d with a largest difference of %.3g.",
        after.name, after.version, before.version, difference,
    )  # fmt: skip
    return before.version, difference
