"""The house's import rules: who may import whom, no cycles, and a light floor that loads no Keras."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("models", "export", "service")
KERAS_FLOOR = (
    "models.layers",
    "models.registry",
    "models.builders",
    "models.checks",
    "models.loading",
    "models.activations",
    "models.diff",
)
VERSIONS_ON_DISK = ("models.manifest", "models.artifact", "models.golden")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "models.manifest": (),
    "models.artifact": ("models.manifest",),
    "models.golden": ("models.artifact", "models.manifest"),
    "models.pointers": ("models.artifact", "models.manifest"),
    "models.locking": (),
    "models.store": ("models.artifact", "models.locking", "models.manifest", "models.pointers"),
    "models.keras_file": (),
    "models.command_line": (),
    "models.check_options": ("models.command_line",),
    "models.quiet": (),
    "models": ("models",),
    "export": ("models", "export"),
    "export.formats": ("models.command_line",),
    "export.fresh": (),
    "export.replay": (),
    "export.convert": (),
    "export.figures": (),
    "export.page": (),
    "export.report_data": ("models.artifact",),
    "export.report_results": ("export.figures", "export.page", "export.report_data", "models.manifest"),
    "export.report": (
        "export.figures",
        "export.page",
        "export.report_data",
        "export.report_results",
        "models.artifact",
        "models.manifest",
    ),
    "service.settings": ("models.manifest", "models.pointers", "models.command_line", "service.runtimes"),
    "service.errors": ("service.exchange",),
    "service.exchange": (),
    "service.logs": (),
    "service.families": (),
    "service.metrics": ("service.families",),
    "service.exposition": ("service.families",),
    "service.metrics_page": ("service.engine", "service.errors", "service.exposition", "service.families"),
    "service.observer": ("service.exchange", "service.logs", "service.metrics"),
    "service.worker": ("service.families",),
    "service.tls": ("service.settings",),
    "service.supervisor": ("service.server", "service.settings", "service.tls", "service.worker"),
    "service.launch": (
        "service.logs",
        "service.memory",
        "service.server",
        "service.settings",
        "service.supervisor",
        "service.tls",
        "service.worker",
    ),
    "service.inference": ("service.errors", "service.limits", "models.manifest"),
    "service.runtimes": ("models.artifact", "models.manifest", "models.quiet", "service.memory", "service.runtimes"),
    "service.runtimes.keras": (
        "models.artifact",
        "models.manifest",
        "models.quiet",
        "service.memory",
        "service.runtimes",
        *KERAS_FLOOR,
    ),
    "service.runtimes.trial": ("service.runtimes", *VERSIONS_ON_DISK),
    "service.runtimes.selection": ("service.runtimes", *VERSIONS_ON_DISK),
    "service.limits": (),
    "service.cost": (),
    "service.alarm": (),
    "service.tickets": ("service.errors", "models.manifest"),
    "service.queueing": ("service.tickets",),
    "service.refusals": ("service.errors",),
    "service.threads": ("service.tickets", "models.manifest"),
    "service.express": ("service.cost", "service.tickets", "models.manifest"),
    "service.batching": (
        "service.alarm",
        "service.cost",
        "service.errors",
        "service.express",
        "service.limits",
        "service.queueing",
        "service.refusals",
        "service.threads",
        "service.tickets",
        "models.manifest",
    ),
    "service.memory": (),
    "service.versions": (
        "service.batching",
        "service.inference",
        "service.memory",
        "service.runtimes",
        *VERSIONS_ON_DISK,
    ),
    "service.drift": ("service.versions", "models.golden"),
    "service.slots": ("service.drift", "service.metrics", "service.versions", "models.artifact", "models.store"),
    "service.repository": ("service.metrics", "service.slots", "service.versions", "models.store"),
    "service.metadata": ("service.runtimes.trial", "service.versions", "models.golden", "models.manifest"),
    "service.finding": ("service.errors", "service.repository", "service.versions"),
    "service.queues": (
        "service.batching",
        "service.inference",
        "service.limits",
        "service.versions",
        "models.manifest",
    ),
    "service.engine": (
        "service.errors",
        "service.finding",
        "service.inference",
        "service.finding",
        "service.limits",
        "service.metadata",
        "service.queues",
        "service.refusals",
        "service.repository",
        "service.versions",
        "service.runtimes.trial",
        "service.tickets",
        "service.versions",
        *VERSIONS_ON_DISK,
    ),
    "service.statistics": (),
    "service.runs": ("service.metrics", "service.statistics"),
    "service.version": (),
    "service.protocols.datatypes": ("models.manifest",),
    "service.protocols.tensors": ("service.errors", "models.manifest"),
    "service.openapi": (
        "service.protocols.tensors",
        "service.engine",
        "service.errors",
        "service.metadata",
        "service.protocols.answers",
        "service.protocols.schema",
        "service.protocols.tensor_schema",
        "service.protocols.tfs_examples_schema",
        "service.protocols.tfs_schema",
        "service.protocols.v2_infer_schema",
        "models.manifest",
    ),
    "service.protocols.tensor_schema": ("service.inference", "models.manifest"),
    "service.protocols.together": ("service.engine", "service.errors", "models.manifest"),
    "service.protocols.schema": (
        "service.metadata",
        "service.protocols.answers",
        "service.protocols.bodies",
        "service.protocols.tensor_schema",
        "models.manifest",
    ),
    "service.protocols.json_rows": ("service.protocols.tensors", "service.errors", "models.manifest"),
    "service.protocols.hanging_up": (),
    "service.protocols.v2_request": (
        "service.errors",
        "service.protocols.datatypes",
        "service.protocols.tensors",
    ),
    "service.protocols.v2_tensors": (
        "service.errors",
        "service.protocols.datatypes",
        "service.protocols.tensors",
        "service.protocols.v2_request",
        "models.manifest",
    ),
    "service.protocols.v2_body": (
        "service.errors",
        "service.protocols.request_body",
        "service.protocols.tensors",
    ),
    "service.protocols.v2_models": (
        "service.metadata",
        "service.statistics",
        "service.protocols.datatypes",
        "models.manifest",
    ),
    "service.protocols.v2_infer": (
        "service.engine",
        "service.metadata",
        "service.inference",
        "service.errors",
        "service.protocols.datatypes",
        "service.protocols.tensors",
        "service.protocols.v2_request",
        "service.protocols.v2_tensors",
        "models.manifest",
        "models.pointers",
    ),
    "service.protocols.v2_infer_schema": (
        "service.metadata",
        "service.protocols.datatypes",
        "service.protocols.tensor_schema",
        "service.protocols.v2_infer",
        "service.protocols.v2_request",
        "models.manifest",
    ),
    "service.protocols.v2_schema": (
        "service.protocols.schema",
        "service.protocols.tensor_schema",
        "service.protocols.v2_body",
        "service.protocols.v2_infer_schema",
    ),
    "service.protocols.v2": (
        "service.engine",
        "service.exchange",
        "service.metadata",
        "service.inference",
        "service.errors",
        "service.statistics",
        "service.version",
        "service.protocols.hanging_up",
        "service.protocols.tensors",
        "service.protocols.v2_body",
        "service.protocols.v2_infer",
        "service.protocols.v2_models",
        "service.protocols.v2_request",
        "service.protocols.v2_schema",
        "service.protocols.v2_tensors",
        "models.manifest",
        "service.protocols.predict",
        "service.protocols.application",
    ),
    "service.protocols.v2_messages": (
        "service.errors",
        "service.protocols.datatypes",
        "service.protocols.tensors",
        "service.protocols.v2_infer",
        "service.protocols.v2_tensors",
    ),
    "service.protocols.v2_grpc": (
        "service.engine",
        "service.metadata",
        "service.inference",
        "service.errors",
        "service.statistics",
        "service.version",
        "service.protocols.v2_infer",
        "service.protocols.v2_messages",
        "service.protocols.v2_models",
        "service.protocols.v2_request",
        "models.manifest",
        "service.exchange",
        "service.grpc_calls",
    ),
    "service.grpc_calls": ("service.errors", "service.exchange", "service.logs", "service.observer"),
    "service.grpc_server": ("service.engine", "service.errors", "service.grpc_calls", "service.settings"),
    "service.protocols.v2_repository": (
        "service.errors",
        "service.protocols.tensors",
        "service.protocols.v2",
        "service.protocols.v2_models",
        "service.protocols.v2_schema",
        "service.protocols.application",
    ),
    "service.protocols.application": ("service.engine",),
    "service.protocols.request_body": ("service.errors",),
    "service.protocols.tfs": (
        "service.engine",
        "service.inference",
        "service.errors",
        "service.exchange",
        "service.protocols.hanging_up",
        "service.protocols.request_body",
        "service.protocols.tfs_decode",
        "service.protocols.tfs_encode",
        "service.protocols.tfs_schema",
        "service.protocols.tfs_target",
        "models.manifest",
        "service.protocols.predict",
        "service.protocols.application",
    ),
    "service.protocols.tfs_grpc": (
        "service.engine",
        "service.inference",
        "service.errors",
        "service.protocols.tfs_decode",
        "service.protocols.tfs_encode",
        "service.protocols.tfs_faults",
        "service.protocols.tfs_messages",
        "service.protocols.tfs_target",
        "models.manifest",
        "service.exchange",
    ),
    "service.protocols.tfs_messages": ("service.errors", "service.protocols.datatypes", "models.manifest"),
    "service.protocols.tfs_target": (
        "service.engine",
        "service.metadata",
        "service.errors",
        "service.protocols.tfs_encode",
    ),
    "service.protocols.tfs_decode": (
        "service.errors",
        "service.protocols.tensors",
        "service.protocols.tfs_faults",
        "models.manifest",
    ),
    "service.protocols.tfs_encode": (
        "service.metadata",
        "service.errors",
        "service.protocols.datatypes",
        "service.protocols.tfs_decode",
        "models.manifest",
    ),
    "service.protocols.tfs_faults": ("models.manifest",),
    "service.protocols.tfs_schema": (
        "service.metadata",
        "service.protocols.answers",
        "service.protocols.tensor_schema",
        "service.protocols.tfs_decode",
        "service.protocols.tfs_encode",
        "models.manifest",
    ),
    "service.protocols.tfs_examples_schema": (
        "service.metadata",
        "service.protocols.tensor_schema",
        "service.protocols.tensors",
        "service.protocols.tfs_decode",
        "service.protocols.tfs_encode",
        "service.protocols.tfs_schema",
        "models.manifest",
    ),
    "service.protocols.bodies": (
        "service.errors",
        "service.protocols.bodies",
        "service.protocols.tensors",
        "models.manifest",
    ),
    "service.protocols": (
        "service.protocols.together",
        "service.engine",
        "service.inference",
        "service.errors",
        "service.metrics",
        "service.exchange",
        "service.protocols.bodies",
        "service.protocols.hanging_up",
        "service.protocols.request_body",
        "service.metadata",
        "service.protocols.schema",
        "service.protocols.tensors",
        "service.protocols.json_rows",
        "service.protocols.answers",
        "service.protocols.predict",
        "service.tickets",
        "models.manifest",
        "service.protocols.application",
    ),
    "service.protocols.ways": (
        "service.engine",
        "service.metadata",
        "service.metrics",
        "service.protocols.predict",
        "service.protocols.together",
        "service.statistics",
    ),
    **dict.fromkeys(
        ("service.protocols.v2_together", "service.protocols.v2_binary", "service.protocols.v2_texts"),
        (
            "service.errors",
            "service.metadata",
            "service.protocols.datatypes",
            "service.protocols.json_rows",
            "service.protocols.predict",
            "service.protocols.tensors",
            "service.protocols.together",
            "service.protocols.v2_body",
            "service.protocols.v2_infer",
            "service.protocols.v2_request",
            "service.protocols.v2_tensors",
            "service.protocols.v2_together",
            "service.protocols.ways",
            "models.manifest",
        ),
    ),
    "service.protocols.tfs_together": (
        "service.errors",
        "service.metadata",
        "service.protocols.answers",
        "service.protocols.json_rows",
        "service.protocols.predict",
        "service.protocols.tensors",
        "service.protocols.tfs_decode",
        "service.protocols.tfs_encode",
        "service.protocols.together",
        "service.protocols.ways",
        "models.manifest",
    ),
    "service.connection": ("service.errors", "service.observer"),
    "service.turn": ("service.errors", "service.lane_request", "service.protocols.predict", "service.protocols.ways"),
    "service.lane_heads": (
        "service.errors",
        "service.protocols.bodies",
        "service.protocols.predict",
        "service.protocols.ways",
    ),
    "service.lane_request": (
        "models.manifest",
        "service.lane_heads",
        "service.errors",
        "service.exchange",
        "service.inference",
        "service.logs",
        "service.observer",
        "service.tickets",
        "service.protocols.predict",
        "service.protocols.ways",
    ),
    "service.collecting": (
        "service.connection",
        "service.lane_heads",
        "service.lane_request",
        "service.observer",
        "service.protocols.json_rows",
    ),
    "service.fast_lane": (
        "service.collecting",
        "service.connection",
        "service.errors",
        "service.exchange",
        "service.lane_request",
        "service.inference",
        "service.logs",
        "service.observer",
        "service.tickets",
        "service.lane_heads",
        "service.protocols.answers",
        "service.protocols.json_rows",
        "service.protocols.predict",
        "service.turn",
    ),
    "service.kept_lane": (
        "service.collecting",
        "service.fast_lane",
        "service.lane_heads",
        "service.lane_request",
        "service.protocols.tfs_together",
        "service.protocols.v2_binary",
        "service.protocols.v2_body",
        "service.protocols.v2_texts",
    ),
    "service.server": (
        "service.connection",
        "service.engine",
        "service.kept_lane",
        "service.settings",
        "service.tls",
    ),
    "service": ("service", "models.store", "models.command_line", *VERSIONS_ON_DISK),
}
"""The longest prefix of a module's name says which of ours it may import."""
HEAVY = {"keras", "tensorflow", "sklearn", "jax", "torch", "matplotlib"}
RUNTIME_LIBRARIES = {"onnxruntime", "ai_edge_litert", "openvino"}
LIBRARY_OF = {
    "service.runtimes.onnx": {"onnxruntime"},
    "service.runtimes.litert": {"ai_edge_litert"},
    "service.runtimes.openvino": {"openvino"},
    "service.runtimes.saved_model": {"tensorflow"},
}
"""The keras runtime has its library through `models.loading`."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))}


def imports_of(module: str) -> set[str]:
    """Every module that this one names in an import statement, at the top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(SOURCES[module].read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} uses a relative import; name the module in full"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & SOURCES.keys()
            found.update(submodules or {str(node.module)})
    return found


def ours(module: str) -> set[str]:
    return imports_of(module) & SOURCES.keys()


def allowed(module: str) -> tuple[str, ...]:
    """The prefixes of our modules that this one may import."""
    longest = max((key for key in MAY_IMPORT if module == key or module.startswith(key + ".")), key=len)
    return MAY_IMPORT[longest]


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_module_imports_only_what_its_room_may(module: str) -> None:
    permitted = allowed(module)
    strangers = {
        name for name in ours(module) - {module} if not any(name == p or name.startswith(p + ".") for p in permitted)
    }
    assert not strangers


def test_imports_have_no_cycle() -> None:
    TopologicalSorter({module: ours(module) - {module} for module in SOURCES}).prepare()


@pytest.mark.parametrize("module", sorted(name for name in SOURCES if name.startswith("service")))
def test_only_the_keras_runtime_of_the_service_names_keras(module: str) -> None:
    floor = {name for name in ours(module) if name.startswith(KERAS_FLOOR)}
    assert module == "service.runtimes.keras" or not floor


@pytest.mark.parametrize("module", sorted(name for name in SOURCES if name.startswith("service")))
def test_each_runtime_names_the_one_library_that_it_stands_for(module: str) -> None:
    loaded = {name.split(".")[0] for name in imports_of(module)} & (HEAVY | RUNTIME_LIBRARIES)
    assert loaded == LIBRARY_OF.get(module, set())


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    ["models.golden", "models.store", "models.keras_file", "models.__main__", "export.__main__", "service.__main__"],
)
def test_light_module_loads_no_keras(module: str) -> None:
    script = f"import sys, {module}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.slow
def test_report_of_a_published_version_needs_no_keras() -> None:
    script = f"import sys, export.report; print(*sorted({HEAVY - {'matplotlib'}!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_only_the_figures_are_drawn_by_matplotlib() -> None:
    assert [module for module in SOURCES if any(name.startswith("matplotlib") for name in imports_of(module))] == [
        "export.figures"
    ]


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_nothing_pickles(module: str) -> None:
    assert not {name.split(".")[0] for name in imports_of(module)} & {
        "pickle",
        "cloudpickle",
        "dill",
        "joblib",
        "shelve",
        "marshal",
    }


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_file_is_at_most_300_lines(module: str) -> None:
    assert len(SOURCES[module].read_text().splitlines()) <= 300
