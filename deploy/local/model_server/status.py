"""One error type for gRPC and REST: a gRPC status code and a message."""

from __future__ import annotations

from http import HTTPStatus

import grpc

_CODES = {code.value[0]: code for code in grpc.StatusCode}

# model_servers/http_server.cc, ToHTTPStatusCode
_HTTP = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.ABORTED: HTTPStatus.CONFLICT,
    grpc.StatusCode.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
}

# model_servers/grpc_status_util.cc, ToGRPCStatus
_GRPC_MESSAGE_LIMIT = 1024


class StatusError(Exception):
    """A request (or the load of a version) failed with this gRPC status code and message."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        """`CODE: message`, as TensorFlow Serving prints a status inside another message."""
        return f"{self.code.name}: {self.message}"

    @property
    def http_status(self) -> int:
        """The status code TensorFlow Serving's REST API gives for this error."""
        return int(_HTTP.get(self.code, HTTPStatus.INTERNAL_SERVER_ERROR))

    @property
    def grpc_message(self) -> str:
        """The message as it travels over gRPC: cut after 1,024 characters."""
        cut = len(self.message) > _GRPC_MESSAGE_LIMIT
        return self.message[:_GRPC_MESSAGE_LIMIT] + "...TRUNCATED" if cut else self.message


def status_of(number: int) -> grpc.StatusCode:
    """The status code with this number (tensorflow's error codes are gRPC's); UNKNOWN for any other."""
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)


def invalid_argument(message: str) -> StatusError:
    """The request itself is wrong."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def failed_precondition(message: str) -> StatusError:
    """The request does not fit what is served now."""
    return StatusError(grpc.StatusCode.FAILED_PRECONDITION, message)


def not_found(message: str) -> StatusError:
    """What the request names is not there."""
    return StatusError(grpc.StatusCode.NOT_FOUND, message)
