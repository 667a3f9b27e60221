"""What a served model says of itself, checked against what we can feed and read. Pure.

A model tells its inputs and outputs by its signatures (GetModelMetadata); one exported by `inferry-trainer` also tells its
vocabulary and its card (see protos.model_card).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from protos.model_card import CARD, IDS, LABELS, MAX_TOKENS, SIGNATURE, SUBWORD, THRESHOLD, Card, EncoderKind
from protos.serving.prediction_pb2 import SignatureDef, TensorInfo
from worker.errors import ModelMismatch
from worker.ports import BuiltEncoder, ServedModel
from worker.records import DType, EncoderSpec, Tensor
from worker.serving.options import Options
from worker.serving.wire import TF_DTYPES, dtype_name, dtype_of

TFDS_HEADER = b"### SubwordTextEncoder"
"""How a tfds .subwords file begins; any other vocabulary file is a list of word pieces."""

_INPUT_DTYPES = (DType.INT32, DType.INT64, DType.FLOAT32, DType.TEXT)
"""float32, since Keras 2 gives a Sequential model that begins with an Embedding an input of its weights' dtype."""
_OUTPUT_DTYPES = (DType.FLOAT32, DType.FLOAT64)
_PROTO_METHODS = ("tensorflow/serving/classify", "tensorflow/serving/regress")  # they take serialised tf.Examples


class Endpoint(msgspec.Struct, frozen=True):
    """One signature of one version: what it is fed with, what it answers, and what that means."""

    version: int
    signature: str
    input_name: str
    dtype: DType
    length: int | None
    """Tokens a row must have; None: any number."""
    as_column: bool
    """A model that takes text in shape [n, 1] rather than [n]."""
    output_name: str
    columns: tuple[int, ...]
    """How many scores a row of the reply may hold."""
    labels: tuple[str, ...]
    threshold: float
    max_tokens: int
    padding_id: int
    card: Card | None
    uncertain: tuple[float, float] | None = None


class Served(ServedModel, frozen=True, kw_only=True):
    """A ServedModel that was tried out, and knows how it is called."""

    endpoint: Endpoint
    probe: Tensor
    """A request of one row that this version has answered well."""


def parse_card(content: bytes) -> Card:
    """Raises ModelMismatch."""
    try:
        return Card.parse(content)
    except ValueError as error:
        raise ModelMismatch(str(error)) from error


def has_vocabulary(signatures: Mapping[str, SignatureDef]) -> bool:
    """Whether the model serves its own vocabulary."""
    found = signatures.get(SIGNATURE)
    return found is not None and set(found.inputs) == {IDS} and {SUBWORD, CARD} <= set(found.outputs)


def describe(version: int, signatures: Mapping[str, SignatureDef], card: Card | None, options: Options) -> Endpoint:
    """How to use this version. Raises ModelMismatch, naming what the model really has."""
    model = f"Version {version} of model {options.model}"
    signature = signatures.get(options.signature)
    if signature is None:
        there = ", ".join(sorted(signatures)) or "none"
        raise ModelMismatch(f"{model} has no signature {options.signature}; it has {there}.")
    model = f"Signature {options.signature} of version {version} of model {options.model}"
    if signature.method_name in _PROTO_METHODS:
        raise ModelMismatch(f"{model} takes serialised tf.Examples ({signature.method_name}), not tensors.")
    input_name, fed = _only("input", signature.inputs, options.input_name, model)
    output_name, read = _named("output", signature.outputs, options.output_name, model)
    labels = options.labels or (card.labels if card else LABELS)
    dtype, length, as_column = _input(fed, f"{model}: input {_told(input_name, fed)}")
    limit = options.max_tokens or (card.max_tokens if card else MAX_TOKENS)
    threshold = options.threshold
    return Endpoint(
        version=version,
        signature=options.signature,
        input_name=input_name,
        dtype=dtype,
        length=length,
        as_column=as_column,
        output_name=output_name,
        columns=_columns(read, labels, f"{model}: output {_told(output_name, read)}"),
        labels=labels,
        threshold=threshold if threshold is not None else card.threshold if card else THRESHOLD,
        max_tokens=min(limit, length or limit),
        padding_id=card.padding_id if card else options.padding_id,
        card=card,
        # A threshold of the operator's own cuts once: the card's range goes with the card's threshold.
        uncertain=card.uncertain if card and threshold is None else None,
    )


def encoder_spec(
    endpoint: Endpoint, options: Options, *, subwords: Sequence[bytes] = (), vocabulary: bytes = b""
) -> EncoderSpec:
    """How to encode for the endpoint, from the subwords that the model told or from a vocabulary file.

    Raises ModelMismatch."""
    card = endpoint.card
    if endpoint.dtype is DType.TEXT:
        kind = EncoderKind.TEXT
    elif card is not None:
        kind = card.encoder
    elif vocabulary:
        kind = EncoderKind.SUBWORDS if vocabulary.startswith(TFDS_HEADER) else EncoderKind.WORDPIECE
    else:
        raise ModelMismatch(
            f"Version {endpoint.version} of model {options.model} takes token ids (input {endpoint.input_name}, "
            f"{dtype_name(TF_DTYPES[endpoint.dtype])} [-1, {endpoint.length or -1}]) and has no signature "
            f"`{SIGNATURE}` that tells how to make them; name its vocabulary file with `vocabulary`."
        )
    try:
        decoded = tuple(subword.decode() for subword in subwords)
    except UnicodeDecodeError as error:
        raise ModelMismatch(f"The model's vocabulary is not UTF-8: {error}.") from error
    return EncoderSpec(
        kind=kind,
        dtype=endpoint.dtype,
        max_tokens=endpoint.max_tokens,
        padding_id=endpoint.padding_id,
        length=endpoint.length,
        subwords=decoded,
        vocabulary=vocabulary,
        normaliser=card.normaliser if card else "",
    )


def check_vocabulary(endpoint: Endpoint, built: BuiltEncoder) -> None:
    """Holds the vocabulary against the card: encoding with another one gives scores that mean nothing.

    Raises ModelMismatch."""
    card = endpoint.card
    if card is None or endpoint.dtype is DType.TEXT:
        return
    for what, said, found in (
        ("digest", card.digest, built.digest),
        ("size", card.vocabulary_size, built.vocabulary_size),
    ):
        if said != found:
            raise ModelMismatch(
                f"Version {endpoint.version}: the vocabulary it serves has the {what} {found}, its card says {said}. "
                "Vocabulary and model do not belong together; export the model again."
            )


def _only(what: str, tensors: Mapping[str, TensorInfo], wanted: str, model: str) -> tuple[str, TensorInfo]:
    """The single tensor there is. The server wants every input fed, and we have one thing to feed."""
    if len(tensors) != 1:
        raise ModelMismatch(f"{model} has not one {what} but {len(tensors)}: {_all_told(tensors)}.")
    return _named(what, tensors, wanted, model)


def _named(what: str, tensors: Mapping[str, TensorInfo], wanted: str, model: str) -> tuple[str, TensorInfo]:
    if not wanted and len(tensors) == 1:
        return next(iter(tensors.items()))
    if wanted in tensors:
        return wanted, tensors[wanted]
    if wanted:
        raise ModelMismatch(f"{model} has no {what} {wanted}; it has {_all_told(tensors)}.")
    raise ModelMismatch(f"{model} has {len(tensors)} {what}s: {_all_told(tensors)}. Name one with `{what}_name`.")


def _input(info: TensorInfo, what: str) -> tuple[DType, int | None, bool]:
    """dtype, fixed length, and whether text goes in as a column."""
    dtype = dtype_of(info.dtype)
    if dtype not in _INPUT_DTYPES:
        raise ModelMismatch(f"{what}: only {_names(_INPUT_DTYPES)} can be fed.")
    shape = _shape(info)
    if shape is not None and (not shape or shape[0] != -1):
        raise ModelMismatch(f"{what}: the first dimension must be open (-1), one row for each review.")
    if dtype is DType.TEXT:
        if shape in (None, [-1]):
            return dtype, None, False
        if shape in ([-1, 1], [-1, -1]):
            return dtype, None, True
        raise ModelMismatch(f"{what}: text is fed in shape [-1] or [-1, 1].")
    if shape is not None and len(shape) != 2:
        raise ModelMismatch(f"{what}: token ids are fed in shape [-1, -1] or [-1, length].")
    return dtype, shape[1] if shape and shape[1] > 0 else None, False


def _columns(info: TensorInfo, labels: Sequence[str], what: str) -> tuple[int, ...]:
    """How many scores a row may hold: one for two labels, or one for each label."""
    if dtype_of(info.dtype) not in _OUTPUT_DTYPES:
        raise ModelMismatch(f"{what}: only {_names(_OUTPUT_DTYPES)} can be read as scores.")
    fitting = (1, 2) if len(labels) == 2 else (len(labels),)
    shape = _shape(info)
    if shape is None:
        return fitting
    if not 1 <= len(shape) <= 2:
        raise ModelMismatch(f"{what}: scores are read in shape [-1], [-1, 1] or [-1, labels].")
    width = shape[1] if len(shape) == 2 else 1
    if width == -1:
        return fitting
    if width not in fitting:
        raise ModelMismatch(f"{what}: {width} scores do not fit the {len(labels)} labels {', '.join(labels)}.")
    return (width,)


def _shape(info: TensorInfo) -> list[int] | None:
    """None: anything goes."""
    return None if info.tensor_shape.unknown_rank else [dim.size for dim in info.tensor_shape.dim]


def _names(dtypes: Sequence[DType]) -> str:
    return ", ".join(dtype_name(TF_DTYPES[dtype]) for dtype in dtypes)


def _told(name: str, info: TensorInfo) -> str:
    shape = _shape(info)
    return f"{name} ({dtype_name(info.dtype)} {'of any shape' if shape is None else shape})"


def _all_told(tensors: Mapping[str, TensorInfo]) -> str:
    return ", ".join(_told(name, info) for name, info in sorted(tensors.items())) or "none"
