"""The layer contract: rules that a layer must keep to be saved, reloaded and served, and three doors to them.

`check_layer` reports on one layer, `parametrize_with_checks` makes one pytest test a rule, and
`python -m models check` prints a table. `certify` measures what a server that batches must know of a whole model.
"""

from models.checks.certificate import certify
from models.checks.checker import check_layer
from models.checks.pytest_door import LayerCase, parametrize_with_checks
from models.checks.rulebook import RULES
from models.checks.verdict import CheckReport, CheckResult
from models.manifest import Certificate

__all__ = [
    "RULES",
    "Certificate",
    "CheckReport",
    "CheckResult",
    "LayerCase",
    "certify",
    "check_layer",
    "parametrize_with_checks",
]
