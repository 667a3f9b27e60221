"""The command `push`: its options, and what it prints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from cyclopts import Parameter

from producer.commands.options import Bootstrap
from producer.connection import Connection
from producer.dataset import SIZE, imdb_reviews
from producer.errors import BadInput, UsageError
from producer.inputs import STDIN, BadRow, Columns, Entry, Format, read
from producer.interruption import Interruption
from producer.push import DEFAULT_TOPIC
from producer.push import push as push_reviews
from producer.terminal import complain, print_summary, safe, sending_progress
from protos.codecs import Form, ReviewMessage

_BAD_ROWS_SHOWN = 20


def push(
    *files: Annotated[str, Parameter(allow_leading_hyphen=True, help="Files to read; - for standard input.")],
    text: Annotated[
        tuple[str, ...], Parameter(allow_leading_hyphen=True, help="A review given right here; may be repeated.")
    ] = (),
    dataset: Annotated[bool, Parameter(help="The bundled 25,000 labelled IMDb reviews.")] = False,
    form: Annotated[
        Format | None, Parameter(name="--format", help="How the files are written; else their extension tells.")
    ] = None,
    text_column: Annotated[str, Parameter(help="CSV column or JSON field of the text.")] = "text",
    id_column: Annotated[
        str | None, Parameter(show_default="id, where there is one", help="… of the review's id.")
    ] = None,
    key_column: Annotated[str | None, Parameter(show_default="the id", help="… of the record's key.")] = None,
    attribute_column: Annotated[tuple[str, ...], Parameter(help="… to carry along; may be repeated.")] = (),
    on_bad_row: Annotated[Literal["stop", "skip"], Parameter(help="What to do with a row that is no review.")] = "stop",
    rate: Annotated[float | None, Parameter(help="Reviews per second; else as fast as it goes.")] = None,
    limit: Annotated[int | None, Parameter(help="Push no more than this many.")] = None,
    wire: Annotated[
        Form, Parameter(help="How records are written; text carries neither id nor attributes.")
    ] = Form.JSON,
    trace: Annotated[
        bool, Parameter(help="Begin a trace with each review, to be found where the worker sends its traces.")
    ] = False,
    topic: Annotated[str, Parameter(help="Where to.")] = DEFAULT_TOPIC,
    bootstrap: Bootstrap = None,
) -> int:
    """Push reviews to Kafka, and tell what became of each.

    Reviews with one key stay in order. The key is the --key-column, else the review's id; a review with neither goes
    to any partition. CSV files name their columns in the first line; JSON lines hold {"text": …, "id": …,
    "attributes": {…}}; plain lines are one review each."""
    for name in files:
        if name.startswith("-") and name != STDIN:
            raise UsageError(f"There is no option {name}; a file of that name would be ./{name}.")
    if (bool(files) + bool(text) + dataset) != 1:
        raise UsageError("Say what to push: files, - for standard input, --text, or --dataset; one kind at a time.")
    if (rate is not None and not rate > 0) or (limit is not None and limit < 0):
        raise UsageError("--rate must be above 0, and --limit at least 0.")
    columns = Columns(text_column, id_column, key_column, attribute_column)
    reviews, total = _reviews(files, text, dataset=dataset, form=form, columns=columns, limit=limit)
    with Interruption() as interruption, sending_progress("pushing", total) as on_progress:
        summary = push_reviews(
            reviews,
            Connection.find(bootstrap),
            topic=topic,
            wire=wire,
            trace=trace,
            rate=rate,
            limit=limit,
            on_bad_row=_BadRows(stop=on_bad_row == "stop"),
            on_progress=on_progress,
            interruption=interruption,
        )
    if summary.error is None or summary.sent:
        print_summary("Pushed", summary)
    if summary.error is not None:
        complain(f"inferry-producer: {summary.error}")
    return summary.exit_code


def _reviews(
    files: tuple[str, ...],
    texts: tuple[str, ...],
    *,
    dataset: bool,
    form: Format | None,
    columns: Columns,
    limit: int | None,
) -> tuple[Iterable[Entry | BadRow | ReviewMessage], int | None]:
    """The reviews and, where it is known, how many."""
    if texts:
        return [ReviewMessage(id="", text=given) for given in texts], len(texts[:limit])
    if dataset:
        return imdb_reviews(limit), SIZE if limit is None else min(limit, SIZE)
    return read(files, columns, form), limit


class _BadRows:
    """Reports bad rows, the first few one by one, and stops at the first where it should."""

    def __init__(self, *, stop: bool) -> None:
        self._stop = stop
        self._seen = 0

    def __call__(self, row: BadRow) -> None:
        message = f"{row.where}: {safe(row.why)}"
        if self._stop:
            raise BadInput(f"{message}. Nothing after it was pushed; --on-bad-row skip leaves such rows out.")
        self._seen += 1
        if self._seen <= _BAD_ROWS_SHOWN:
            complain(f"skipped {message}")
        if self._seen == _BAD_ROWS_SHOWN:
            complain("further skipped rows are only counted")
