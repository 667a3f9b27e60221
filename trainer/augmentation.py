"""Training reviews made new for every epoch, so that the model learns what a subword or a short text says by itself.

Two things happen to a review, both on token ids: some of its words are spelled in smaller subwords, as a word that is not
in the vocabulary would be ("awful" as aw|ful; known as subword regularisation or BPE dropout: Kudo 2018, Provilkov et al.
2020), and some reviews are cropped to one sentence or a few in a row. A crop keeps its review's label, which it need not
bear out, and so counts for less. Reviews that are validated, tested or served stay as they are. What either does to the
figures is in this folder's README."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from worker.text import Vocabulary

Tokens = npt.NDArray[np.int32]
SPELLED_SHARE = 0.3
"""Of the subwords that can be spelled in smaller ones, so many are, in each epoch others."""
CROPPED_SHARE = 0.5
CROP_WEIGHT = 0.3
"""How much a crop counts, where a whole review counts 1."""
SHORTEST_CROP_TOKENS = 3
SHORTEST_PREFIX = 2
MOST_SPELLINGS = 4
"""Of one subword: those with the longest beginnings, which are most like how an unknown word is cut."""
_SENTENCE_END = re.compile(r"(?<=[.!?])(?=[\s<])|<br />")


class Augmentation:
    """Changes reviews at random. Equal seeds give equal changes, in the order of the calls."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        seed: int,
        *,
        spelled_share: float = SPELLED_SHARE,
        cropped_share: float = CROPPED_SHARE,
        crop_weight: float = CROP_WEIGHT,
    ) -> None:
        self._random = np.random.default_rng(seed)
        self._spelled_share = spelled_share
        self._cropped_share = cropped_share
        self._crop_weight = crop_weight
        by_token = [[], *(spellings(vocabulary, subword) for subword in vocabulary.subwords)]
        by_token += [[]] * (vocabulary.size - len(by_token))
        self._ways = np.array([len(ways) for ways in by_token])
        """Of each id, in how many ways it can be spelled."""
        self._first_way = np.cumsum(self._ways) - self._ways
        spelled = [pieces for ways in by_token for pieces in ways]
        self._counts = np.array([len(pieces) for pieces in spelled])
        """Of each way, how many ids it has."""
        self._starts = np.cumsum(self._counts) - self._counts
        self._pieces = np.array([piece for pieces in spelled for piece in pieces], np.int32)

    def __call__(self, row: Tokens, ends: Tokens) -> tuple[Tokens, float]:
        """A changed copy of one review's ids [length], and how much it counts. Never empty unless the review is.

        `ends` [sentences]: how many of the ids each sentence ends after, the last one after all of them."""
        weight = 1.0
        if self._random.random() < self._cropped_share:
            cropped = self._crop(row, ends)
            if len(cropped) < len(row):
                row, weight = cropped, self._crop_weight
        return self._spell(row), weight

    def _crop(self, row: Tokens, ends: Tokens) -> Tokens:
        """Some sentences in a row, or the review where they are too short. Any order of magnitude is as likely, so most
        crops are of one sentence or two."""
        count = int(np.exp(self._random.uniform(0, np.log(len(ends)))))
        first = int(self._random.integers(0, len(ends) - count + 1))
        cropped = row[ends[first - 1] if first else 0 : ends[first + count - 1]]
        return cropped if len(cropped) >= SHORTEST_CROP_TOKENS else row

    def _spell(self, row: Tokens) -> Tokens:
        """The review with some subwords replaced by smaller ones."""
        chosen = np.flatnonzero((self._random.random(len(row)) < self._spelled_share) & (self._ways[row] > 0))
        nth = self._random.random(len(chosen)) * self._ways[row[chosen]]
        ways = self._first_way[row[chosen]] + nth.astype(int)
        sizes = self._counts[ways]
        widths = np.ones(len(row), int)
        widths[chosen] = sizes
        tokens = np.repeat(row, widths)
        # The ids of the chosen ways one after the other, and where each of them goes.
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        into = np.repeat((np.cumsum(widths) - widths)[chosen], sizes) + within
        tokens[into] = self._pieces[np.repeat(self._starts[ways], sizes) + within]
        return tokens


def sentences(text: str) -> list[str]:
    """The parts of a review between the ends of its sentences; nothing of it is lost but HTML's breaks."""
    return [part for part in _SENTENCE_END.split(text) if part and not part.isspace()] or [text]


def spellings(vocabulary: Vocabulary, subword: str) -> list[list[int]]:
    """The ids that could stand for the subword if the vocabulary did not have it: each of its beginnings that is there,
    and the rest as usual. Empty where only single characters could."""
    found = []
    for end in range(SHORTEST_PREFIX, len(subword)):
        beginning, rest = vocabulary.token_ids(subword[:end]), subword[end:]
        if len(beginning) == 1 and rest != "_":
            found.append(beginning + vocabulary.token_ids(rest))
    return found[-MOST_SPELLINGS:]
