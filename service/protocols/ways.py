"""How the lane answers other protocols than our own: their plainest requests together, all else by the application.

A `Way` says what alike requests have in common, of which a plan is made once for each version. Where there is no plan,
or it answers nothing, the application gives the answer, or the error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import simdjson

from service.engine import Engine
from service.metadata import ModelMetadata
from service.metrics import Metrics, RequestMetrics
from service.protocols.predict import Target
from service.protocols.together import Bodies, Together
from service.statistics import Statistics

_MOST_PLANS = 256


class Plan(Protocol):
    """What the version that answers a request needs for it."""

    @property
    def name(self) -> str:
        """Of the model."""

    @property
    def version(self) -> int:
        """Of the model."""

    @property
    def counts(self) -> RequestMetrics:
        """Where it is counted."""

    def answer_together(self, bodies: Bodies, received: float) -> Together | None:
        """The answers to several requests, if they could be answered together."""


class Serving(NamedTuple):
    """What plans need of the service. The parser is for the event loop's thread."""

    engine: Engine
    metrics: Metrics
    statistics: Statistics
    parser: simdjson.Parser


@dataclass(frozen=True, eq=False)
class Way:
    """One form of requests of a protocol.

    Attributes:
        protocol: As the metrics name it.
        target_of: The version that a URL asks for, if requests to it have this form; the flag says whether they tell
            where the JSON ends and tensors begin.
        split: From all of a request, where its body begins, and the length of that JSON, to what alike requests have
            in common and to what each has for itself. None where the application must answer.
        make_plan: The plan of a version for what requests have in common, and for whether their answers may be
            compressed. None where each must be looked at.
        packs: Whether the application compresses answers for clients that take them so.
    """

    protocol: str
    target_of: Callable[[bytes, bool], Target | None]
    split: Callable[[bytes, int, int], tuple[bytes, bytes | memoryview] | None]
    make_plan: Callable[[Serving, ModelMetadata, bytes, bool], Plan | None]
    packs: bool


class Plans:
    """The plans of the engine's versions for one way."""

    def __init__(self, serving: Serving, way: Way) -> None:
        self._serving = serving
        self._make = way.make_plan
        self._plans: dict[tuple[Target, bytes, bool], Plan | None] = {}
        self._generation = -1

    def plan(self, target: Target, common: bytes, *, packs: bool) -> Plan | None:
        """The plan for requests that have this in common; None where they cannot be answered together.

        Raises:
            ServiceError: there is no such version, or it is not ready.
        """
        engine = self._serving.engine
        if engine.generation != self._generation or len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
            self._generation = engine.generation
        key = (target, common, packs)
        if key not in self._plans:
            metadata = engine.metadata(target.name, int(target.version) if target.version else None)
            self._plans[key] = self._make(self._serving, metadata, common, packs)
        return self._plans[key]
