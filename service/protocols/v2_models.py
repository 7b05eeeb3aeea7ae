"""What the Open Inference Protocol tells of the server and its models, as JSON."""

from __future__ import annotations

from typing import Any

from models.manifest import TensorSpec
from service.metadata import ModelIndex, ModelMetadata
from service.protocols.datatypes import OF_DTYPE
from service.statistics import Duration, Statistics, VersionStatistics

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)


def server_metadata(version: str) -> dict[str, Any]:
    """The answer to `GET /v2`."""
    return {"name": "layerserve", "version": version, "extensions": list(EXTENSIONS)}


def model_metadata(metadata: ModelMetadata, index: ModelIndex) -> dict[str, Any]:
    """The answer to `GET /v2/models/{name}`, with all versions that may be asked for."""
    return {
        "name": metadata.name,
        "versions": [str(version) for _, version in serving([index])],
        "platform": f"layerserve_{metadata.runtime}",
        "inputs": [_tensor(spec) for spec in metadata.signature.inputs],
        "outputs": [_tensor(spec) for spec in metadata.signature.outputs],
    }


def model_config(metadata: ModelMetadata, *, max_batch_size: int, max_queue_delay_ms: float) -> dict[str, Any]:
    """The answer to `GET /v2/models/{name}/config`: Triton's `ModelConfig`, as far as it means something here."""
    return {
        "name": metadata.name,
        "platform": f"layerserve_{metadata.runtime}",
        "backend": "layerserve",
        "version_policy": {"specific": {"versions": [metadata.version]}},
        "max_batch_size": max_batch_size,
        "input": [_configured(spec) for spec in metadata.signature.inputs],
        "output": [_configured(spec) for spec in metadata.signature.outputs],
        "dynamic_batching": {"max_queue_delay_microseconds": round(max_queue_delay_ms * 1e3)},
    }


def model_statistics(name: str, version: int, found: VersionStatistics) -> dict[str, Any]:
    """One item of the answer to `GET /v2/models/{name}/stats`."""
    whole = Duration(found.computed.count, found.queued.seconds + found.computed.seconds)
    none = _duration(Duration())
    return {
        "name": name,
        "version": str(version),
        "last_inference": round(found.last_run * 1e3),
        "inference_count": found.rows,
        "execution_count": found.runs,
        "inference_stats": {
            "success": _duration(whole),
            "fail": _duration(found.failed),
            "queue": _duration(found.queued),
            "compute_input": _duration(found.decoded),
            "compute_infer": _duration(found.computed),
            "compute_output": _duration(found.encoded),
            "cache_hit": none,
            "cache_miss": none,
        },
        "response_stats": {},
        "batch_stats": [
            {"batch_size": rows, "compute_input": none, "compute_infer": _duration(runs), "compute_output": none}
            for rows, runs in sorted(found.sizes.items())
        ],
        "memory_usage": [],
    }


def all_statistics(models: list[tuple[str, int]], statistics: Statistics) -> dict[str, Any]:
    """The answer to `GET /v2/models/stats`, or to that of some models."""
    return {"model_stats": [model_statistics(*model, statistics.of(*model)) for model in models]}


def serving(models: list[ModelIndex]) -> list[tuple[str, int]]:
    """Name and number of every version that serves."""
    return [
        (model.name, version)
        for model in models
        for version, status in model.statuses.items()
        if status.state == "READY"
    ]


def repository_index(models: list[ModelIndex], *, only_ready: bool) -> list[dict[str, str]]:
    """The answer to `POST /v2/repository/index`: every version that was asked for, or the model alone without any."""
    items = [item for model in models for item in _index_items(model)]
    return [item for item in items if item["state"] == "READY" or not only_ready]


def _index_items(model: ModelIndex) -> list[dict[str, str]]:
    if not model.statuses:
        return [{"name": model.name, "state": "UNAVAILABLE", "reason": model.problem}]
    return [
        {"name": model.name, "version": str(version), "state": str(status.state), "reason": status.reason}
        for version, status in model.statuses.items()
    ]


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    sizes = [-1 if size is None else size for size in spec.shape]
    return {"name": spec.name, "datatype": OF_DTYPE[spec.dtype].v2, "shape": sizes}


def _configured(spec: TensorSpec) -> dict[str, Any]:
    """The same in a `ModelConfig`, which leaves out the rows and calls strings otherwise."""
    tensor = _tensor(spec)
    kind = "STRING" if spec.dtype == "string" else tensor["datatype"]
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": tensor["shape"][1:]}


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": round(duration.seconds * 1e9)}
