"""The main job from beginning to end on a stack of its own: real reviews in, labelled results out, figures at the end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn

from deploy.local.broker import JARS
from deploy.local.demo_report import show, where_next
from deploy.local.errors import LocalError, ProcessDied
from deploy.local.jars import ensure_jars
from deploy.local.models import MODEL, ensure_model, held_out_texts, report
from deploy.local.stack import FREE_PORTS, Stack
from deploy.local.terminal import bars, console, steps
from deploy.local.trial import Trial
from producer.connection import Connection
from producer.dataset import imdb_reviews
from producer.errors import ProducerError
from producer.inputs import Entry, entry
from producer.push import push
from producer.results import end_offsets, read_results
from producer.sending import Summary
from protos.codecs import ReviewMessage

CALM_REVIEWS = 300
CALM_RATE = 100.0
"""Reviews a second in the second part, which shows the latency of a worker that has no backlog."""
SILENCE_SECONDS = 60
"""Without a single result for this long, something is wrong."""
EXAMPLES = (
    "That movie i saw the other day was fantabulous",
    "That movie i saw the other day was fantastic",
    "That movie i saw the other day was aweful",
)


def run(state: Path, models: Path, count: int) -> None:
    """Does it all, prints it, and stops what it started. Raises LocalError."""
    folder = state / "demo"
    shutil.rmtree(folder, ignore_errors=True)  # an earlier demo's logs
    ensure_jars(JARS)
    ensure_model(models)
    try:
        reviews = list(imdb_reviews(count))
        with Stack(folder, ports=FREE_PORTS, models=models) as stack:
            with steps(len(Stack.STEPS)) as on_step:
                stack.start(on_step)
            console.print(f"The worker's status page, while the demo runs: {stack.where.status}")
            _run(stack, reviews, models)
            with console.status("Stopping the stack"):
                stack.stop()
    except ProducerError as error:
        raise LocalError(str(error)) from error
    shutil.rmtree(folder / "data", ignore_errors=True)
    console.print(f"\nEverything the demo started has been stopped. Its logs are in {stack.logs}.")


def _run(stack: Stack, reviews: Sequence[Entry], models: Path) -> None:
    calm = [_renamed(review, "calm") for review in reviews[:CALM_REVIEWS]]
    examples = [entry(ReviewMessage(f"example-{number}", text)) for number, text in enumerate(EXAMPLES)]
    burst_trial = _trial(stack, reviews, "Reviews at full speed", rate=None)
    calm_trial = _trial(stack, calm, f"Reviews at {CALM_RATE:g} a second", rate=CALM_RATE)
    examples_trial = _trial(stack, examples, "Example sentences", rate=None)
    version = models / MODEL / str(burst_trial.model_version)
    show(burst_trial, calm_trial, examples_trial, held_out_texts(version))
    where_next(stack.where, report(version))


def _trial(stack: Stack, reviews: Sequence[Entry], title: str, rate: float | None) -> Trial:
    """Pushes the reviews and waits until each is answered, with a bar for either. Raises LocalError or ProducerError."""
    connection = Connection.find(stack.where.bootstrap)
    trial = Trial(reviews)
    begin = end_offsets(connection)
    with ThreadPoolExecutor(1) as pool, bars("{task.description}", BarColumn(), MofNCompleteColumn()) as progress:
        if progress.disable:
            console.print(f"{title}: pushing {len(reviews):,} and waiting for the answers")
        pushed = progress.add_task(f"{title}: pushed", total=len(reviews))
        answered = progress.add_task(f"{title}: answered", total=len(reviews))

        def on_progress(summary: Summary) -> None:
            progress.update(pushed, completed=summary.sent)

        pushing = pool.submit(push, _stamped(trial), connection, rate=rate, on_progress=on_progress)
        heard = time.monotonic()
        for batch in read_results(connection, start=begin, follow=True):
            now = time.time()
            for received in batch:
                trial.take(received.result, now)
            progress.update(answered, completed=len(trial.answers))
            if trial.complete:
                break
            stack.check()
            if pushing.done():
                _check_pushed(pushing.result())
            heard = time.monotonic() if batch else heard
            if time.monotonic() - heard > SILENCE_SECONDS:
                raise ProcessDied(
                    f"Only {len(trial.answers):,} of {len(reviews):,} reviews were answered, and nothing came for "
                    f"{SILENCE_SECONDS} s. The worker's log: {stack.logs / 'worker.log'}"
                )
    return trial


def _stamped(trial: Trial) -> Iterator[Entry]:
    """The trial's reviews; notes when each is taken."""
    for review in trial.reviews:
        trial.sent_at[review.review.id] = time.time()
        yield review


def _check_pushed(summary: Summary) -> None:
    if summary.error is not None:
        raise summary.error
    if summary.failed or summary.unknown:
        raise LocalError(f"{summary.failed + summary.unknown} reviews could not be pushed: {dict(summary.failures)}")


def _renamed(review: Entry, prefix: str) -> Entry:
    """The same review under another id."""
    message = review.review
    return entry(ReviewMessage(f"{prefix}-{message.id}", message.text, message.attributes))
