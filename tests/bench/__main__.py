"""`make bench`: floors, loops and the worker in its forms, side by side in one run on this machine.

Each candidate is a process of its own whose CPU is read from the kernel; broker and model server are other processes and
count for nobody. What a process spends before its first record (imports, connecting) is left out: it is paid once. The
candidates take turns for several rounds, so that whatever else the machine does falls on all of them. Every answer is
checked against those of the other candidates.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from deploy.local.broker import Broker
from deploy.local.models import MODEL, MODELS, ensure_model, versions
from producer.connection import Connection
from producer.dataset import imdb_reviews
from producer.push import push
from protos.codecs import ReviewMessage
from tests.bench import latency, plot, stages
from tests.bench.candidates import BEST, CANDIDATES, KAFKA_PYTHON, LEAST, LIBRDKAFKA, ONCE, Candidate
from tests.bench.checking import Answer, check, read_answers
from tests.bench.figures import Figures, Measured, Row, Wait, page
from tests.bench.running import Place
from tests.bench.servers import Server, null_model, real_model
from tests.conftest import create_topics

FOLDER = Path(__file__).parent
PICTURE = "figures.svg"
STAGE_REVIEWS = 16_384

console = Console(width=None if sys.stdout.isatty() else 140)


def main() -> None:
    """Runs everything, prints it, and writes it down where asked to."""
    options = _options()
    ensure_model(options.models)
    model = options.models / MODEL / str(versions(options.models)[-1])
    texts = [entry.review.text for entry in imdb_reviews()]
    with contextlib.ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        null = stack.enter_context(null_model(model))
        server = null if options.null_model else stack.enter_context(real_model(model))
        bootstrap = options.bootstrap or stack.enter_context(_broker(logs / "kafka"))
        bench = Bench(bootstrap, model, logs, server, null, texts)
        rows = bench.rounds(_chosen(options), options.reviews, options.rounds)
        figures = Figures(
            command=" ".join(["python -m tests.bench", *sys.argv[1:]]),
            machine=_machine(),
            rows=tuple(rows),
            waits=tuple(bench.waits(rows)) if options.waits else (),
            stages=tuple(stages.measure(model, texts[:STAGE_REVIEWS])) if options.waits else (),
        )
    _show(figures)
    if options.write:
        (FOLDER / "figures.json").write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
        (FOLDER / "FIGURES.md").write_text(page(figures, PICTURE))
        plot.draw(figures, FOLDER / PICTURE)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--reviews", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], help="part of a candidate's name; may be repeated")
    parser.add_argument("--waits", action=argparse.BooleanOptionalAction, default=True, help="latencies and stages too")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of exported models")
    parser.add_argument("--bootstrap", default="", help="brokers elsewhere, so that none takes this machine's cores")
    parser.add_argument("--null-model", action="store_true", help="only the model server that costs nothing")
    parser.add_argument("--write", action="store_true", help="write figures.json, FIGURES.md and the picture")
    return parser.parse_args()


def _chosen(options: argparse.Namespace) -> list[Candidate]:
    found = [each for each in CANDIDATES if not options.only or any(part in each.name for part in options.only)]
    return [each for each in found if not (options.null_model and each.needs_rest)]


@contextlib.contextmanager
def _broker(folder: Path) -> Iterator[str]:
    broker = Broker(folder)
    broker.start()
    try:
        yield broker.bootstrap
    finally:
        broker.stop()


def _machine() -> str:
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), Python {platform.python_version()}"


class Bench:
    """One broker, the model servers and the reviews."""

    def __init__(
        self, bootstrap: str, model: Path, logs: Path, server: Server, null: Server, texts: Sequence[str]
    ) -> None:
        self._bootstrap = bootstrap
        self._model = model
        self._logs = logs
        self._server = server
        self._null = null
        self._texts = texts
        self._known: defaultdict[Server, dict[bytes, Answer]] = defaultdict(dict)
        """The answers that every candidate on a model server has to give."""

    def rounds(self, candidates: Sequence[Candidate], reviews: int, count: int) -> list[Row]:
        """Every candidate in each round."""
        measured: defaultdict[str, list[Measured]] = defaultdict(list)
        for number in range(count):
            for candidate in candidates:
                with console.status(f"round {number + 1} of {count}: {candidate.name}"):
                    measured[candidate.name].append(self._run(candidate, reviews // candidate.share))
        return [Row(name, tuple(each)) for name, each in measured.items()]

    def waits(self, rows: Sequence[Row]) -> Iterator[Wait]:
        """Idle, and at half of the rate that the best candidate reached."""
        half = next((row.per_second / 2 for row in rows if row.name == BEST), 1_000.0)
        for delivery in (LEAST, ONCE):
            for client in (KAFKA_PYTHON, LIBRDKAFKA):
                name = f"worker, {client[1]}, {delivery[1]}"
                arguments = (*client, *delivery)
                for what, rate, count in (
                    ("idle", latency.IDLE_PER_SECOND, latency.IDLE_REVIEWS),
                    ("half load", half, int(half * latency.BUSY_SECONDS)),
                ):
                    with console.status(f"{name}, {what}"):
                        yield latency.measure(
                            f"{name}, {what}",
                            self._place(self._server),
                            arguments,
                            self._texts,
                            per_second=rate,
                            count=count,
                        )

    def _run(self, candidate: Candidate, reviews: int) -> Measured:
        server = self._null if candidate.null_model else self._server
        place = self._place(server)
        if candidate.reads_topic:
            # Pushed first, so that the candidate is never short of them.
            numbered = (ReviewMessage(str(n), text) for n, text in enumerate(islice(cycle(self._texts), reviews)))
            summary = push(numbered, Connection.find(self._bootstrap), topic=place.topics[0])
            if summary.failed:
                raise SystemExit(f"{summary.failed} reviews could not be pushed")
        measured = candidate.run(reviews, place)
        if candidate.answers:
            answers = read_answers(self._bootstrap, place.topics[1])
            check(candidate.name, answers, reviews, self._known[server])
        return measured

    def _place(self, server: Server) -> Place:
        topics = create_topics(self._bootstrap, partitions=3)
        return Place(self._bootstrap, server.grpc_target, server.rest_url, topics, self._model, self._logs, server.pid)


def _show(figures: Figures) -> None:
    table = Table(title="CPU and throughput, one candidate at a time")
    for heading in ("", "CPU µs a review", "least", "most", "model µs", "reviews/s", "peak MB", "ready s"):
        table.add_column(heading, justify="left" if not heading else "right")
    for row in figures.rows:
        cpu = [each.cpu_us for each in row.rounds]
        last = row.rounds[-1]
        cells = (row.cpu_us, min(cpu), max(cpu), last.model_us, row.per_second, last.peak_bytes / 1e6)
        table.add_row(row.name, *(f"{cell:,.1f}" for cell in cells), f"{last.ready_seconds:.2f}")
    console.print(table)
    for wait in figures.waits:
        console.print(f"{wait.name}: p50 {wait.p50_ms:.0f} ms, p99 {wait.p99_ms:.0f} ms at {wait.per_second:,.0f}/s")
    for stage in figures.stages:
        console.print(f"{stage.name}: {stage.cpu_us:.2f} µs")


if __name__ == "__main__":
    main()
