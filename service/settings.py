"""Every setting of the service: one class that is the environment, the flags and the help."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings

from models.command_line import Names, program_config, split
from models.manifest import ModelName
from service.runtimes import AUTO, RUNTIMES

_GRPC_PACKAGES = ("grpc", "grpc_health", "grpc_reflection", "tritonclient")


def _runtimes(text: str) -> list[tuple[str, str]]:
    """The models and runtimes of `auto,churn=onnx`; the empty name stands for all models."""
    parts = (item.rpartition("=") for item in split(text))
    return [(model.strip() or equals, runtime.strip()) for model, equals, runtime in parts]


def _check_runtimes(text: str) -> str:
    choices = (AUTO, *RUNTIMES)
    models = [model for model, _ in _runtimes(text)]
    is_known = all(model != "=" and runtime in choices for model, runtime in _runtimes(text))
    if not models or len(set(models)) < len(models) or not is_known:
        raise ValueError(
            f"`runtime` must be one of {', '.join(choices)}, for single models too: {AUTO},churn=onnx. Received: {text}"
        )
    return text


RuntimeChoice = Annotated[str, AfterValidator(_check_runtimes)]
"""A runtime for all models, and others for single ones (`churn=onnx`), with commas between."""


def _check_grpc(port: int) -> int:
    missing = [name for name in _GRPC_PACKAGES if port and find_spec(name) is None]
    if missing:
        raise ValueError(
            f"gRPC needs packages that are not installed: pip install 'layerserve[grpc]'. Received: {port}"
        )
    return port


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
    default_model: ModelName | None = Field(
        None, description="The model that POST /predict asks. Needed only where several are published."
    )
    host: str = Field(
        "127.0.0.1", min_length=1, description="Address to listen on. 0.0.0.0 is every address of the machine."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one and logs it.")
    grpc_port: Annotated[int, AfterValidator(_check_grpc)] = Field(
        0, ge=0, le=65535, description="Port for gRPC (needs the extra `grpc`); 0 is none, and no gRPC."
    )
    reload_interval: float = Field(
        5.0, gt=0, le=86400, description="Seconds between looks at the folder for a new, pinned or withdrawn version."
    )
    max_body_bytes: int = Field(16 * 2**20, ge=1, description="Largest request body.")
    max_batch_size: int = Field(
        64, ge=1, le=65536, description="Most rows that run at once; a longer request is cut into batches."
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
    drain_delay: float = Field(
        0.0, ge=0, le=3600, description="Seconds to go on accepting after SIGTERM, while /health/ready already says no."
    )
    drain_timeout: float = Field(
        20.0, ge=0, le=3600, description="Seconds that requests in flight have to finish after that."
    )
    control_api: bool = Field(
        False, description="Whether callers may load and unload models (/v2/repository/models/{name}/load)."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    def runtime_of(self, model: str) -> str:
        """The runtime that a model is to have, or `auto`."""
        runtimes = dict(_runtimes(self.runtime))
        return runtimes.get(model) or runtimes.get("") or AUTO
