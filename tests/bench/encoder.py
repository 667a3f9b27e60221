"""`python -m tests.bench.encoder`: CPU time a review of our encoder and of tfds', on the same reviews in one run.

Ours is the one that a worker uses, and takes a window of reviews at a time. "new" reviews come once each after thousands of
others, as on a busy topic; "warm" ones were all encoded a moment ago. The two encoders take turns, a thousand reviews each,
so that whatever else the machine does falls on both. The ids of the warm ones are compared.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from deploy.local.models import MODEL, MODELS, versions
from producer.dataset import imdb_reviews
from tests.support.encoding import ids_of
from trainer.quiet import tfds
from trainer.vocabulary import build
from worker.text import Vocabulary, subword_encoder

TURN = 1_000
WARM_REVIEWS = 1_000
WARM_ROUNDS = 5
NEW_REVIEWS = 5_000

Encode = Callable[[Sequence[str]], Any]


def main() -> None:
    """Prints both encoders' µs of CPU a review, and how many times as long tfds takes."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument(
        "--vocabulary", type=Path, help=".subwords file; otherwise the newest model's, or one is built"
    )
    texts = [entry.review.text for entry in imdb_reviews()]
    vocabulary = _vocabulary(arguments.parse_args().vocabulary, texts)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "v.subwords").write_bytes(vocabulary.dump())
        encode = tfds.deprecated.text.SubwordTextEncoder.load_from_file(f"{folder}/v").encode
    encoder = subword_encoder(vocabulary, max_tokens=100_000)
    warm, seen, new = texts[:WARM_REVIEWS], texts[WARM_REVIEWS:-NEW_REVIEWS], texts[-NEW_REVIEWS:]

    def theirs(texts: Sequence[str]) -> None:
        for text in texts:
            encode(text)

    rows = encoder.encode_many(warm)
    for row, text in enumerate(warm):
        if ids_of(rows, row) != encode(text):
            raise SystemExit(f"the ids differ for {text!r}")
    characters = sum(map(len, texts)) // len(texts)
    print(f"{vocabulary.size} ids, {characters} characters a review; {len(warm)} reviews have the same ids from both")
    print(f"ours: {encoder.name}")
    _show("warm", encoder.encode_many, theirs, warm * WARM_ROUNDS)
    encoder.encode_many(seen)
    theirs(seen)
    _show("new", encoder.encode_many, theirs, new)


def _vocabulary(path: Path | None, texts: list[str]) -> Vocabulary:
    if path is None and (exported := versions()):
        path = MODELS / MODEL / str(exported[-1]) / "assets.extra" / "vocabulary.subwords"
    return Vocabulary.parse(path.read_bytes()) if path else build(texts)


def _show(name: str, ours: Encode, theirs: Encode, texts: list[str]) -> None:
    turns = [(_micros(ours, turn), _micros(theirs, turn)) for turn in _turns(texts)]
    our_micros, their_micros = (median(column) for column in zip(*turns, strict=True))
    ratio = median(their / our for our, their in turns)
    print(
        f"{name:>5}: ours {our_micros:6.1f} µs, tfds {their_micros:6.1f} µs of CPU a review; {ratio:.1f} times as long"
    )


def _turns(texts: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), TURN):
        yield texts[start : start + TURN]


def _micros(encode: Encode, texts: list[str]) -> float:
    started = time.process_time()
    encode(texts)
    return (time.process_time() - started) * 1e6 / len(texts)


if __name__ == "__main__":
    main()
