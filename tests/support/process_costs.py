"""What further processes cost: `python -m tests.support.process_costs --processes 1 2 --reviews 20000`.

A real broker, the real model behind the real model server, IMDb reviews. Prints the memory of each process once all is
answered (RSS; PSS, which counts pages shared with others in parts; USS, what its end would free), and the CPU that worker or
parent then spend while nothing comes."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from deploy.local.broker import Broker
from deploy.local.models import MODEL, MODELS, ensure_model
from producer.dataset import imdb_reviews
from tests.conftest import create_topics
from tests.support.harness import WorkerProcess, produce, review_json, wait_for_lag_zero
from tests.support.model_server import running_model_server

console = Console()
LIMIT_SECONDS = 300.0
SCRAPES = 50


def reviews(count: int) -> Iterator[bytes]:
    """Real ones, repeated as often as it takes."""
    return (review_json(each.review.text) for each in islice(cycle(list(imdb_reviews())), count))


def measure(bootstrap: str, serving: str, processes: int, count: int, idle_seconds: float, folder: Path) -> None:
    """Runs one worker and prints what it took."""
    topics = create_topics(bootstrap)
    names = dict(zip(("input_topic", "output_topic", "dead_letter_topic"), topics, strict=True))
    settings = {"bootstrap": bootstrap, "serving": serving, "group": topics[0], "processes": processes, **names}
    with WorkerProcess(settings, folder / f"{processes}.log").wait_ready() as worker:
        produce(bootstrap, topics[0], reviews(count))
        wait_for_lag_zero(bootstrap, topics[0], topics[0], LIMIT_SECONDS)
        first = psutil.Process(worker.pid)
        table = Table(title=f"--processes {processes}, after {count:,} reviews")
        for heading in ("process", "RSS MB", "PSS MB", "USS MB"):
            table.add_column(heading, justify="right")
        for number, process in enumerate([first, *first.children()]):
            memory = process.memory_full_info()
            figures = (f"{size / 1e6:.1f}" for size in (memory.rss, memory.pss, memory.uss))
            table.add_row("worker" if processes == 1 else "parent" if number == 0 else str(number - 1), *figures)
        console.print(table)
        before = cpu_seconds(first)
        time.sleep(idle_seconds)
        share = (cpu_seconds(first) - before) / idle_seconds
        worker.metrics()
        scraped = cpu_seconds(first)
        for _ in range(SCRAPES):
            worker.get("/metrics")
        per_scrape = (cpu_seconds(first) - scraped) / SCRAPES
        console.print(f"idle: {share:.2%} of a core; {1000 * per_scrape:.1f} ms of CPU for a scrape", highlight=False)


def cpu_seconds(process: psutil.Process) -> float:
    """User and system CPU so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    """Measures each number of processes in turn."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--reviews", type=int, default=20_000)
    parser.add_argument("--idle-seconds", type=float, default=30)
    parser.add_argument("--models", type=Path, default=MODELS)
    options = parser.parse_args()
    ensure_model(options.models)
    with (
        tempfile.TemporaryDirectory() as temporary,
        running_model_server(options.models / MODEL) as server,
    ):
        broker = Broker(Path(temporary) / "kafka")
        broker.start()
        try:
            for processes in options.processes:
                measure(
                    broker.bootstrap,
                    server.grpc_target,
                    processes,
                    options.reviews,
                    options.idle_seconds,
                    Path(temporary),
                )
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
