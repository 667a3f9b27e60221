"""What /status.json says: its fields, each with its meaning. `docs/status.md` is written from here."""

from __future__ import annotations

from typing import Annotated, Any, get_type_hints

import msgspec


def _says(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class Quantiles(msgspec.Struct, frozen=True):
    """Of one histogram: in seconds, interpolated as PromQL's histogram_quantile() does; null where nothing was observed."""

    count: Annotated[int, _says("how many were observed")]
    p50_seconds: Annotated[float | None, _says("the median")]
    p95_seconds: Annotated[float | None, _says("the 0.95-quantile")]
    p99_seconds: Annotated[float | None, _says("the 0.99-quantile")]


class Duration(msgspec.Struct, frozen=True):
    """How long one thing takes."""

    last_minute: Annotated[Quantiles, _says("quantiles over the last `window_seconds`")]
    since_start: Annotated[Quantiles, _says("quantiles over the worker's life")]


class Model(msgspec.Struct, frozen=True):
    """The version in use."""

    name: Annotated[str, _says("as the model server calls it")]
    version: Annotated[str, _says("its number")]
    digest: Annotated[str, _says("of its vocabulary")]


class PartitionLag(msgspec.Struct, frozen=True):
    """One partition that the worker holds."""

    topic: Annotated[str, _says("its topic")]
    partition: Annotated[int, _says("its number")]
    records: Annotated[int, _says("how many wait")]
    undelivered_seconds: Annotated[float, _says("how long records have waited without any becoming durable")]


class Retries(msgspec.Struct, frozen=True):
    """Attempts that failed for now, of one kind."""

    what: Annotated[str, _says("start, predict, model, deliver or kafka")]
    status: Annotated[str, _says("how they failed")]
    count: Annotated[int, _says("since the worker's start")]


class Requests(msgspec.Struct, frozen=True):
    """Predict calls."""

    in_flight: Annotated[int, _says("under way")]
    limit: Annotated[int, _says("that may be under way at once")]


class History(msgspec.Struct):
    """Columns of equal length, one entry for each step of 5 s, oldest first, 15 minutes at most."""

    ages_seconds: Annotated[list[float], _says("how long ago the step ended")] = []
    states: Annotated[list[str], _says("the state at its end")] = []
    reviews_per_second: Annotated[list[float], _says("results and dead letters made durable in it")] = []
    dead_letters_per_second: Annotated[list[float], _says("of these the dead letters")] = []
    retries_per_second: Annotated[list[float], _says("attempts made again in it")] = []
    lag_records: Annotated[list[float], _says("records that waited at its end")] = []
    p50_seconds: Annotated[list[float | None], _says("end-to-end latency in it; null where nothing was answered")] = []
    p95_seconds: Annotated[list[float | None], _says("so")] = []
    p99_seconds: Annotated[list[float | None], _says("so")] = []


class Status(msgspec.Struct, frozen=True):
    """The whole answer."""

    time_seconds: Annotated[float, _says("the worker's clock, in seconds since the epoch")]
    started_seconds: Annotated[
        float, _says("when the worker started, on the same clock; another value: it was restarted")
    ]
    state: Annotated[str, _says("starting, running, holding, draining or stopped")]
    unready: Annotated[str | None, _says("what /readyz says while it is red; null while reviews are answered")]
    stalled: Annotated[str | None, _says("what /livez says while it is red; null while all is well")]
    model: Annotated[Model | None, _says("null while there is none")]
    encoder: Annotated[str, _says("compiled, automaton, wordpiece or text; empty while there is no model")]
    window_seconds: Annotated[float, _says("how long `last_minute` and the rates look back; less than 60 at first")]
    reviews_per_second: Annotated[float, _says("results and dead letters made durable, over `window_seconds`")]
    dead_letters_per_second: Annotated[float, _says("of these the dead letters")]
    retries_per_second: Annotated[float, _says("over `window_seconds`")]
    durations: Annotated[
        dict[str, Duration],
        _says(
            "`end_to_end` from a record's timestamp to its durable answer; `decode`, `encode` and `deliver` of a window; "
            "`predict` of a call that succeeded"
        ),
    ]
    lag: Annotated[list[PartitionLag], _says("by topic and partition")]
    results: Annotated[dict[str, int], _says("since the worker's start, by label")]
    dead_letters: Annotated[dict[str, int], _says("since the worker's start, by reason")]
    retries: Annotated[list[Retries], _says("since the worker's start")]
    dropped_windows: Annotated[int, _says("windows in flight given up, to be read again, since the worker's start")]
    windows_in_flight: Annotated[int, _says("between their poll and their commit")]
    requests: Annotated[Requests, _says("Predict calls")]
    history: Annotated[History, _says("the last 15 minutes")]
    settings: Annotated[dict[str, Any], _says("those in force by their names, secrets redacted")]
    versions: Annotated[dict[str, str], _says("of Inferry, Python and the libraries it stands on")]


PARTS: tuple[type[msgspec.Struct], ...] = (Status, Model, Duration, Quantiles, PartitionLag, Retries, Requests, History)


def status_page() -> str:
    """The text of `docs/status.md`; rewrite the file with `python -m tests.support.readme`."""
    lines = [
        "# /status.json",
        "",
        "The worker's port answers with what the page at `/` shows, all of it read from the very metrics that `/metrics`",
        "serves. Written from `worker/observability/status/document.py` by `python -m tests.support.readme`; a test keeps",
        "it so. New fields may come; those that are there keep their meaning.",
    ]
    for part in PARTS:
        lines += ["", f"## {part.__name__}", "", (part.__doc__ or "").split("\n\n")[0], ""]
        lines += ["| field | meaning |", "|---|---|"]
        lines += [f"| `{name}` | {_meaning(part, name)} |" for name in part.__struct_fields__]
    return "\n".join(lines) + "\n"


def _meaning(part: type[msgspec.Struct], field: str) -> str:
    return str(get_type_hints(part, include_extras=True)[field].__metadata__[0].description)
