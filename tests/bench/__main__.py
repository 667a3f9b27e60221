"""`make bench`: the floor, the blog's loop and the worker, side by side in one run on this machine.

Each candidate is a process of its own whose CPU is read from the kernel; broker and model server are other processes and
count for nobody. What a process spends before its first record (imports, connecting) is left out: it is paid once.

The candidates take turns for several rounds, so that whatever else the machine does falls on all of them; each row is the
round with the middle CPU, and the two deliveries are compared within each round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deploy.local.broker import Broker
from deploy.local.models import MODEL, MODELS, ensure_model
from producer.connection import Connection
from producer.dataset import imdb_reviews
from producer.push import push
from protos.codecs import ReviewMessage
from tests.bench.candidates import Candidate, Measured, Program
from tests.bench.idle import first_result_seconds
from tests.conftest import create_topics
from tests.support.model_server import ServerHandle, running_model_server

AT_LEAST_ONCE, EXACTLY_ONCE = "worker, at-least-once", "worker, exactly-once"
LIBRDKAFKA = ("--kafka-client", "librdkafka")

console = Console()


def reviews(count: int) -> Iterator[ReviewMessage]:
    """Real reviews, repeated as often as it takes, each with an id of its own."""
    texts = [entry.review.text for entry in imdb_reviews()]
    return (ReviewMessage(str(n), text) for n, text in enumerate(islice(cycle(texts), count)))


def candidates(count: int, slow_count: int) -> list[Candidate]:
    """What is compared; the blog's loop gets fewer reviews, since it would take half an hour."""
    return [
        Candidate("floor: consume and produce, nothing else", Program.FLOOR, count),
        Candidate("the blog's loop: one review, one REST call", Program.BLOG, slow_count),
        Candidate(AT_LEAST_ONCE, Program.WORKER, count, ("--delivery", "at-least-once")),
        Candidate(EXACTLY_ONCE, Program.WORKER, count, ("--delivery", "exactly-once")),
        *(
            Candidate(f"{name}, librdkafka", Program.WORKER, count, ("--delivery", delivery, *LIBRDKAFKA))
            for name, delivery in ((AT_LEAST_ONCE, "at-least-once"), (EXACTLY_ONCE, "exactly-once"))
        ),
    ]


def measure(candidate: Candidate, broker: Broker, server: ServerHandle, folder: Path) -> Measured:
    """Pushes the reviews first, so that the candidate is never short of them, then runs it to the end of the topic."""
    names = create_topics(broker.bootstrap, partitions=3)
    summary = push(reviews(candidate.reviews), Connection.find(broker.bootstrap), topic=names[0])
    if summary.failed:
        raise SystemExit(f"{summary.failed} reviews could not be pushed")
    return candidate.run(broker.bootstrap, server, names, folder)


def middle(rounds: list[Measured]) -> Measured:
    """The round with the median CPU."""
    return sorted(rounds, key=lambda each: each.cpu_us)[len(rounds) // 2]


def show(rounds: dict[str, list[Measured]]) -> None:
    """The comparison as a table, and what exactly-once costs."""
    measured = [middle(each) for each in rounds.values()]
    table = Table(title="CPU and throughput, one process at a time")
    for heading in ("", "reviews", "CPU µs a review", "reviews/s", "resident MB", "ready after s"):
        table.add_column(heading, justify="left" if not heading else "right")
    for each in measured:
        table.add_row(
            each.name,
            f"{each.reviews:,}",
            f"{each.cpu_us:.0f}",
            f"{each.per_second:,.0f}",
            f"{each.resident_bytes / 1e6:.0f}",
            f"{each.ready_seconds:.2f}",
        )
    console.print(table)
    if AT_LEAST_ONCE in rounds and EXACTLY_ONCE in rounds:
        pairs = zip(rounds[EXACTLY_ONCE], rounds[AT_LEAST_ONCE], strict=True)
        ratios = sorted(once.cpu_us / least.cpu_us for once, least in pairs)
        console.print(
            f"exactly-once costs {statistics.median(ratios):.2f} times the CPU of at-least-once "
            f"(median of {len(ratios)} rounds, {ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


def main() -> None:
    """Runs everything and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reviews", type=int, default=100_000)
    parser.add_argument("--blog-reviews", type=int, default=2_000)
    parser.add_argument("--idle", type=int, default=30, help="single reviews sent to an idle worker")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of exported models")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="part of a candidate's name")
    options = parser.parse_args()
    ensure_model(options.models)
    rounds: defaultdict[str, list[Measured]] = defaultdict(list)
    with (
        tempfile.TemporaryDirectory() as temporary,
        running_model_server(options.models / MODEL) as server,
    ):
        folder = Path(temporary)
        broker = Broker(folder / "kafka")
        broker.start()
        try:
            for number in range(options.rounds):
                for candidate in candidates(options.reviews, options.blog_reviews):
                    if options.only in candidate.name:
                        with console.status(f"round {number + 1} of {options.rounds}: {candidate.name}"):
                            rounds[candidate.name].append(measure(candidate, broker, server, folder))
            show(rounds)
            if not options.only or options.idle != parser.get_default("idle"):
                for delivery in ("at-least-once", "exactly-once"):
                    waits = first_result_seconds(broker.bootstrap, server, delivery, options.idle, folder)
                    console.print(
                        f"idle worker, {delivery}: a review's result after {statistics.median(waits) * 1000:.0f} ms "
                        f"(median of {len(waits)}; slowest {max(waits) * 1000:.0f} ms)"
                    )
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
