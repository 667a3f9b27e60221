"""Training reviews made new for every epoch, so that the model learns what a subword or a short text says by itself.

Two things happen to a review, both on token ids: some of its words are spelled in smaller subwords, as a word that is not
in the vocabulary would be ("awful" as aw|ful; known as subword regularisation or BPE dropout: Kudo 2018, Provilkov et al.
2020), and some reviews are cropped to a part of any length. Reviews that are validated, tested or served stay as they are.
What either does to the figures is in this folder's README."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from worker.text import Vocabulary

Tokens = npt.NDArray[np.int32]
SPELLED_SHARE = 0.3
"""Of the subwords that can be spelled in smaller ones, so many are, in each epoch others."""
CROPPED_SHARE = 0.25
SHORTEST_CROP_TOKENS = 8
SHORTEST_PREFIX = 2


class Augmentation:
    """Changes reviews at random. Equal seeds give equal changes, in the order of the calls."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        seed: int,
        *,
        spelled_share: float = SPELLED_SHARE,
        cropped_share: float = CROPPED_SHARE,
    ) -> None:
        self._random = np.random.default_rng(seed)
        self._spelled_share = spelled_share
        self._cropped_share = cropped_share
        spelled = [[], *(spelling(vocabulary, subword) for subword in vocabulary.subwords)]
        spelled += [[]] * (vocabulary.size - len(spelled))
        self._counts = np.array([len(pieces) for pieces in spelled])
        self._starts = np.cumsum(self._counts) - self._counts
        self._pieces = np.array([piece for pieces in spelled for piece in pieces], np.int32)

    def __call__(self, row: Tokens) -> Tokens:
        """A changed copy of one review's ids [length]; never empty unless the review is."""
        if self._random.random() < self._cropped_share:
            row = self._crop(row)
        return self._spell(row)

    def _crop(self, row: Tokens) -> Tokens:
        """A part of the review. Any order of magnitude is as likely, so most crops are short."""
        if len(row) <= SHORTEST_CROP_TOKENS:
            return row
        length = int(np.exp(self._random.uniform(np.log(SHORTEST_CROP_TOKENS), np.log(len(row)))))
        start = self._random.integers(0, len(row) - length + 1)
        return row[start : start + length]

    def _spell(self, row: Tokens) -> Tokens:
        """The review with some subwords replaced by smaller ones."""
        chosen = (self._random.random(len(row)) < self._spelled_share) & (self._counts[row] > 0)
        widths = np.where(chosen, self._counts[row], 1)
        tokens = np.repeat(row, widths)
        nth = np.arange(len(tokens)) - np.repeat(np.cumsum(widths) - widths, widths)
        replaced = np.repeat(chosen, widths)
        tokens[replaced] = self._pieces[self._starts[tokens[replaced]] + nth[replaced]]
        return tokens


def spelling(vocabulary: Vocabulary, subword: str) -> list[int]:
    """The ids that would stand for the subword if the vocabulary did not have it: its longest beginning that is there, and
    the rest as usual. Empty where only single characters could."""
    for end in range(len(subword) - 1, SHORTEST_PREFIX - 1, -1):
        beginning, rest = vocabulary.token_ids(subword[:end]), subword[end:]
        if len(beginning) == 1 and rest != "_":
            return beginning + vocabulary.token_ids(rest)
    return []
