"""ports.Model over gRPC: TensorFlow Serving, or anything that speaks its PredictionService and ModelService.

The only module that imports grpc. What goes over the wire is made and read in `wire`, what a model must be like is in
`signature`, which version is taken in `versions`, how many calls run at once in `calls` and `limiter`, and what a status
means in `errors`; `reader` asks a server what it serves, `trial` whether it works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Any

import grpc

from protos.serving.tensor_pb2 import TensorProto
from worker.errors import Cause, ConfigError, ModelGone, ModelMismatch, ServingRejected, ServingUnavailable
from worker.ports import BuiltEncoder, Clock, Events, ServedModel
from worker.records import Retry, Tensor
from worker.serving.calls import Calls, Prediction, Rpc
from worker.serving.errors import error_for, given_up, meaning_of, unavailable
from worker.serving.options import Options, read_file
from worker.serving.reader import EncoderFactory, Reader
from worker.serving.signature import Endpoint, Served
from worker.serving.trial import try_out
from worker.serving.versions import AVAILABLE, Watcher, choose, is_label
from worker.serving.wire import PREDICT, Scores, predict_request, read_output, read_scores

__all__ = ["EncoderFactory", "GrpcModel", "Options"]

KEPT_VERSIONS = 3
"""Encoders kept: the version in use, the one before it while its last windows finish, and one to go back to."""

CHANNEL_OPTIONS = (
    ("grpc.enable_retries", 0),  # the pipeline decides what is sent again, and counts it
    ("grpc.max_send_message_length", -1),  # we check the size ourselves, and can say what to do about it
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),  # a reply has some bytes a review; this is far beyond
    # A server that comes back is noticed within two seconds, however long it was away; grpc's own limit is two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A peer that vanished without a word is noticed while calls wait for it; an idle connection is not probed, since
    # servers end connections that ping too often.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.enable_http_proxy", 0),  # http_proxy is meant for the web; the model server stands beside the worker
    ("grpc.use_local_subchannel_pool", 1),  # closing the channel closes its connection
)


class GrpcModel:
    """The model server. Thread-safe; one channel, and one thread that watches for new versions from the first refresh."""

    def __init__(self, options: Options, make_encoder: EncoderFactory, events: Events, clock: Clock) -> None:
        """Opens nothing yet. Raises ConfigError for files that cannot be read."""
        self._options = options
        self._events = events
        vocabulary = read_file(options.vocabulary_file, "The vocabulary file") if options.vocabulary_file else b""
        self._channel = _channel(options)
        self._reader = Reader(self._ask, options, make_encoder, vocabulary)
        predict: Any = self._channel.unary_unary(PREDICT)
        send: Callable[[bytes], Rpc] = partial(predict.future, timeout=options.request_timeout_seconds)
        self._calls = Calls(send, options.max_requests, events, clock, self._outage)
        self._watcher = Watcher(self._watch, options.poll_seconds)
        self._refreshing = Lock()
        """Held through a refresh; guards `_known`."""
        self._known: dict[int, Served] = {}
        """Versions met, the one last used at the end."""
        self._outages = 0
        self._checked_after = 0
        """After an outage the server may have come back with another model under the same version number."""
        self._current: Served | None = None
        self._why_none = f"The model server at {options.target} has not been asked yet."

    # --- ports.Model ---------------------------------------------------------------------------------------------

    def current(self) -> ServedModel:
        """See ports.Model. During an outage, the last version known."""
        return self._in_use()

    def refresh(self) -> ServedModel:
        """See ports.Model. The first call starts the watch for new versions."""
        with self._refreshing:
            self._watcher.start()
            try:
                states = self._reader.states()
                try:
                    served = self._served(self._wanted(states))
                except ModelMismatch as error:
                    served = self._stay(states, error)
            except (ServingUnavailable, ModelMismatch) as error:
                self._note(error)
                raise
            if served is not self._current:
                self._current = served
                self._events.serving(served)
            return served

    def predict(self, served: ServedModel, tensor: Tensor) -> Prediction:
        """See ports.Model. `served` must come from this object: TypeError."""
        if not isinstance(served, Served):
            raise TypeError(f"version {served.version} of {served.name} was given out by another model")
        request, read = self._prediction(served, tensor)
        prediction = Prediction(request, read, self._what(served.version), self._calls)
        if len(request) > self._options.max_request_bytes:
            limit = self._options.max_request_bytes
            why = f"the request has {len(request):,} bytes; the limit is {limit:,}."
            prediction.settle(ServingRejected(f"{prediction.what}: {why}", status="RESOURCE_EXHAUSTED"))
        else:
            self._calls.submit(prediction)
        return prediction

    def probe(self) -> None:
        """See ports.Model. Raises ModelGone when the version in use is not served any more. A request that the server
        refuses has been answered, too."""
        served = self._in_use()
        request, read = self._prediction(served, served.probe)
        with suppress(ServingRejected):
            read(self._ask(PREDICT, request, self._what(served.version)))

    def close(self) -> None:
        """See ports.Model. Returns once the watching thread has ended."""
        self._calls.close()
        self._channel.close()  # ends what the watcher may be waiting for
        self._watcher.close(self._options.request_timeout_seconds)

    def _in_use(self) -> Served:
        served = self._current
        if served is None:
            raise unavailable(self._why_none)
        return served

    # --- one prediction ------------------------------------------------------------------------------------------

    def _prediction(self, served: Served, tensor: Tensor) -> tuple[bytes, Callable[[bytes], Scores]]:
        """The request, and how its reply is read."""
        endpoint, what = served.endpoint, self._what(served.version)
        rows, bounded = tensor.shape[0], not self._options.logits

        def read(reply: bytes) -> Scores:
            output = read_output(reply, endpoint.output_name, endpoint.version, what)
            return read_scores(output, rows=rows, columns=endpoint.columns, bounded=bounded, what=what)

        return self._request(endpoint, tensor), read

    def _request(self, endpoint: Endpoint, tensor: Tensor) -> bytes:
        """Predict by this version."""
        if endpoint.as_column:
            tensor = Tensor(tensor.dtype, (tensor.shape[0], 1), tensor.content, tensor.strings)
        return predict_request(
            self._options.model,
            endpoint.version,
            endpoint.signature,
            input_name=endpoint.input_name,
            output_name=endpoint.output_name,
            tensor=tensor,
        )

    def _what(self, version: int) -> str:
        return f"Predict by version {version} of model {self._options.model} at {self._options.target}"

    def _ask(self, method: str, request: bytes, what: str) -> bytes:
        """One call, waited for. Raises ServingUnavailable, ServingRejected or ModelGone."""
        try:
            reply: bytes = self._channel.unary_unary(method)(request, timeout=self._options.request_timeout_seconds)
        except grpc.RpcError as error:
            status, details = error.code().name, error.details() or ""
            if meaning_of(status, details).outage:
                self._outage()
            raise error_for(status, details, what) from error
        except ValueError as error:  # how grpc says that the channel is closed
            raise given_up(what, str(error)) from error
        return reply

    def _tried_out(self, endpoint: Endpoint, built: BuiltEncoder) -> Served:
        """The version, with its probe. Raises ModelMismatch where its scores are of no use, ServingUnavailable."""
        version, what = endpoint.version, self._what(endpoint.version)

        def ask(tensor: Tensor) -> TensorProto:
            try:
                reply = self._ask(PREDICT, self._request(endpoint, tensor), what)
            except ModelGone as error:
                raise unavailable(f"Version {version} went away while it was tried: {error}") from error
            return read_output(reply, endpoint.output_name, version, what)

        def read(output: TensorProto) -> Sequence[float]:
            return read_scores(output, rows=1, columns=endpoint.columns, bounded=False, what=what)[0]

        return Served(
            name=self._options.model,
            version=version,
            labels=endpoint.labels,
            threshold=endpoint.threshold,
            encoder=built.encoder,
            digest=built.digest,
            length=endpoint.length,
            uncertain=endpoint.uncertain,
            endpoint=endpoint,
            probe=try_out(built.encoder, ask, read, logits=self._options.logits, what=what),
        )

    def _outage(self) -> None:
        self._outages += 1

    # --- which version -------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Never raises: an outage ends some day, and a version that does not fit may be replaced by one that does."""
        try:
            self.refresh()
        except Exception as error:  # noqa: BLE001  whatever it was, without this thread no new version would be seen
            status = error.status if isinstance(error, ServingUnavailable) else ModelMismatch.status
            self._events.retrying(Retry("model", status, 1, self._options.poll_seconds, str(error)))

    def _wanted(self, states: Mapping[int, str]) -> int:
        if is_label(self._options.version):
            return self._reader.labelled(self._options.version)
        return choose(states, self._options.version, self._options.model)

    def _stay(self, states: Mapping[int, str], error: ModelMismatch) -> Served:
        """A new version that does not fit stops nobody as long as the one in use is still served."""
        served = self._current
        if served is None or states.get(served.version) != AVAILABLE:
            raise error
        self._events.retrying(Retry("model", error.status, 1, self._options.poll_seconds, str(error)))
        return served

    def _note(self, error: ServingUnavailable | ModelMismatch) -> None:
        """Remembers why there is no version. An outage leaves the one in use: the server said nothing about it."""
        self._why_none = str(error)
        gone = isinstance(error, ModelMismatch) or error.cause is Cause.NO_VERSION
        if gone and self._current is not None:
            self._current = None
            self._events.serving(None)

    def _served(self, version: int) -> Served:
        """The version with its encoder: the one we know, unless the server was away and brought another model."""
        known, outages = self._known.get(version), self._outages
        if known is None or outages != self._checked_after:
            endpoint = self._reader.describe(version)
            if known is None or known.endpoint != endpoint:
                known = self._tried_out(endpoint, self._reader.build(endpoint))
            if outages != self._checked_after:
                self._known.clear()  # the others have not been compared; each is when its turn comes
                self._checked_after = outages
        self._known.pop(version, None)
        self._known[version] = known
        while len(self._known) > KEPT_VERSIONS:
            del self._known[next(iter(self._known))]
        return known


def _channel(options: Options) -> Any:
    if not options.ca_file:
        if options.cert_file or options.key_file:
            raise ConfigError(
                "A certificate or key for the model server also needs the authorities' file, serving_ca_file."
            )
        return grpc.insecure_channel(options.target, options=CHANNEL_OPTIONS)
    if bool(options.cert_file) != bool(options.key_file):
        raise ConfigError("serving_cert_file and serving_key_file belong together; only one of them is set.")
    certificate = read_file(options.cert_file, "The certificate file") if options.cert_file else None
    key = read_file(options.key_file, "The key file") if options.key_file else None
    authorities = read_file(options.ca_file, "The authorities' file")
    return grpc.secure_channel(
        options.target, grpc.ssl_channel_credentials(authorities, key, certificate), options=CHANNEL_OPTIONS
    )
