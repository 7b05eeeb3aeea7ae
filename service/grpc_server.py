"""The gRPC side of the service: one server on the event loop of the HTTP side, with health and reflection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from service.engine import Engine
from service.errors import NotFound
from service.grpc_calls import Calls
from service.settings import Settings

_log = logging.getLogger(__name__)
_WATCH_SECONDS = 1.0

Register = Callable[[Any], None]
"""Adds a servicer to a `grpc.aio.Server`."""


class GrpcServer:
    """Serves the doors that it is given. Belongs to the event loop on which it is started.

    Args:
        settings: Of the service; `grpc_port` is not 0.
        engine: Whose readiness the health service tells.
        calls: See each call through.
        doors: What adds each service to the server, by the service's full name.
    """

    def __init__(self, settings: Settings, engine: Engine, calls: Calls, doors: Mapping[str, Register]) -> None:
        self._settings = settings
        options = [
            ("grpc.max_receive_message_length", settings.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            # Else another service on the port would get some of the calls, unnoticed.
            ("grpc.so_reuseport", int(settings.reuse_port or settings.workers > 1)),
        ]
        self._server = grpc.aio.server(options=options, interceptors=[calls])
        for register in doors.values():
            register(self._server)
        self._health = _Health(engine, {"", *doors})
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection([*doors, health, reflection.SERVICE_NAME], self._server)

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            OSError: the address cannot be had.
        """
        host, credentials = self._settings.host, _credentials(self._settings)
        address = f"{f'[{host}]' if ':' in host else host}:{self._settings.grpc_port}"
        try:
            if credentials:
                self._server.add_secure_port(address, credentials)
            else:
                self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"Cannot listen on {address} for gRPC. Choose another: --grpc-port 9001.") from error
        await self._server.start()
        _log.info("Serving gRPC on %s", address)

    async def stop(self) -> None:
        """Takes no new calls, and returns once those in flight have ended or `drain_timeout` is over."""
        self._health.is_ending = True
        await self._server.stop(self._settings.drain_timeout)


def _credentials(settings: Settings) -> Any:
    """The certificate that HTTP has, too; None without one."""
    if settings.tls_certificate is None:
        return None
    chain = settings.tls_certificate.read_bytes()
    key = settings.tls_key.read_bytes() if settings.tls_key else chain
    return grpc.ssl_server_credentials([(key, chain)])


class _Health(health_pb2_grpc.HealthServicer):
    """gRPC's own health protocol, for the server as a whole and for each of its services.

    Attributes:
        is_ending: Whether those who watch have been told all there is, and are not to be waited for.
    """

    def __init__(self, engine: Engine, names: set[str]) -> None:
        self._engine = engine
        self._names = names
        self.is_ending = False

    async def Check(self, request: Any, context: Any) -> Any:
        """Whether the service should get traffic."""
        if request.service not in self._names:
            raise NotFound(f"There is no service `{request.service}`.")
        return self._answer(request.service)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """The same at once and whenever it changes."""
        last = None
        while True:
            answer = self._answer(request.service)
            if answer != last:
                yield answer
                last = answer
            if self.is_ending:
                return
            await asyncio.sleep(_WATCH_SECONDS)

    def _answer(self, name: str) -> Any:
        if name not in self._names:
            return health_pb2.HealthCheckResponse(status="SERVICE_UNKNOWN")
        status = "NOT_SERVING" if self._engine.unready_reason() else "SERVING"
        return health_pb2.HealthCheckResponse(status=status)
