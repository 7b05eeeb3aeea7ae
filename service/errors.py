"""What can go wrong, as a caller sees it.

    ServiceError            500  our fault
    ├── InvalidRequest      400  the body is not what the model takes
    ├── NotAllowed          403  the settings do not allow it
    ├── NotFound            404  no such model, version or page
    ├── PayloadTooLarge     413  the body is larger than the settings allow
    ├── TooManyValues       413  rows or values of the body are more than the settings allow
    ├── UnsupportedMedia    415
    ├── NotInJson           422  the model answers with numbers that JSON cannot carry
    ├── QueueFull           429  more rows wait than the settings allow
    ├── NotSupported        501  part of a protocol that is not offered
    ├── NotReady            503  loading, draining, or no version can be served
    └── DeadlineExceeded    504  not answered within the time that the caller or the settings allow

Raised anywhere, rendered here and only here: `{"error": "..."}`.
"""

from __future__ import annotations

import logging
from typing import ClassVar

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.exchange import CLIENT_LEFT, Exchange

_log = logging.getLogger(__name__)


class ServiceError(Exception):
    """An error with a status, over HTTP and over gRPC, and a message that is meant for the caller."""

    status: ClassVar[int] = 500
    grpc_status: ClassVar[str] = "INTERNAL"
    headers: dict[str, str] = {}


class InvalidRequest(ServiceError):  # noqa: N818 - the caller's mistake, named as such
    """The request is not what the model takes. The message says what was expected and what came."""

    status = 400
    grpc_status = "INVALID_ARGUMENT"


class NotAllowed(ServiceError):  # noqa: N818
    """The settings do not allow it. The message names the one that would."""

    status = 403
    grpc_status = "PERMISSION_DENIED"


class NotFound(ServiceError):  # noqa: N818
    """There is no such model, version or page. The message lists those that exist."""

    status = 404
    grpc_status = "NOT_FOUND"


class PayloadTooLarge(ServiceError):  # noqa: N818
    """The body is larger than the settings allow."""

    status = 413
    grpc_status = "RESOURCE_EXHAUSTED"
    # The rest of the body is not read, so the connection cannot be used again.
    headers = {"connection": "close"}


class TooManyValues(ServiceError):  # noqa: N818
    """The body holds more rows or values than the settings allow. It has been read, so the connection stays."""

    status = 413
    grpc_status = "RESOURCE_EXHAUSTED"


class UnsupportedMedia(ServiceError):  # noqa: N818
    """The body is of a type that the endpoint does not take."""

    status = 415
    grpc_status = "INVALID_ARGUMENT"


class NotInJson(ServiceError):  # noqa: N818
    """The model answers with numbers that JSON cannot carry. The message names the forms that can."""

    status = 422
    grpc_status = "INVALID_ARGUMENT"


class QueueFull(ServiceError):  # noqa: N818
    """More rows wait than the settings allow. `retry_after` is in whole seconds, at least 1."""

    status = 429
    grpc_status = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.headers = {"retry-after": str(retry_after)}


class NotSupported(ServiceError):  # noqa: N818
    """A part of a protocol that is not offered here."""

    status = 501
    grpc_status = "UNIMPLEMENTED"


class NotReady(ServiceError):  # noqa: N818
    """Nothing can answer yet, or any more."""

    status = 503
    grpc_status = "UNAVAILABLE"
    headers = {"retry-after": "1"}


class DeadlineExceeded(ServiceError):  # noqa: N818
    """The request was not answered in time. Rows that had not reached the runtime never do."""

    status = 504
    grpc_status = "DEADLINE_EXCEEDED"


UNFORESEEN = "The service failed on this request. Its log says why."
"""What a caller is told of an error that is none of the above."""


def error_body(message: str) -> bytes:
    """The body that carries an error."""
    return orjson.dumps({"error": message})


def log_error(method: str, path: str, error: ServiceError) -> None:
    """Logs what is not the caller's mistake."""
    if error.status >= 500:
        is_passing = isinstance(error, NotSupported | NotReady | DeadlineExceeded)
        level, fault = (logging.INFO, None) if is_passing else (logging.ERROR, error)
        # Quoted, since a client chose part of it and a line break would look like another event.
        _log.log(level, "%s %r: %d %r", method, path, error.status, str(error), exc_info=fault)


def render(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """The answer that carries an error."""
    return Response(error_body(message), status, headers, media_type="application/json")


def install(app: FastAPI) -> None:
    """Makes `app` answer every error in our form."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _parameter_error)
    app.add_exception_handler(ClientDisconnect, _client_left)
    app.add_exception_handler(Exception, _unforeseen_error)


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)  # noqa: S101 - registered for it
    Exchange.of(request.scope).error = str(error)
    log_error(request.method, request.scope["path"], error)
    return render(error.status, str(error), error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own errors: unknown path and wrong method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    headers = dict(error.headers or {})
    if error.status_code == 404:
        return render(404, f"There is nothing at {request.scope['path']}. GET /docs lists what there is.", headers)
    if error.status_code == 405:
        allowed = headers.get("Allow", "another method")
        return render(405, f"{request.scope['path']} takes {allowed}. Received: {request.method}.", headers)
    return render(error.status_code, str(error.detail), headers)


async def _parameter_error(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
    """A query parameter that is not what its type says."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    first = error.errors()[0]
    return render(400, f"Parameter `{first['loc'][-1]}`: {first['msg']}. Received: {first['input']}.")


async def _client_left(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
    """Nobody reads this answer; without it, a caller who hangs up would be logged as a fault of ours."""
    return render(CLIENT_LEFT, "The client left before it was answered.")


async def _unforeseen_error(request: Request, error: Exception) -> Response:  # noqa: ARG001 - uvicorn logs it
    return render(500, UNFORESEEN)
