"""`python -m tests.bench.encoders`: CPU time a review of each subword encoder, on the same reviews in one run.

Ours take a window at a time, as in the worker; `planned and padded` makes the micro-batches' tensors as well. tfds'
own encoder and the plain reference, which are slow, see one window in ten. The encoders take turns window by window, so
that whatever else the machine does falls on all of them, and every review comes once a round. First their ids are compared.
The normaliser `plain-1` is timed beside them: what a model whose card names it costs more.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from deploy.local.models import MODEL, MODELS, versions
from producer.dataset import imdb_reviews
from tests.support.encoding import ids_of
from trainer.quiet import tfds
from trainer.vocabulary import build
from worker.pipeline.batching import Limits, plan
from worker.ports import Encoder
from worker.text.compiled import CompiledEncoder, available
from worker.text.normalising import plain_1
from worker.text.subwords import SubwordEncoder
from worker.text.vocabulary import Vocabulary

MAX_TOKENS = 100_000
LIMITS = Limits(rows=256, tokens=65_536, padding_tokens=65_536)
SLOW = ("reference", "tfds")
SLOW_SHARE = 10
"""One window in so many goes through these."""
COMPARED = 1_000

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
    encoders = _encoders(vocabulary)
    encode = _tfds(vocabulary)
    _compare(encoders, vocabulary, encode, texts[:COMPARED])
    candidates: dict[str, Work] = {}
    for encoder in encoders:
        candidates |= {encoder.name: encoder.encode_many, f"{encoder.name}, planned and padded": _padded(encoder)}
    candidates["plain-1, before any of them"] = lambda texts: [*map(plain_1, texts)]
    candidates["reference"] = lambda texts: [vocabulary.encode_ids(text) for text in texts]
    candidates["tfds"] = lambda texts: [encode(text) for text in texts]
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
    return Vocabulary.parse(path.read_bytes()) if path else build(texts)


def _encoders(vocabulary: Vocabulary) -> list[Encoder]:
    automaton = SubwordEncoder(vocabulary, max_tokens=MAX_TOKENS)
    return [CompiledEncoder(vocabulary, max_tokens=MAX_TOKENS), automaton] if available() else [automaton]


def _tfds(vocabulary: Vocabulary) -> Callable[[str], list[int]]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "v.subwords").write_bytes(vocabulary.dump())
        encode: Any = tfds.deprecated.text.SubwordTextEncoder.load_from_file(f"{folder}/v").encode
    return encode  # type: ignore[no-any-return]


def _padded(encoder: Encoder) -> Work:
    def work(texts: Sequence[str]) -> None:
        rows = encoder.encode_many(texts)
        for batch in plan(rows.tokens, LIMITS):
            rows.tensor(batch.rows, batch.longest)

    return work


def _round(candidates: dict[str, Work], texts: list[str], window: int, seed: int) -> dict[str, float]:
    random = Random(seed)
    random.shuffle(texts)
    seconds, reviews = dict.fromkeys(candidates, 0.0), dict.fromkeys(candidates, 0)
    for number, start in enumerate(range(0, len(texts), window)):
        names = [name for name in candidates if name not in SLOW or number % SLOW_SHARE == 0]
        for name in random.sample(names, len(names)):
            fresh = [text.encode().decode() for text in texts[start : start + window]]
            started = time.process_time()
            candidates[name](fresh)
            seconds[name] += time.process_time() - started
            reviews[name] += len(fresh)
    return {name: seconds[name] * 1e6 / reviews[name] for name in candidates}


def _compare(
    encoders: Sequence[Encoder], vocabulary: Vocabulary, encode: Callable[[str], list[int]], texts: list[str]
) -> None:
    wanted = [vocabulary.encode_ids(text) for text in texts]
    if wanted != [encode(text) for text in texts]:
        raise SystemExit("the reference's ids are not those of tfds")
    for encoder in encoders:
        rows = encoder.encode_many(texts)
        if wanted != [ids_of(rows, row) for row in range(len(texts))]:
            raise SystemExit(f"the {encoder.name} encoder's ids are not the reference's")


if __name__ == "__main__":
    main()
