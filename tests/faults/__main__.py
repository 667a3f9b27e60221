"""`python -m tests.faults --seed 7 --minutes 60`, or `--faults 100 --messages 200000`.

Prints the seed, the faults by kind and what the checker found; ends with 1 when anything was lost, duplicated, out of
order or wrong, and then keeps the folder with history and logs.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

from rich.console import Console
from rich.table import Table

from tests.faults.runner import Outcome, Plan, run
from worker.errors import ExitCode
from worker.kafka.drivers import DEFAULT, MAKERS

console = Console()
PROTOCOLS = ("classic", "cooperative", "consumer")


def main() -> int:
    """Runs one plan."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1_000_000))
    parser.add_argument("--minutes", type=float, help="let faults strike for this long")
    parser.add_argument(
        "--faults", type=int, help="let this many faults strike (default: 100, unless minutes are given)"
    )
    parser.add_argument("--messages", type=int, default=0, help="send at least this many reviews")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--processes", type=int, default=1, help="of each worker; more than 1 adds faults of single ones"
    )
    parser.add_argument("--rate", type=float, default=400.0, help="reviews a second while faults strike")
    parser.add_argument("--kafka-client", choices=MAKERS, default=DEFAULT, help="the workers'")
    parser.add_argument("--group-protocol", choices=PROTOCOLS, default=PROTOCOLS[0], help="the workers'")
    parser.add_argument("--folder", type=Path, help="where logs and history go; kept")
    given = parser.parse_args()
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # the run's own clients; what fails is part of the run
    faults = given.faults if given.faults is not None or given.minutes is not None else 100
    plan = Plan(
        given.seed,
        faults,
        given.minutes,
        given.messages,
        given.workers,
        given.rate,
        given.kafka_client,
        given.group_protocol,
        given.processes,
    )
    folder = given.folder or Path(tempfile.mkdtemp(prefix="inferry-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    outcome = run(plan, folder, say=lambda line: console.print(line, markup=False, highlight=False))
    show(outcome)
    if outcome.ok and not given.folder:
        shutil.rmtree(folder)
    else:
        console.print(f"history and logs: {folder}")
    return 0 if outcome.ok else 1


def show(outcome: Outcome) -> None:
    """The outcome for a person."""
    table = Table("fault", "times", title=f"seed {outcome.seed}")
    for name, count in sorted(outcome.faults.items()):
        table.add_row(name, str(count))
    console.print(table)
    missed = f", {outcome.missed.total()} did not strike" if outcome.missed else ""
    ends = ", ".join(f"{_name(code)} {count}" for code, count in sorted(outcome.ends.items()))
    console.print(
        f"seed {outcome.seed}: {outcome.faults.total()} faults of {len(outcome.faults)} kinds{missed} "
        f"in {outcome.seconds / 60:.1f} min, {outcome.answered_meanwhile:,} messages committed meanwhile; "
        f"workers ended: {ends}"
    )
    console.print(
        f"longest standstill of a partition after healing: {outcome.standstill_seconds:.1f} s", highlight=False
    )
    console.print(str(outcome.report), highlight=False)
    for name, codes in outcome.unexpected_ends.items():
        console.print(f"{name} ended unexpectedly: {', '.join(map(_name, codes))}")
    for error in outcome.errors:
        console.print(f"error: {error}", markup=False)
    if outcome.unsent:
        console.print(f"{outcome.unsent} reviews could not be sent")
    if outcome.report.violations:
        console.print(json.dumps(outcome.report.shown, indent=1), markup=False)


def _name(code: int) -> str:
    return f"{ExitCode(code).name} ({code})" if code in list(ExitCode) else f"signal {-code}"


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # grpc's and kafka's threads of a broken run must not hold the process back
