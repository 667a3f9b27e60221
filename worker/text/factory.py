"""Which encoder a model version gets. The one place that chooses between encoders of the same ids."""

from __future__ import annotations

from contextlib import suppress

from protos.model_card import EncoderKind
from worker.ports import BuiltEncoder, Encoder
from worker.records import DType, EncoderSpec
from worker.text import compiled
from worker.text.compiled import CompiledEncoder
from worker.text.normalising import NormalisingEncoder, normaliser
from worker.text.raw_text import TextEncoder
from worker.text.subwords import SubwordEncoder
from worker.text.vocabulary import Vocabulary
from worker.text.word_pieces import WordPieceEncoder


def build_encoder(spec: EncoderSpec) -> BuiltEncoder:
    """The encoder of one model version, which normalises first where its card says so.

    Raises ConfigError or ValueError for a vocabulary that cannot be used, ModelMismatch for an unknown normaliser."""
    built = _build(spec)
    return built._replace(encoder=normalised(built.encoder, spec.normaliser))


def normalised(encoder: Encoder, name: str) -> Encoder:
    """The same encoder, for texts that are normalised as this name says; itself for the empty name.

    Raises ModelMismatch for a name that is not known."""
    return NormalisingEncoder(encoder, normaliser(name)) if name else encoder


def _build(spec: EncoderSpec) -> BuiltEncoder:
    if spec.kind is EncoderKind.TEXT:
        return BuiltEncoder(TextEncoder())
    if spec.kind is EncoderKind.WORDPIECE:
        word_pieces = WordPieceEncoder(spec)
        return BuiltEncoder(word_pieces, word_pieces.vocabulary_size, word_pieces.digest)
    vocabulary = Vocabulary.parse(spec.vocabulary) if spec.vocabulary else Vocabulary(spec.subwords)
    encoder = subword_encoder(
        vocabulary, max_tokens=spec.max_tokens, dtype=spec.dtype, padding_id=spec.padding_id, length=spec.length
    )
    return BuiltEncoder(encoder, vocabulary.size, vocabulary.digest)


def subword_encoder_name() -> str:
    """Which encoder of subwords this installation has: `compiled`, or `automaton` where there was no compiler."""
    return CompiledEncoder.name if compiled.available() else SubwordEncoder.name


def subword_encoder(
    vocabulary: Vocabulary,
    *,
    max_tokens: int,
    dtype: DType = DType.INT32,
    padding_id: int = 0,
    length: int | None = None,
) -> Encoder:
    """The fastest encoder there is for this vocabulary; whichever it is, the ids are those of `Vocabulary.encode_ids`.

    Raises ValueError for a dtype that holds no ids."""
    if compiled.available():
        with suppress(ValueError):  # too many subwords for it; a dtype that holds no ids is refused below
            return CompiledEncoder(vocabulary, max_tokens=max_tokens, dtype=dtype, padding_id=padding_id, length=length)
    return SubwordEncoder(vocabulary, max_tokens=max_tokens, dtype=dtype, padding_id=padding_id, length=length)
