"""What the commands print with: consoles, progress, bars, and text that cannot do anything to a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.bar import Bar
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from producer.sending import Summary


class _PipeableConsole(Console):
    """rich ends the process with code 1 when the reader of its output goes away, as `head` does; here main decides."""

    def on_broken_pipe(self) -> None:
        """Lets the error through."""
        raise BrokenPipeError


OUT = _PipeableConsole(highlight=False)
"""What was asked for: standard output."""
ERR = _PipeableConsole(stderr=True, highlight=False)
"""Everything else: progress, summaries of what was sent, complaints."""

COLOURS = {"positive": "green", "negative": "red"}
"""Labels that have a colour; others are printed plainly."""
_BAR_WIDTH = 40
_PIPE_WIDTH = 10_000


def safe(data: str | bytes) -> str:
    """Text in one line that shows what is there and cannot move the cursor, change colours or turn the writing direction.

    Control and other unprintable characters, backslashes, and bytes that are not UTF-8 become backslash escapes."""
    text = data.decode(errors="surrogateescape") if isinstance(data, bytes) else data
    return "".join(
        character if character.isprintable() and character != "\\" else _escape(character) for character in text
    )


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, as surrogateescape keeps it
        return f"\\x{code - 0xDC00:02x}"
    named = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return named.get(character) or (f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")


def cut(data: bytes, max_bytes: int) -> str:
    """`safe`, of the first `max_bytes` bytes only, with a note where there were more."""
    if len(data) <= max_bytes:
        return safe(data)
    # A character that the cut would split is left out whole rather than shown as stray bytes.
    whole = data[:max_bytes]
    while whole and max_bytes - len(whole) < 3 and data[len(whole)] & 0xC0 == 0x80:
        whole = whole[:-1]
    return f"{safe(whole)} … [{len(whole):,} of {len(data):,} bytes shown]"


def when(timestamp_ms: int) -> str:
    """A time in UTC, to the second; the bare number where no calendar has it."""
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(timestamp_ms)


def complain(message: str) -> None:
    """One line on standard error, as it is: no markup, no colours of its own, no wrapping."""
    ERR.print(Text(message), soft_wrap=True)


def counts(title: str, counted: Counter[str]) -> Table:
    """Counts as a table with a bar for each, the largest first."""
    total, most = counted.total(), max(counted.values(), default=0)
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name, justify in (("reason", "left"), ("count", "right"), ("share", "right"), ("", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]  # a Literal, which the loop widens to str
    for name, count in counted.most_common():
        bar = Bar(most, 0, count, width=_BAR_WIDTH, color="cyan")
        table.add_row(Text(safe(name)), f"{count:,}", f"{count / total:.0%}", bar)
    return table


def print_table(table: Table) -> None:
    """A table on standard output: fitted to a terminal, uncut into a pipe or file."""
    if not OUT.is_terminal:
        OUT.width = _PIPE_WIDTH
    OUT.print(table)


@contextmanager
def sending_progress(verb: str, total: int | None) -> Iterator[Callable[[Summary], None] | None]:
    """A progress bar on standard error, where that is a terminal, fed with summaries of what was sent."""
    if not ERR.is_terminal:
        yield None
        return
    columns = (
        SpinnerColumn(),
        TextColumn(verb),
        BarColumn(),
        TextColumn("{task.fields[sent]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=ERR, transient=True) as progress:
        task = progress.add_task("", total=total, sent="")

        def show(summary: Summary) -> None:
            of = "" if total is None else f" of {total:,}"
            failed = f", {summary.failed:,} failed" if summary.failed else ""
            sent = f"{summary.sent:,}{of} acknowledged, {summary.rate:,.0f}/s{failed}"
            progress.update(task, completed=summary.sent + summary.failed, sent=sent)

        yield show


def print_summary(verb: str, summary: Summary) -> None:
    """What became of the records, on standard error: one line, and more only for what went wrong."""
    parts = [
        f"{verb} {summary.sent:,} in {summary.seconds:.1f} s ({summary.rate:,.0f}/s, {_size(summary.sent_bytes)})",
        f"{summary.failed:,} failed" if summary.failed else "",
        f"{summary.unknown:,} given up without an answer" if summary.unknown else "",
        f"{summary.skipped:,} skipped" if summary.skipped else "",
        "interrupted" if summary.interrupted else "",
    ]
    complain("; ".join(part for part in parts if part) + ".")
    if summary.partitions:
        complain("  to " + ", ".join(f"{name}: {count:,}" for name, count in sorted(summary.partitions.items())))
    for cause, count in summary.failures.most_common():
        complain(f"  {count:,} failed: {cause}")
    for example in summary.examples:
        complain(f"    {safe(example)}")


def _size(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
