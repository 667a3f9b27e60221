"""Asks a server what it serves, and reads a version's signatures, card and vocabulary over the same channel."""

from __future__ import annotations

from collections.abc import Callable

from protos.model_card import CARD, IDS, SIGNATURE, SUBWORD
from worker.errors import ModelGone, ModelMismatch, ServingRejected, ServingUnavailable
from worker.ports import BuiltEncoder
from worker.records import DType, EncoderSpec, Tensor
from worker.serving.errors import bad_reply, no_version, unavailable
from worker.serving.options import Options
from worker.serving.signature import (
    Endpoint,
    check_vocabulary,
    describe,
    encoder_spec,
    has_vocabulary,
    parse_card,
)
from worker.serving.wire import (
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    PREDICT,
    metadata_request,
    predict_request,
    read_metadata,
    read_output,
    read_states,
    read_strings,
    status_request,
)

EncoderFactory = Callable[[EncoderSpec], BuiltEncoder]
"""Makes the encoder of one model version. Raises ModelMismatch or ValueError where the vocabulary cannot be used."""

Ask = Callable[[str, bytes, str], bytes]
"""One call waited for: method, request, and what it is for. Raises ServingUnavailable, ServingRejected or ModelGone."""

VOCABULARY_ROWS = 4_096
"""Subwords asked for at once: their reply stays far below gRPC's usual limit of 4 MiB."""


class Reader:
    """Blocks for as long as `ask` does. Every method raises ServingUnavailable."""

    def __init__(self, ask: Ask, options: Options, make_encoder: EncoderFactory, vocabulary: bytes) -> None:
        """`vocabulary` is the content of the file to use for a model that does not serve its own."""
        self._ask = ask
        self._options = options
        self._make_encoder = make_encoder
        self._vocabulary = vocabulary

    def states(self) -> dict[int, str]:
        """The state of every version of the model."""
        model, target = self._options.model, self._options.target
        what = f"GetModelStatus of model {model} at {target}"
        try:
            return read_states(self._ask(GET_MODEL_STATUS, status_request(model), what), what)
        except ModelGone as error:
            raise no_version(f"The server at {target} has no model {model}: {error}") from error
        except ServingRejected as error:
            raise ServingUnavailable(str(error), status=error.status) from error

    def labelled(self, label: str) -> int:
        """The version that bears a label. GetModelStatus ignores labels (model_servers/get_model_status_impl.cc),
        GetModelMetadata follows them."""
        what = f"Version label {label} of model {self._options.model} at {self._options.target}"
        request = metadata_request(self._options.model, label=label)
        try:
            version, _ = read_metadata(self._ask(GET_MODEL_METADATA, request, what), what)
        except (ModelGone, ServingRejected) as error:  # an unknown label is INVALID_ARGUMENT
            raise no_version(str(error)) from error
        return version

    def describe(self, version: int) -> Endpoint:
        """How to use a version. Raises ModelMismatch."""
        what = f"GetModelMetadata of version {version} of model {self._options.model} at {self._options.target}"
        reply = self._about(version, GET_MODEL_METADATA, metadata_request(self._options.model, version=version), what)
        answered, signatures = read_metadata(reply, what)
        if answered != version:
            raise bad_reply(what, f"it is about version {answered}")
        card = parse_card(self._look_up(version, CARD, range(1))[0]) if has_vocabulary(signatures) else None
        return describe(version, signatures, card, self._options)

    def build(self, endpoint: Endpoint) -> BuiltEncoder:
        """The encoder of the version's own vocabulary. Raises ModelMismatch."""
        spec = self._spec(endpoint)
        try:
            built = self._make_encoder(spec)
        except ValueError as error:
            raise ModelMismatch(f"The vocabulary of version {endpoint.version} cannot be used: {error}.") from error
        check_vocabulary(endpoint, built)
        return built

    def _spec(self, endpoint: Endpoint) -> EncoderSpec:
        if endpoint.card is None or endpoint.dtype is DType.TEXT:
            return encoder_spec(endpoint, self._options, vocabulary=self._vocabulary)
        ids = range(1, endpoint.card.subwords + 1)
        chunks = [ids[start : start + VOCABULARY_ROWS] for start in range(0, len(ids), VOCABULARY_ROWS)]
        subwords = [subword for chunk in chunks for subword in self._look_up(endpoint.version, SUBWORD, chunk)]
        return encoder_spec(endpoint, self._options, subwords=subwords)

    def _look_up(self, version: int, output: str, ids: range) -> list[bytes]:
        """One output of the signature `vocabulary`."""
        what = f"Signature {SIGNATURE} of version {version} of model {self._options.model} at {self._options.target}"
        content = b"".join(number.to_bytes(4, "little") for number in ids)
        tensor = Tensor(DType.INT32, (len(ids),), content)
        request = predict_request(
            self._options.model, version, SIGNATURE, input_name=IDS, output_name=output, tensor=tensor
        )
        reply = self._about(version, PREDICT, request, what)
        return read_strings(read_output(reply, output, version, what), rows=len(ids), what=what)

    def _about(self, version: int, method: str, request: bytes, what: str) -> bytes:
        """A question about a version that was AVAILABLE a moment ago."""
        try:
            return self._ask(method, request, what)
        except ModelGone as error:
            raise unavailable(f"Version {version} went away while it was read: {error}") from error
        except ServingRejected as error:
            raise ModelMismatch(str(error)) from error
