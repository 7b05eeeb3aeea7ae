"""Every setting of the service: one class that is the environment, the flags and the help."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo
from pydantic_settings import BaseSettings

from models.command_line import Names, program_config, split
from models.manifest import ModelName
from models.pointers import is_label
from service.runtimes import AUTO, RUNTIMES

LATEST = "latest"
ALL = "all"
_GRPC_PACKAGES = ("grpc", "grpc_health", "grpc_reflection", "tritonclient")


def _by_model(text: str) -> list[tuple[str, str]]:
    """The models and choices of `auto,churn=onnx`; the empty name stands for all models."""
    parts = (item.rpartition("=") for item in split(text))
    return [(model.strip() or equals, choice.strip()) for model, equals, choice in parts]


def _is_by_model(text: str, is_choice: Callable[[str], bool]) -> bool:
    """Whether each model, and all of them, are named once at most, with something that may be chosen."""
    models = [model for model, _ in _by_model(text)]
    is_known = all(model != "=" and is_choice(choice) for model, choice in _by_model(text))
    return bool(models) and len(set(models)) == len(models) and is_known


def _check_runtimes(text: str) -> str:
    choices = (AUTO, *RUNTIMES)
    if not _is_by_model(text, choices.__contains__):
        raise ValueError(
            f"`runtime` must be one of {', '.join(choices)}, for single models too: {AUTO},churn=onnx. Received: {text}"
        )
    return text


def _check_versions(text: str) -> str:
    if not _is_by_model(text, lambda choice: choice in (LATEST, ALL) or bool(re.fullmatch("[1-9][0-9]{0,5}", choice))):
        raise ValueError(
            f"`versions` must be {LATEST}, {ALL} or a number from 1 to 999999, for single models too: "
            f"{LATEST},churn=3. Received: {text}"
        )
    return text


def _labels(text: str) -> dict[str, dict[str, int]]:
    """The version of each label by model, of `digits@stable=3,digits@canary=4`.

    Raises:
        ValueError: an item is not of this form, or names a label for the second time.
    """
    found: dict[str, dict[str, int]] = {}
    for item in split(text):
        parts = re.fullmatch("([^@=]+)@([^@=]+)=([1-9][0-9]{0,5})", item)
        if not parts or not is_label(parts[2]) or parts[2] in found.setdefault(parts[1], {}):
            raise ValueError(
                "`labels` must give each label of a model one version from 1 to 999999: "
                f"digits@stable=3,digits@canary=4. Received: {item}"
            )
        found[parts[1]][parts[2]] = int(parts[3])
    return found


def _check_labels(text: str | None) -> str | None:
    _labels(text or "")
    return text


RuntimeChoice = Annotated[str, AfterValidator(_check_runtimes)]
"""A runtime for all models, and others for single ones (`churn=onnx`), with commas between."""
VersionsChoice = Annotated[str, AfterValidator(_check_versions)]
"""Which versions are loaded of all models, and of single ones (`churn=3`), with commas between."""
LabelsChoice = Annotated[str | None, AfterValidator(_check_labels)]
"""Which versions have which labels, whatever is on disk."""


def _check_grpc(port: int, others: ValidationInfo) -> int:
    if port and port == others.data.get("port"):
        raise ValueError(f"`grpc_port` must be another port than that of HTTP. Received: {port} for both.")
    missing = [name for name in _GRPC_PACKAGES if port and find_spec(name) is None]
    if missing:
        raise ValueError(
            f"gRPC needs packages that are not installed: pip install 'layerserve[grpc]'. Received: {port}"
        )
    return port


def _check_control(value: bool, others: ValidationInfo) -> bool:
    workers = others.data.get("workers", 1)
    if value and workers > 1:
        raise ValueError(
            "`control_api` needs a single process, for the others would go on serving what one has unloaded. "
            f"Received: workers={workers}"
        )
    return value


class Settings(BaseSettings):
    """Serves published models over HTTP. Each option is also LAYERSERVE_<NAME> in the environment."""

    model_config = program_config("python -m service")

    artifacts: Path = Field(Path("artifacts"), description="Folder of the published versions.")
    layers: Names = Field((), description="Modules that define your layers, with commas between or given repeatedly.")
    runtime: RuntimeChoice = Field(
        AUTO,
        description=f"What runs the models: {AUTO} (the fastest that answers as the reference did), "
        f"{', '.join(RUNTIMES)}. Per model: {AUTO},churn=onnx.",
    )
    versions: VersionsChoice = Field(
        LATEST,
        description=f"Which versions are loaded: {LATEST} (the pinned one, else the highest), {ALL}, or that one and a "
        f"number of the highest, such as 2. Per model: {LATEST},churn=3.",
    )
    labels: LabelsChoice = Field(
        None,
        description="Labels of versions, which win over those on disk: digits@stable=3,digits@canary=4.",
    )
    default_model: ModelName | None = Field(
        None, description="The model that POST /predict asks. Needed only where several are published."
    )
    host: str = Field(
        "127.0.0.1", min_length=1, description="Address to listen on. 0.0.0.0 is every address of the machine."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one and logs it.")
    reuse_port: bool = Field(
        False,
        description="Share the port with a service that has this flag too, and listen only once ready: for restarts "
        "without a gap.",
    )
    grpc_port: Annotated[int, AfterValidator(_check_grpc)] = Field(
        0, ge=0, le=65535, description="Port for gRPC (needs the extra `grpc`); 0 is none, and no gRPC."
    )
    reload_interval: float = Field(
        5.0, gt=0, le=86400, description="Seconds between looks at the folder for a new, pinned or withdrawn version."
    )
    max_body_bytes: int = Field(16 * 2**20, ge=1, description="Largest request body.")
    max_header_bytes: int = Field(64 * 2**10, ge=1024, le=2**20, description="Largest head of a request.")
    keep_alive_timeout: float = Field(
        75.0, gt=0, le=3600, description="Seconds that a connection may be idle before it is closed."
    )
    client_timeout: float = Field(
        60.0, gt=0, le=3600, description="Seconds in which a request must arrive, and in which its client must read on."
    )
    fast_lane: bool = Field(
        True, description="Answer plain predictions from the connection itself; the answers are the same without."
    )
    tls_certificate: Path | None = Field(
        None, description="File with the certificate chain, PEM, to serve HTTPS, and gRPC over TLS."
    )
    tls_key: Path | None = Field(None, description="File with the certificate's private key, PEM.")
    max_batch_size: int = Field(
        128, ge=1, le=65536, description="Most rows that run at once; a longer request is cut into batches."
    )
    max_queue_size: int = Field(
        4096, ge=1, le=2**24, description="Most rows of a model that wait; beyond that requests are refused with 429."
    )
    max_queue_delay_ms: float = Field(
        0.0, ge=0, le=10000, description="Milliseconds that a batch which is not full waits for more rows."
    )
    request_timeout: float = Field(
        30.0, gt=0, le=3600, description="Seconds in which a request is answered, or refused with 504."
    )
    max_rows: int = Field(100_000, ge=1, description="Most rows that one request may hold.")
    max_elements: int = Field(
        4 * 2**20, ge=1, description="Most values that the inputs of one request may hold, of all rows together."
    )
    max_connections: int = Field(
        1000, ge=1, description="Most open connections of a process; those beyond get 503, but for health and metrics."
    )
    workers: int = Field(
        1, ge=1, le=1024, description="Processes that serve. Each has all models and a listening socket of its own."
    )
    drain_delay: float = Field(
        0.0, ge=0, le=3600, description="Seconds to go on accepting after SIGTERM, while /health/ready already says no."
    )
    drain_timeout: float = Field(
        20.0, ge=0, le=3600, description="Seconds that requests in flight have to finish after that."
    )
    control_api: Annotated[bool, AfterValidator(_check_control)] = Field(
        False, description="Whether callers may load and unload models (/v2/repository/models/{name}/load)."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["console", "json"] = Field("console", description="Log lines for eyes, or a JSON object each.")
    access_log: bool = Field(False, description="Whether each request has its line in the log.")

    def runtime_of(self, model: str) -> str:
        """The runtime that a model is to have, or `auto`."""
        runtimes = dict(_by_model(self.runtime))
        return runtimes.get(model) or runtimes.get("") or AUTO

    def newest_of(self, model: str) -> int:
        """How many of a model's highest versions are to be loaded beside the one that serves."""
        choices = dict(_by_model(self.versions))
        choice = choices.get(model) or choices.get("") or LATEST
        if choice == LATEST:
            return 0
        return sys.maxsize if choice == ALL else int(choice)

    def labels_of(self, model: str) -> dict[str, int]:
        """The version of each label that the settings give a model."""
        return _labels(self.labels or "").get(model, {})
