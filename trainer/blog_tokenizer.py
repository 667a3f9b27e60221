"""Reads the vocabulary out of a pickled tfds tokenizer, without running anything that the pickle asks for.

A pickle is a program. This one may name the encoder's own classes and nothing else, and even those are not imported:
each name stands for an empty shell that takes the object's attributes, so no code of anybody's runs."""

from __future__ import annotations

import io
import pickle
from typing import Any

from trainer.errors import DataError
from worker.text import Vocabulary

MOST_BYTES = 256 * 2**20
"""A real one takes 5 to 30 MB, most of it an empty cache."""
_FOLDERS = ("tensorflow_datasets.core.deprecated.text", "tensorflow_datasets.core.features.text")
"""Where tfds keeps the classes now, and where it kept them until 2020."""


class _Shell:
    """Stands for an object of the encoder's; its attributes are what the pickle says they are."""

    def __init__(self, *_: object) -> None:
        pass


class _Encoder(_Shell):
    """Stands for the SubwordTextEncoder."""


def _no_pattern(*_: object) -> None:
    """Stands for re.compile: the tokenizer's patterns are not needed."""


ADMITTED: dict[tuple[str, str], Any] = {
    **{(f"{folder}.subword_text_encoder", "SubwordTextEncoder"): _Encoder for folder in _FOLDERS},
    **{(f"{folder}.text_encoder", "Tokenizer"): _Shell for folder in _FOLDERS},
    ("re", "_compile"): _no_pattern,
    ("copyreg", "_reconstructor"): lambda shell, *_: shell() if shell in (_Encoder, _Shell) else None,
    ("copy_reg", "_reconstructor"): lambda shell, *_: shell() if shell in (_Encoder, _Shell) else None,
    ("builtins", "object"): object,
    ("__builtin__", "object"): object,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
}
"""The names a pickled encoder holds, and what they stand for here."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Called for every name in the pickle."""
        try:
            return ADMITTED[module, name]
        except KeyError:
            raise DataError(
                f"the pickle asks for {module}.{name}, which is no part of a tfds SubwordTextEncoder; it was not loaded"
            ) from None


def read(data: bytes) -> Vocabulary:
    """The vocabulary of a pickled SubwordTextEncoder.

    Raises DataError for a pickle that names anything else, and for what is no such pickle."""
    if len(data) > MOST_BYTES:
        raise DataError(f"it has {len(data):,} bytes, more than a pickled tokenizer can have ({MOST_BYTES:,})")
    try:
        encoder = _Unpickler(io.BytesIO(data)).load()
    except DataError:
        raise
    except Exception as error:  # a broken pickle raises whatever the broken step raises
        raise DataError(f"it is not a pickle that can be read: {error}") from error
    subwords = getattr(encoder, "_subwords", None) if isinstance(encoder, _Encoder) else None
    if not isinstance(subwords, list) or not all(isinstance(subword, str) for subword in subwords):
        raise DataError("it is a pickle, but not of a tfds SubwordTextEncoder")
    try:
        return Vocabulary(subwords)
    except ValueError as error:
        raise DataError(f"its subwords are no vocabulary: {error}") from error
