"""The REST API (model_servers/http_rest_api_handler.cc and http_rest_api_util.cc)."""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socket import AF_INET, AF_INET6
from socketserver import TCPServer, ThreadingMixIn
from threading import get_ident
from urllib.parse import unquote

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2
from tensorflow_serving.apis.model_pb2 import ModelSpec

from deploy.local.model_server.catalogue import Catalogue
from deploy.local.model_server.grpc_api import model_metadata, model_status
from deploy.local.model_server.json_inputs import parse_inputs
from deploy.local.model_server.json_outputs import outputs_body, predictions_body
from deploy.local.model_server.json_text import error_body, parse_object, value_error
from deploy.local.model_server.monitoring import Monitoring
from deploy.local.model_server.servable import DEFAULT_SIGNATURE
from deploy.local.model_server.status import StatusError, invalid_argument

_API = re.compile(r"/v1/.*", re.IGNORECASE | re.DOTALL)
_POST = re.compile(
    r"/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?:(classify|regress|predict)",
    re.IGNORECASE | re.ASCII,
)
_GET = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?(?:/(metadata))?",
    re.IGNORECASE | re.ASCII,
)
_MAX_VERSION = 2**63 - 1


def answer(catalogue: Catalogue, monitoring: Monitoring, method: str, path: str, body: bytes) -> bytes:
    """The JSON that answers one request, counted and timed. Raises StatusError."""
    match = {"POST": _POST, "GET": _GET}[method].fullmatch(path) if method in ("POST", "GET") else None
    name, version, label, what = match.groups() if match else (None, None, None, None)
    with monitoring.request(unquote(name or ""), what if what and method == "POST" else "", "REST"):
        if match is None:
            raise _malformed(method, path)
        try:
            return _answer(catalogue, method, path, body, _spec(name, version, label), what)
        except RecursionError as error:
            raise invalid_argument("JSON Parse error: Nested too deeply.") from error


def _answer(catalogue: Catalogue, method: str, path: str, body: bytes, spec: ModelSpec, what: str | None) -> bytes:
    if method == "POST":
        if what == "predict":
            return _predict(catalogue, spec, body)
        raise _unimplemented(what) if what in ("classify", "regress") else _malformed(method, path)
    if not spec.name:
        raise invalid_argument("Missing model name in request.")
    return _metadata(catalogue, spec) if what == "metadata" else _status(catalogue, spec)


def _malformed(method: str, path: str) -> StatusError:
    return invalid_argument(f"Malformed request: {method} {path}")


def _unimplemented(what: str) -> StatusError:
    return StatusError(grpc.StatusCode.UNIMPLEMENTED, f"{what} is not served here: TensorFlow Serving has it.")


def _spec(name: str | None, version: str | None, label: str | None) -> ModelSpec:
    spec = ModelSpec(name=unquote(name or ""))
    if version:
        if int(version) > _MAX_VERSION:
            raise invalid_argument(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(version)
    if label:
        spec.version_label = unquote(label)
    return spec


def _predict(catalogue: Catalogue, spec: ModelSpec, body: bytes) -> bytes:
    document = parse_object(body)
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise value_error(document, "not formatted correctly. 'signature_name' key must be a string value.")
    with catalogue.acquire(spec) as (_, servable):
        signature = servable.signatures.get(name or DEFAULT_SIGNATURE)
        if signature is None:
            raise invalid_argument(f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def')
        inputs, rows = parse_inputs(document, signature.inputs)
        outputs = servable.run(name, inputs)
    return predictions_body(outputs) if rows else outputs_body(outputs)


def _status(catalogue: Catalogue, spec: ModelSpec) -> bytes:
    reply = model_status(catalogue, get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
    return _json(reply).encode()


def _metadata(catalogue: Catalogue, spec: ModelSpec) -> bytes:
    """The two parts are put together as text there too, so the layout is the same."""
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
    reply = model_metadata(catalogue, request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    reply.metadata["signature_def"].Unpack(signatures)
    parts = [
        '{\n"model_spec":',
        _json(reply.model_spec),
        ',\n"metadata": {"signature_def": ',
        _json(signatures),
        "}\n}\n",
    ]
    return "".join(parts).encode()


def _json(message: Message) -> str:
    text: str = json_format.MessageToJson(
        message, indent=1, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return text + "\n"


class RestServer(ThreadingMixIn, TCPServer):
    """HTTP/1.1 with kept connections, a thread for each. Bound once made; `serve_forever` answers."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, catalogue: Catalogue, monitoring: Monitoring, address: str, port: int, *, metrics_path: str | None = None
    ) -> None:
        """`metrics_path`: where the metrics are served, None for nowhere. Raises OSError when the port cannot be had."""
        self.address_family = AF_INET6 if ":" in address else AF_INET
        self.catalogue = catalogue
        self.monitoring = monitoring
        self.metrics_path = metrics_path
        self.answering: set[int] = set()
        super().__init__((address, port), _Handler)

    def close(self, grace_seconds: float) -> None:
        """Takes no new connections, and gives requests that run up to `grace_seconds`."""
        self.shutdown()
        self.server_close()
        deadline = time.monotonic() + grace_seconds
        while self.answering and time.monotonic() < deadline:
            time.sleep(0.02)


class _Handler(BaseHTTPRequestHandler):
    server: RestServer
    protocol_version = "HTTP/1.1"
    server_version = "model-server"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave together

    def _answer(self) -> None:
        self.server.answering.add(get_ident())
        try:
            path = self.path.partition("?")[0]
            status, body = self._reply(path)
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if path == self.server.metrics_path else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.wfile.flush()
        finally:
            self.server.answering.discard(get_ident())

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _answer  # noqa: N815  # http.server looks for these names

    def _reply(self, path: str) -> tuple[int, bytes]:
        try:
            length = int(self.headers.get("Content-Length", "0"))
        except ValueError:
            length = -1
        if length < 0 or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            return HTTPStatus.LENGTH_REQUIRED, error_body("Send the body with a Content-Length.")
        body = self.rfile.read(length)
        if path == self.server.metrics_path:
            return HTTPStatus.OK, self.server.monitoring.page().encode()
        if not _API.fullmatch(path):
            return HTTPStatus.NOT_FOUND, error_body(f"Not found: {path}")
        try:
            return HTTPStatus.OK, answer(self.server.catalogue, self.server.monitoring, self.command, path, body)
        except StatusError as error:
            return error.http_status, error_body(error.message)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
        """Requests are not logged."""
