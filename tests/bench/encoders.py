"""`python -m tests.bench.encoders`: CPU time a review of each subword encoder of ours, on the same reviews in one run.

The encoders take turns, window by window, so that whatever else the machine does falls on all of them. Every round makes
new strs, as a decoder does, in an order of its own. "planned and padded" adds what makes tensors of a window: the plan
of its batches, and their rows one after the other. The ids of all encoders are compared first.
"""

from __future__ import annotations

import argparse
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from statistics import median

from deploy.local.models import MODEL, MODELS, versions
from producer.dataset import imdb_reviews
from worker.pipeline.batching import plan
from worker.records import Batch
from worker.text.compiled import CompiledEncoder, available
from worker.text.subwords import SubwordEncoder, Vocabulary

MAX_TOKENS = 100_000
MAX_ROWS, MAX_PADDED_TOKENS = 256, 65_536
SLOW_SHARE = 10
"""One window in so many goes through the plain reference."""

Work = Callable[[Sequence[str]], object]


def main() -> None:
    """Prints each encoder's µs of CPU a review: least, median and most of the rounds."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.encoders")
    parser.add_argument("--vocabulary", type=Path, help=".subwords file; otherwise the newest model's, or one is built")
    parser.add_argument("--reviews", type=int, default=25_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window", type=int, default=512)
    given = parser.parse_args()
    texts = [entry.review.text for entry in imdb_reviews(given.reviews)]
    vocabulary = _vocabulary(given.vocabulary, texts)
    candidates = _candidates(vocabulary)
    _compare(vocabulary, texts[:1_000])
    rounds = [_round(candidates, texts, given.window, seed) for seed in range(given.rounds)]
    characters = sum(map(len, texts)) // len(texts)
    print(f"{len(texts)} reviews, {characters} characters each, windows of {given.window}, {given.rounds} rounds")
    print(f"{'µs of CPU a review':40}    least   median     most")
    for name in candidates:
        micros = [figures[name] for figures in rounds]
        print(f"{name:40} {min(micros):8.2f} {median(micros):8.2f} {max(micros):8.2f}")


def _vocabulary(path: Path | None, texts: list[str]) -> Vocabulary:
    if path is None and (exported := versions()):
        path = MODELS / MODEL / str(exported[-1]) / "assets.extra" / "vocabulary.subwords"
    if path is not None:
        return Vocabulary.parse(path.read_bytes())
    from trainer.vocabulary import build  # imports tensorflow

    return build(texts)


def _candidates(vocabulary: Vocabulary) -> dict[str, Work]:
    automaton = SubwordEncoder(vocabulary, max_tokens=MAX_TOKENS)

    def automaton_padded(texts: Sequence[str]) -> None:
        rows = [automaton.encode(text) for text in texts]
        for batch in _planned([row.tokens for row in rows]):
            automaton.tensor([rows[row] for row in batch.rows], batch.longest)

    found: dict[str, Work] = {}
    if available():
        compiled = CompiledEncoder(vocabulary, max_tokens=MAX_TOKENS)

        def compiled_padded(texts: Sequence[str]) -> None:
            rows = compiled.encode_many(texts)
            for batch in _planned(rows.tokens):
                rows.tensor(batch.rows, batch.longest)

        found |= {"compiled": compiled.encode_many, "compiled, planned and padded": compiled_padded}
    return found | {
        "automaton": lambda texts: [automaton.encode(text) for text in texts],
        "automaton, planned and padded": automaton_padded,
        "reference": lambda texts: [vocabulary.encode_ids(text) for text in texts],
    }


def _planned(tokens: Sequence[int]) -> Sequence[Batch]:
    return plan(tokens, max_rows=MAX_ROWS, max_padded_tokens=MAX_PADDED_TOKENS)


def _round(candidates: dict[str, Work], texts: list[str], window: int, seed: int) -> dict[str, float]:
    random = Random(seed)
    random.shuffle(texts)
    seconds, reviews = dict.fromkeys(candidates, 0.0), dict.fromkeys(candidates, 0)
    for number, start in enumerate(range(0, len(texts), window)):
        names = [name for name in candidates if name != "reference" or number % SLOW_SHARE == 0]
        for name in random.sample(names, len(names)):
            fresh = [text.encode().decode() for text in texts[start : start + window]]
            started = time.process_time()
            candidates[name](fresh)
            seconds[name] += time.process_time() - started
            reviews[name] += len(fresh)
    return {name: seconds[name] * 1e6 / reviews[name] for name in candidates}


def _compare(vocabulary: Vocabulary, texts: list[str]) -> None:
    wanted = [vocabulary.encode_ids(text) for text in texts]
    automaton = SubwordEncoder(vocabulary, max_tokens=MAX_TOKENS)
    found = [array("i", automaton.encode(text).content).tolist() for text in texts]
    if found != wanted:
        raise SystemExit("the automaton's ids are not the reference's")
    if available():
        rows = CompiledEncoder(vocabulary, max_tokens=MAX_TOKENS).encode_many(texts)
        found = [array("i", rows.tensor([row], tokens).content).tolist() for row, tokens in enumerate(rows.tokens)]
        if found != wanted:
            raise SystemExit("the compiled encoder's ids are not the reference's")


if __name__ == "__main__":
    main()
