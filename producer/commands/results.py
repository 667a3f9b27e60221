"""The command `results`: its options, and what it prints."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.text import Text

from producer import results
from producer.commands.options import Bootstrap
from producer.connection import Connection
from producer.errors import ExitCode, UsageError
from producer.interruption import Interruption
from producer.results import Received
from producer.terminal import COLOURS, OUT, complain, safe
from protos.codecs import CodecError, encode_result
from worker.records import Record

_TAIL = 10


def show_results(
    *,
    follow: Annotated[bool, Parameter(alias="-f", help="Go on with what comes, until Ctrl-C.")] = False,
    wait_for: Annotated[int | None, Parameter(help="Stop after this many results; wait until they are there.")] = None,
    timeout: Annotated[float, Parameter(help="Seconds that --wait-for waits.")] = 60.0,
    from_: Annotated[
        Literal["earliest", "latest"] | None,
        Parameter(
            name="--from", show_default="earliest; with --follow the last ten of each partition", help="Where to begin."
        ),
    ] = None,
    output: Annotated[Literal["table", "json"], Parameter(alias="-o", help="json: one object a line.")] = "table",
    topic: Annotated[str, Parameter(help="Where from.")] = results.DEFAULT_TOPIC,
    bootstrap: Bootstrap = None,
) -> int:
    """Read labelled results: what is there now, or with --follow also what comes.

    Only committed results are shown."""
    if wait_for is not None and (wait_for < 1 or not timeout > 0):
        raise UsageError("--wait-for must be at least 1, and --timeout above 0.")
    connection = Connection.find(bootstrap)
    start: dict[int, int] | str = from_ or "earliest"
    if follow and from_ is None and wait_for is None:
        start = results.last_results(connection, topic, _TAIL)
    show = _Table() if output == "table" else _json_lines
    bad = _Undecodable()
    with Interruption() as interruption:
        for batch in results.read_results(
            connection,
            topic=topic,
            start=start,
            follow=follow,
            count=wait_for,
            timeout_seconds=None if wait_for is None else timeout,
            on_undecodable=bad,
            interruption=interruption,
        ):
            show(batch)
    return ExitCode.BAD_DATA if bad.seen else ExitCode.OK


class _Table:
    """Prints results as they come. What can be long stands last, so that lines stay aligned without knowing them all."""

    def __init__(self) -> None:
        self._lines = [
            Text(f"{'label':<10} {'score':>6} {'tokens':>6} {'model':>12}  {'source':<20}  review", style="bold")
        ]

    def __call__(self, batch: list[Received]) -> None:
        self._lines += [self._line(received) for received in batch]
        if batch:
            lines = Text("\n").join(self._lines)
            if OUT.is_terminal:
                OUT.print(lines, no_wrap=True, overflow="ellipsis")  # a long id is cut at the edge
            else:
                OUT.print(lines, soft_wrap=True)  # into a pipe or file everything goes whole
            self._lines = []

    @staticmethod
    def _line(received: Received) -> Text:
        result = received.result
        label = Text(f"{safe(result.label):<10}", style=COLOURS.get(result.label, ""))
        tokens = f"{result.tokens}{'+' if result.truncated else ''}"
        return label.append_text(
            Text(
                f" {result.score:6.4f} {tokens:>6} {result.model_version:>12}  {safe(result.result_id):<20}  "
                f"{safe(result.review_id)}",
                style="",
            )
        )


def _json_lines(batch: list[Received]) -> None:
    sys.stdout.buffer.writelines(encode_result(received.result) + b"\n" for received in batch)
    sys.stdout.buffer.flush()


class _Undecodable:
    """Says of records that are no results which they are."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, record: Record, error: CodecError) -> None:
        self.seen += 1
        complain(f"{record.result_id} is no result: {safe(error.detail)}")
