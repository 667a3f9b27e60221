"""Builds the subword vocabulary. Encoding with it is `worker.text`'s, for training and serving alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trainer.quiet import tfds
from worker.text.vocabulary import Vocabulary, has_line_break

DEFAULT_SIZE = 2**13
SAMPLE_CHARACTERS = 8_000_000
"""Characters of the training part that are looked at: a third of the IMDb reviews."""
FIXED_IDS = 1 + 256
"""Padding and the bytes, which are in every vocabulary."""


LONGEST_INNER = 2
"""Letters of a subword that no word ends with. tfds would spend half of the ids on longer ones, each met in a few words and
as good as a guess in any other ("awe" of "awesome" in "aweful"); so these ids go to whole words and their endings."""


def build(texts: Iterable[str], size: int = DEFAULT_SIZE) -> Vocabulary:
    """A vocabulary of about `size` ids (within 1 % where the texts allow it, padding and the 256 bytes included).

    The same texts in the same order give the same vocabulary. Takes about half a minute of CPU for the IMDb reviews."""
    sample, characters = [], 0
    for text in texts:
        sample.append(text)
        characters += len(text)
        if characters >= SAMPLE_CHARACTERS:
            break
    encoder = _search(characters, size).build_from_corpus(sample, target_vocab_size=size)
    return Vocabulary(subword for subword in encoder.subwords if not has_line_break(subword))


def _is_kept(subword: str) -> bool:
    return len(subword) <= LONGEST_INNER or subword.endswith("_") or not subword.isalpha()


def _search(characters: int, size: int) -> Any:
    """tfds' encoder class, without long subwords inside words, and quicker at finding a vocabulary of the wanted size.

    tfds halves its way down from the most frequent word's count to the count a subword must reach. Each position of the
    corpus is counted for one subword, so a vocabulary of n subwords that all reach a count holds at most characters / n
    for it: every higher count gives too few, and tfds spends half of its minute there. Those are answered unsearched."""
    highest_count = characters / max(1, 0.99 * size - FIXED_IDS)

    class Search(tfds.deprecated.text.SubwordTextEncoder):  # type: ignore[misc]  # tfds ships no types
        @classmethod
        def _build_from_token_counts(cls, *, min_token_count: int, **others: Any) -> Any:
            if min_token_count > highest_count:
                return cls(vocab_list=[])
            built = super()._build_from_token_counts(min_token_count=min_token_count, **others)
            return cls(vocab_list=[subword for subword in built.subwords if _is_kept(subword)])

    return Search
