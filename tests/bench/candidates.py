"""The programs that are measured."""

from __future__ import annotations

import msgspec

from tests.bench.figures import Measured
from tests.bench.running import Place, run_loop, run_worker

KAFKA_PYTHON, LIBRDKAFKA = ("--kafka-client", "kafka-python"), ("--kafka-client", "librdkafka")
LEAST, ONCE = ("--delivery", "at-least-once"), ("--delivery", "exactly-once")
BEST = "worker, librdkafka, exactly once"
"""The candidate that the targets are about."""
TWO = f"{BEST}, 2 processes"
SLOW_SHARE = 25
"""The tutorial's loop gets one review in so many: it would take half an hour."""


class Candidate(msgspec.Struct, frozen=True):
    """A program, and its arguments if it is a worker."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    """A worker's; a loop takes none."""
    share: int = 1
    """It gets one review in so many."""
    reads_topic: bool = True
    answers: bool = True
    """Whether it writes labels that can be checked; a floor writes none."""
    needs_rest: bool = False
    """Whether it speaks to the model server over REST, which the null model has not."""
    null_model: bool = False
    """Whether it runs against the model server that costs nothing (see null_model), to find out what bounds the worker."""

    def run(self, reviews: int, place: Place) -> Measured:
        """Runs it over topics that already hold that many reviews."""
        if self.arguments:
            return run_worker(self.module, self.arguments, reviews, place)
        return run_loop(self.module, reviews, place)


LOOPS = "tests.bench.loops"
CANDIDATES = (
    Candidate("floor: kafka-python", f"{LOOPS}.floor_kafka_python", answers=False),
    Candidate("floor: librdkafka", f"{LOOPS}.floor_librdkafka", answers=False),
    Candidate("floor: bare Predict calls", f"{LOOPS}.bare_predict", reads_topic=False, answers=False),
    Candidate("the tutorial's loop: one review, one REST call", f"{LOOPS}.tutorial", share=SLOW_SHARE, needs_rest=True),
    Candidate("a plain batch loop: librdkafka, tfds, official stubs", f"{LOOPS}.batches", share=2),
    Candidate("worker, kafka-python, at least once", "worker", (*KAFKA_PYTHON, *LEAST)),
    Candidate("worker, kafka-python, exactly once", "worker", (*KAFKA_PYTHON, *ONCE)),
    Candidate("worker, librdkafka, at least once", "worker", (*LIBRDKAFKA, *LEAST)),
    Candidate(BEST, "worker", (*LIBRDKAFKA, *ONCE)),
    Candidate(
        "worker, kafka-python, exactly once, no compiler", "tests.bench.without_compiled", (*KAFKA_PYTHON, *ONCE)
    ),
    Candidate("worker, librdkafka, exactly once, no compiler", "tests.bench.without_compiled", (*LIBRDKAFKA, *ONCE)),
    Candidate(TWO, "worker", (*LIBRDKAFKA, *ONCE, "--processes", "2")),
    Candidate(f"{BEST}, null model", "worker", (*LIBRDKAFKA, *ONCE), null_model=True),
    Candidate(f"{TWO}, null model", "worker", (*LIBRDKAFKA, *ONCE, "--processes", "2"), null_model=True),
)
