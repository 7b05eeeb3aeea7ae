"""Around every call over gRPC: gives it its id, answers its errors, counts it, and writes its access line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import grpc

from service.errors import UNFORESEEN, ServiceError, log_error
from service.exchange import CLIENT_LEFT, Exchange
from service.logs import REQUEST_ID
from service.observer import Observing

_METHOD = "gRPC"
"""Stands in the access log where a request over HTTP has its method."""
_ID = "x-request-id"
_NEARLY_OVER_SECONDS = 0.05
"""A client ends a call at its own deadline, whose news may come before the deadline does here."""

_log = logging.getLogger(__name__)


class Calls(grpc.aio.ServerInterceptor):
    """Sees calls through that have one answer. A stream does so with `seen`, for each of its requests.

    Statuses are counted and logged as HTTP has them, so that one alert is for both.
    """

    def __init__(self, observing: Observing) -> None:
        self._observing = observing

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Puts the answering around a method that has one answer."""
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        async def behavior(request: Any, context: Any) -> Any:
            try:
                with self.seen(details.method, context) as exchange:
                    context.set_trailing_metadata(((_ID, exchange.request_id),))
                    return await handler.unary_unary(request, context)
            except ServiceError as error:
                await context.abort(getattr(grpc.StatusCode, error.grpc_status), str(error))
            except NotImplementedError:  # by generated code, which has said so
                raise
            except Exception:
                await context.abort(grpc.StatusCode.INTERNAL, UNFORESEEN)

        return grpc.unary_unary_rpc_method_handler(
            behavior,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    @contextmanager
    def seen(self, path: str, context: Any) -> Iterator[Exchange]:
        """Makes an exchange current while the block answers a request, then counts and logs it. Errors go on.

        Args:
            path: `/service/method`.
            context: Of the call.
        """
        began = perf_counter()
        chosen = self._observing.request_ids.choose(_request_id(context))
        exchange = Exchange(chosen.decode(), received=began)
        exchange.make_current()
        REQUEST_ID.set(exchange.request_id)  # never reset: each call has a task of its own
        status = 200
        try:
            yield exchange
        except ServiceError as error:
            status, exchange.error = error.status, str(error)
            log_error(_METHOD, path, error)
            raise
        except asyncio.CancelledError:
            remaining = context.time_remaining()
            is_late = remaining is not None and remaining < _NEARLY_OVER_SECONDS
            status = 504 if is_late else CLIENT_LEFT
            raise
        except NotImplementedError:
            status = 501
            raise
        except Exception:
            status = 500
            _log.exception("%s failed.", path)
            raise
        finally:
            self._observing.end(_METHOD, path, status, exchange, began)


def _request_id(context: Any) -> bytes | None:
    for name, value in context.invocation_metadata() or ():
        if name == _ID:
            return str(value).encode()
    return None
