"""The commands `dead-letters list`, `show` and `replay`: their options, and what they print."""

from __future__ import annotations

import base64
import sys
from collections import Counter, deque
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from producer.commands.options import PLAIN, Bootstrap
from producer.connection import Connection
from producer.dead_letters.finding import DEFAULT_TOPIC, Filter, Found, fetch, find, time_ms
from producer.dead_letters.replay import DEFAULT_GROUP, DEFAULT_MAX_ATTEMPTS, Outcome, Plan
from producer.dead_letters.replay import replay as replay_dead_letters
from producer.errors import ExitCode, UsageError
from producer.interruption import Interruption
from producer.terminal import OUT, complain, counts, cut, print_summary, print_table, safe, sending_progress, when
from protos.dead_letters import without
from worker.records import Reason

app = App(
    name="dead-letters", help="Look at reviews that could not be answered, and send them back.", default_parameter=PLAIN
)

_MESSAGE_CHARACTERS = 160
_REASONS = ", ".join(Reason)
Topic = Annotated[str, Parameter(help="The dead-letter topic.")]
Reasons = Annotated[tuple[str, ...], Parameter(help=f"Only this reason; may be repeated. One of {_REASONS}.")]
Partitions = Annotated[
    tuple[int, ...], Parameter(help="Only this partition of the dead-letter topic; may be repeated.")
]
Since = Annotated[str | None, Parameter(help="Only from this time on: ISO 8601, or an age such as 90s, 15m, 2h, 3d.")]
Until = Annotated[str | None, Parameter(help="Only before this time.")]
Output = Annotated[Literal["table", "json"], Parameter(alias="-o", help="json: one object a line.")]


@app.command(name="list")
def list_(
    *,
    reason: Reasons = (),
    partition: Partitions = (),
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, Parameter(help="Print the newest so many; all are counted.")] = 20,
    output: Output = "table",
    topic: Topic = DEFAULT_TOPIC,
    bootstrap: Bootstrap = None,
) -> int:
    """List dead letters, newest last, and count them by reason."""
    wanted = _filter(reason, partition, since, until)
    counted: Counter[str] = Counter()
    newest: list[tuple[int, int, Found]] = []  # a heap of the newest `limit`; partitions come one after another
    with Interruption() as interruption:
        for found in find(Connection.find(bootstrap), topic, wanted, interruption):
            if output == "json":
                _write_json(found, whole=False)
                continue
            counted[found.info.reason or "(none given)"] += 1
            heappush(newest, (found.failed_at_ms, counted.total(), found))
            if len(newest) > limit:
                heappop(newest)
    if output == "table":
        _print_list(topic, [found for _, _, found in sorted(newest)], counted)
    return ExitCode.OK


@app.command
def show(
    position: Annotated[str, Parameter(help="PARTITION/OFFSET in the dead-letter topic, as `list` prints it.")],
    *,
    max_bytes: Annotated[int, Parameter(help="Print no more of a key, value or header than this.")] = 2000,
    output: Annotated[
        Literal["table", "json"], Parameter(alias="-o", help="json: all of it, bytes as base64.")
    ] = "table",
    topic: Topic = DEFAULT_TOPIC,
    bootstrap: Bootstrap = None,
) -> int:
    """Show one dead letter: why it failed, where it came from, and what it holds.

    Whatever it holds, printing it is safe: control characters and broken UTF-8 appear as backslash escapes."""
    found = fetch(Connection.find(bootstrap), topic, position)
    if output == "json":
        _write_json(found, whole=True)
    else:
        _print_one(found, max(0, max_bytes))
    return ExitCode.OK


@app.command
def replay(
    *,
    reason: Reasons = (),
    partition: Partitions = (),
    since: Since = None,
    until: Until = None,
    dry_run: Annotated[bool, Parameter(help="Only say what would be sent.")] = False,
    rate: Annotated[float | None, Parameter(help="Records per second; else as fast as it goes.")] = None,
    limit: Annotated[int | None, Parameter(help="Send no more than this many.")] = None,
    to: Annotated[str | None, Parameter(help="Topic to send to; else the one each came from.")] = None,
    max_attempts: Annotated[int, Parameter(help="Refuse what was replayed this often.")] = DEFAULT_MAX_ATTEMPTS,
    again: Annotated[bool, Parameter(help="Also what an earlier run replayed.")] = False,
    group: Annotated[str, Parameter(help="Consumer group that remembers what was replayed.")] = DEFAULT_GROUP,
    topic: Topic = DEFAULT_TOPIC,
    bootstrap: Bootstrap = None,
) -> int:
    """Send dead letters back to the topic they came from, each once.

    Key, value and the producer's own headers go back byte for byte, and the header inferry-attempts counts the replays.
    One that is not whole, since a part of it was too large for the dead-letter topic, is refused.
    The next run goes on where this one ended. Run one replay at a time."""
    if (rate is not None and not rate > 0) or (limit is not None and limit < 0) or max_attempts < 1:
        raise UsageError("--rate must be above 0, --limit at least 0, and --max-attempts at least 1.")
    wanted = _filter(reason, partition, since, until)
    plan = Plan(topic, wanted, to, group, again, dry_run, rate, limit, max_attempts)
    chosen: deque[tuple[Found, str]] = deque(maxlen=20)
    with Interruption() as interruption, sending_progress("replaying", limit) as on_progress:
        outcome = replay_dead_letters(
            Connection.find(bootstrap),
            plan,
            on_chosen=(lambda found, target: chosen.append((found, target))) if dry_run else None,
            on_progress=on_progress,
            interruption=interruption,
        )
    _print_outcome(plan, outcome, chosen)
    return outcome.exit_code


def _filter(reason: Sequence[str], partition: Sequence[int], since: str | None, until: str | None) -> Filter:
    if unknown := [given for given in reason if given not in set(Reason)]:
        raise UsageError(f"There is no reason {unknown[0]!r}; the reasons are {_REASONS}.")
    return Filter(
        frozenset(reason),
        frozenset(partition),
        None if since is None else time_ms(since),
        None if until is None else time_ms(until),
    )


def _print_list(topic: str, newest: Sequence[Found], counted: Counter[str]) -> None:
    if not counted:
        complain(f"No dead letters in “{topic}” that fit.")
        return
    if newest:
        print_table(_listed(newest))
        OUT.print()
    shown = "" if len(newest) == counted.total() else f", the newest {len(newest):,} shown"
    print_table(counts(f"{counted.total():,} dead letters{shown}", counted))


def _listed(letters: Sequence[Found], targets: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("position", "failed at", "reason", "tries", "source"):
        table.add_column(name, no_wrap=True, justify="right" if name == "tries" else "left")
    table.add_column("to" if targets else "why")  # the only one that may be narrowed, by wrapping
    for index, found in enumerate(letters):
        last = targets[index] if targets else found.info.message
        cells = (
            found.position,
            when(found.failed_at_ms),
            found.info.reason,
            str(found.info.attempts),
            found.source,
            last,
        )
        table.add_row(*(Text(safe(cell)) for cell in cells))
    return table


def _fitted(message: str) -> Text:
    """A message whole in a pipe or file, and in a few lines at most on a terminal: `show` has all of it."""
    text = Text(safe(message))
    if OUT.is_terminal:
        text.truncate(_MESSAGE_CHARACTERS, overflow="ellipsis")
    return text


def _print_one(found: Found, max_bytes: int) -> None:
    record, info = found
    facts = {
        "position": f"{record.topic}/{found.position}",
        "failed at": when(found.failed_at_ms),
        "reason": f"{info.reason or '(none given)'}, at {info.stage or 'no stage given'}",
        "why": info.message,
        "source": found.source or "(not given)",
        "replayed": f"{info.attempts} times",
        "read by": f"{info.connector_name} {info.task_id}".strip() or "(not given)",
        "code": f"{info.exception_class_name} in {info.class_name}" if info.class_name else "(not given)",
    }
    if info.stacktrace:
        facts["trace"] = info.stacktrace
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in facts.items():
        table.add_row(name, Text(safe(fact)))
    for part, cut_off in info.cut.items():
        table.add_row(
            f"{part} cut",
            f"{cut_off.size_bytes:,} bytes, sha256 {safe(cut_off.sha256)}: too large to keep here, see source",
        )
    table.add_row("key", _shown(record.key, max_bytes))
    for header, value in without(record.headers):
        table.add_row("header", Text.assemble((safe(header), "italic"), " = ").append_text(_shown(value, max_bytes)))
    table.add_row("value", _shown(record.value, max_bytes))
    print_table(table)


def _shown(data: bytes | None, max_bytes: int) -> Text:
    return Text("(none)", style="dim") if data is None else Text(cut(data, max_bytes))


def _print_outcome(plan: Plan, outcome: Outcome, chosen: Sequence[tuple[Found, str]]) -> None:
    if plan.dry_run:
        if chosen:
            print_table(_listed([found for found, _ in chosen], [target for _, target in chosen]))
        total = outcome.chosen.total()
        shown = f", the last {len(chosen)} shown" if len(chosen) < total else ""
        complain(f"Would replay {total:,}{shown}; nothing was sent.")
    else:
        print_summary("Replayed", outcome.summary)
    if outcome.chosen:
        print_table(counts("Would be replayed" if plan.dry_run else "Replayed", outcome.chosen))
    for why, count in outcome.refused.most_common():
        complain(f"{count:,} refused: {safe(why)}")
    if outcome.before:
        complain("What an earlier run replayed was left out; --again includes it.")
    if outcome.summary.error is not None:
        complain(f"inferry-producer: {outcome.summary.error}")


def _write_json(found: Found, *, whole: bool) -> None:
    record = found.record
    told = {
        "position": found.position,
        "timestamp_ms": record.timestamp_ms,
        "source": found.source,
        **msgspec.structs.asdict(found.info),
    }
    if whole:
        told["key_base64"] = _base64(record.key)
        told["value_base64"] = _base64(record.value)
        told["headers_base64"] = [[name, _base64(value)] for name, value in record.headers]
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()
