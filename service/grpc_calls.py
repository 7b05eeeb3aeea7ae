"""Around every call over gRPC: gives it its id, answers its errors, counts it, and writes its access line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from service.errors import UNFORESEEN, DeadlineExceeded, InvalidRequest, PayloadTooLarge, ServiceError, log_error
from service.exchange import CLIENT_LEFT, Exchange
from service.logs import REQUEST_ID
from service.observer import Observing

_METHOD = "gRPC"
"""Stands in the access log where a request over HTTP has its method."""
_ID = "x-request-id"
_LONGEST_MESSAGE = 2000
"""Bytes of an error, each of which may become three in a trailer; clients take 8 KiB of those."""
_NEARLY_OVER_SECONDS = 0.05
"""A client ends a call at its own deadline, whose news may come before the deadline does here."""

_log = logging.getLogger(__name__)


class Calls(grpc.aio.ServerInterceptor):
    """Sees calls through that have one answer. A stream does so with `seen`, for each of its requests.

    Statuses are counted and logged as HTTP has them, so that one alert is for both.

    Args:
        observing: Sees requests through, whatever they came by.
        largest_bytes: Largest message that the server takes.
        protocols: Of the methods that infer, which are counted, by `/service/method`.
    """

    def __init__(self, observing: Observing, largest_bytes: int, protocols: Mapping[str, str]) -> None:
        self._observing = observing
        self._largest_bytes = largest_bytes
        self._protocols = protocols

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Puts the answering around a method that has one answer.

        gRPC calls no such method if the message is too large, and tells nobody. So it is made one of many messages,
        which are the same on the wire, and reads its one message itself.
        """
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        async def behavior(_: Any, context: Any) -> Any:
            try:
                with self.seen(details.method, context) as exchange:
                    context.set_trailing_metadata(((_ID, exchange.request_id),))
                    request = await self._read(context)
                    exchange.received = perf_counter()
                    return await handler.unary_unary(request, context)
            except ServiceError as error:
                with suppress(grpc.aio.InternalError):  # the call is over, as after a message that is too large
                    await context.abort(getattr(grpc.StatusCode, error.grpc_status), _cut(str(error)))
            except NotImplementedError:  # by generated code, which has said so
                raise
            except Exception:
                await context.abort(grpc.StatusCode.INTERNAL, UNFORESEEN)

        return grpc.stream_unary_rpc_method_handler(
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
        exchange.protocol = self._protocols.get(path, "")
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
            status = 504 if _is_over(context) else CLIENT_LEFT
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

    async def _read(self, context: Any) -> Any:
        """The one message of a call.

        Raises:
            DeadlineExceeded: its time was over before that.
            PayloadTooLarge: there is none, which gRPC has already answered where it is for this reason.
            InvalidRequest: it is no message of its type.
        """
        try:
            request = await context.read()
        except DecodeError as error:
            raise InvalidRequest("The message is not of the type that the method takes.") from error
        if request is not grpc.aio.EOF:
            return request
        if _is_over(context):
            raise DeadlineExceeded("The time of the call was over before its message had come.")
        raise PayloadTooLarge(
            f"There must be a message of at most {self._largest_bytes} bytes. Received: none, or more."
        )


def _cut(message: str) -> str:
    """A message that names what the caller has sent may be as long as that was."""
    text = message.encode()
    return message if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE].decode(errors="ignore") + "…"


def _is_over(context: Any) -> bool:
    """Whether no time is left of a call."""
    remaining = context.time_remaining()
    return remaining is not None and remaining < _NEARLY_OVER_SECONDS


def _request_id(context: Any) -> bytes | None:
    for name, value in context.invocation_metadata() or ():
        if name == _ID:
            return str(value).encode()
    return None
