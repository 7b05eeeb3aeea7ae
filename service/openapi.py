"""The OpenAPI document: FastAPI's, and in it the requests and answers of each loaded version, from its signature."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from weakref import ref

import orjson
from fastapi import FastAPI

from models.manifest import Signature, Tensors
from service.engine import Engine
from service.errors import ServiceError
from service.metadata import ModelIndex, ModelMetadata
from service.protocols import schema, tfs_examples_schema, tfs_schema, v2_infer_schema
from service.protocols.answers import has_labels
from service.protocols.tensor_schema import Bodies, Examples, Schema, describe, reference
from service.protocols.tensors import dump

_JSON = "application/json"
_REQUESTS = schema.REQUESTS | tfs_schema.REQUESTS | v2_infer_schema.REQUESTS
_LARGEST_EXAMPLE_BYTES = 16 * 2**10  # 64 x 64 float32, say


class _Door(NamedTuple):
    """A protocol: what it calls a prediction, the path of one, where `{which}` says which version, and the bodies."""

    verb: str
    summary: str
    path: str
    bodies: Callable[[Signature], Bodies | None]
    examples: Callable[[ModelMetadata], Examples]


_NATIVE = _Door("predict", "Predict", "/models/{name}{which}/predict", schema.bodies, schema.examples)
_V2 = _Door(
    "infer",
    "Infer, by the Open Inference Protocol",
    "/v2/models/{name}{which}/infer",
    v2_infer_schema.bodies,
    v2_infer_schema.examples,
)
_TFS = _Door(
    "tfs_predict",
    "Predict, by TensorFlow Serving's API",
    "/v1/models/{name}{which}:predict",
    tfs_schema.bodies,
    tfs_schema.examples,
)
_CLASSIFY = _Door(
    "tfs_classify",
    "Classify, by TensorFlow Serving's API",
    "/v1/models/{name}{which}:classify",
    tfs_examples_schema.classify_bodies,
    tfs_examples_schema.classify_examples,
)
_REGRESS = _Door(
    "tfs_regress",
    "Regress, by TensorFlow Serving's API",
    "/v1/models/{name}{which}:regress",
    tfs_examples_schema.regress_bodies,
    tfs_examples_schema.regress_examples,
)
_DOORS = (_NATIVE, _V2, _TFS, _CLASSIFY, _REGRESS)
_DEFAULT = _NATIVE._replace(summary="Predict with the default model", path="/predict")


class _Model(NamedTuple):
    """A model with its loaded versions; `served` is the one that answers where a path names none."""

    name: str
    served: int | None
    labels: dict[str, int]
    versions: dict[int, ModelMetadata]


class _Place(NamedTuple):
    """A way of saying which version: in the routes' paths, in a path of its own, in an operation's name, in words."""

    which: str
    actual: str
    suffix: str
    words: str
    version: int


class Document:
    """Gives the document; makes it anew when other versions are loaded, or answer elsewhere.

    Belongs to the event loop.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._of_routes = app.openapi
        self._made_of: object = None
        self._document: dict[str, Any] = {}

    def __call__(self) -> dict[str, Any]:
        """The document, which nobody may change."""
        engine: Engine | None = getattr(self._app.state, "engine", None)
        if engine is None:  # not started
            return self._generic()
        models = [model for index in engine.index() if (model := _loaded(engine, index))]
        default = engine.default_model()
        # By weak references, so that what is known of a version does not outlive it here.
        made_of = default, [(*model[:-1], [ref(item) for item in model.versions.values()]) for model in models]
        if made_of != self._made_of:
            self._document, self._made_of = _with_models(self._generic(), models, default), made_of
        return self._document

    def _generic(self) -> dict[str, Any]:
        """The document without any model."""
        document = self._of_routes()
        components = document["components"]
        return {**document, "components": {**components, "schemas": components["schemas"] | _REQUESTS}}


def _with_models(generic: dict[str, Any], models: list[_Model], default: str | None) -> dict[str, Any]:
    """FastAPI's document with the loaded models before all else."""
    routes, components = generic["paths"], generic["components"]
    paths: dict[str, Any] = {}
    schemas: dict[str, Schema] = {}
    for model in models:
        if model.name == default and model.served:
            paths |= _paths(routes, _DEFAULT, model, [_Place("", "", "_default", "", model.served)])
        for door in _DOORS:
            schemas |= _schemas(door, model)
            paths |= _paths(routes, door, model, list(_places(model)))
    return {
        **generic,
        "tags": [{"name": _tag(model), "description": _description(model)} for model in models],
        "paths": {**paths, **{path: item for path, item in routes.items() if path not in paths}},
        "components": {**components, "schemas": components["schemas"] | schemas},
    }


def _loaded(engine: Engine, index: ModelIndex) -> _Model | None:
    """A model with those of its versions that are loaded, the one that serves first; None if none is."""
    ready = [version for version, status in index.statuses.items() if status.state == "READY"]
    versions = {}
    for version in filter(None, (index.version, *ready, *index.labels.values())):
        try:
            versions[version] = engine.metadata(index.name, version)
        except ServiceError:  # gone since it was listed
            continue
    served = index.version if index.version in versions else None
    labels = {label: version for label, version in index.labels.items() if version in versions}
    return _Model(index.name, served, labels, versions) if versions else None


def _places(model: _Model) -> Iterator[_Place]:
    """Every way of asking for a loaded version."""
    if model.served:
        yield _Place("", "", "", "", model.served)
    for version in model.versions:
        words = f" with version {version} and no other"
        yield _Place("/versions/{version}", f"/versions/{version}", f"_version_{version}", words, version)
    for label, version in model.labels.items():
        words = f" with the version labelled {label}"
        yield _Place("/labels/{label}", f"/labels/{label}", f"_label_{label}", words, version)


def _schemas(door: _Door, model: _Model) -> dict[str, Schema]:
    """What a protocol takes and gives of each version, with the first golden row as an example."""
    found: dict[str, Schema] = {}
    for version, metadata in model.versions.items():
        bodies = door.bodies(metadata.signature)
        if bodies is None:
            continue
        request, response = bodies
        if _is_short(metadata.golden.inputs) and _is_short(metadata.golden.outputs):
            examples = orjson.loads(dump(list(door.examples(metadata))))  # NaN, which is no JSON, becomes null
            request, response = {**request, "examples": examples[:1]}, {**response, "examples": examples[1:]}
        request_key, response_key = _keys(door, model, version)
        found |= {request_key: request, response_key: response}
    return found


def _is_short(tensors: Tensors) -> bool:
    return sum(values[:1].nbytes for values in tensors.values()) <= _LARGEST_EXAMPLE_BYTES


def _keys(door: _Door, model: _Model, version: int) -> tuple[str, str]:
    """What a version's schemas are called: always the same for the one that serves, and never as another model's."""
    verb = door.verb.title().replace("_", "")
    number = "" if version == model.served else f"Version{version}"
    return f"{model.name}.{verb}Request{number}", f"{model.name}.{verb}Response{number}"


def _paths(routes: dict[str, Any], door: _Door, model: _Model, places: list[_Place]) -> dict[str, Any]:
    """The paths of a protocol for one model, each with the schemas of the version that answers there."""
    found = {}
    for place in places:
        route = routes.get(door.path.replace("{which}", place.which))
        metadata = model.versions[place.version]
        if route is not None and door.bodies(metadata.signature) is not None:
            path = door.path.replace("{name}", model.name).replace("{which}", place.actual)
            found[path] = {"post": _operation(route["post"], door, model, place)}
    return found


def _operation(route: dict[str, Any], door: _Door, model: _Model, place: _Place) -> dict[str, Any]:
    """A route's operation as it is for one version: nothing left to fill into the path, and bodies of its own."""
    request, response = ({"schema": reference(key)} for key in _keys(door, model, place.version))
    body, answer = route["requestBody"], route["responses"]["200"]
    has_choice = has_labels(model.versions[place.version].signature)
    return {
        **route,
        "tags": [_tag(model)],
        "summary": f"{door.summary}{place.words}",
        "operationId": f"{model.name}.{door.verb}{place.suffix}",
        "parameters": [
            item for item in route["parameters"] if item["in"] != "path" and (has_choice or item["name"] != "labels")
        ],
        "requestBody": {**body, "content": {**body["content"], _JSON: request}},
        "responses": {**route["responses"], "200": {**answer, "content": {**answer["content"], _JSON: response}}},
    }


def _tag(model: _Model) -> str:
    return f"model {model.name}"


def _description(model: _Model) -> str:
    """A paragraph for each version, with a line for each of its tensors."""
    paragraphs = []
    for version, metadata in model.versions.items():
        lines = [f"Version {version}, run by {metadata.runtime}:"]
        lines += [f"- takes `{spec.name}`: {describe(spec)}" for spec in metadata.signature.inputs]
        lines += [f"- gives `{spec.name}`: {describe(spec)}" for spec in metadata.signature.outputs]
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)
