"""A run: seeded faults against real parts while reviews keep coming, then the checker's judgement."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from kafka import KafkaProducer

from deploy.local.broker import JARS
from tests.faults.checker import Report
from tests.faults.faults import LANES, PROCESSES, Fault
from tests.faults.liveness import Standstill, wait_until_answered
from tests.faults.reviews import Reviews
from tests.faults.world import World
from tests.support.harness import committed_offsets

REST_SECONDS = (1.0, 6.0)
"""Between two faults of a lane, so that faults meet workers that get on."""
SETTLE_SECONDS = 180.0
MALFORMED_SHARE = 0.01
POISON_SHARE = 0.00002
BURST = 400


@dataclass(frozen=True)
class Plan:
    """What a run does. It ends with the first of `faults` and `minutes` that is set, and not before `messages` were sent."""

    seed: int
    faults: int | None = None
    minutes: float | None = None
    messages: int = 0
    workers: int = 2
    rate: float = 400.0
    """Reviews a second while faults strike; what is missing afterwards is sent as fast as it goes."""
    kafka_client: str = "kafka-python"
    """The workers'; what the run itself asks of Kafka goes through kafka-python, so that a client is no judge of itself."""
    group_protocol: str = "classic"
    """The workers'; see the setting kafka-group-protocol."""
    processes: int = 1
    """Of each worker; with more than one, single processes are struck too."""


@dataclass
class Outcome:
    """What a run found."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    """Faults that waited for a step of a window that did not come in time."""
    report: Report = field(default_factory=Report)
    unexpected_ends: dict[str, list[int]] = field(default_factory=dict)
    ends: Counter[int] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    unsent: int = 0
    answered_meanwhile: int = 0
    """Messages committed by the time the last fault was over; the rest came when all was well again."""
    standstill_seconds: float = 0.0
    """The longest that a partition with lag stood still after all was well again."""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not (self.report.violations or self.unexpected_ends or self.errors or self.unsent)


def run(plan: Plan, folder: Path, *, say: Callable[[str], None] = lambda _line: None, jars: Path = JARS) -> Outcome:
    """Starts a world in `folder`, runs the plan, heals all, waits until each partition has moved on
    to lag 0, and judges."""
    random = Random(plan.seed)
    outcome = Outcome(plan.seed)
    started = time.monotonic()
    partitions = (3, random.choice((3, 4)))
    settings = {
        "kafka_client": plan.kafka_client,
        "kafka_group_protocol": plan.group_protocol,
        "processes": plan.processes,
    }
    with World(folder, workers=plan.workers, partitions=partitions, settings=settings, jars=jars) as world:
        reviews = Reviews(
            plan.seed, world.models.by_remainder, malformed_share=MALFORMED_SHARE, poison_share=POISON_SHARE
        )
        world.start_workers()
        several = f" of {plan.processes} processes" if plan.processes > 1 else ""
        workers = f"{plan.workers} workers{several} with {plan.kafka_client} ({plan.group_protocol})"
        say(f"seed {plan.seed}: {workers}, {partitions} partitions, history in {world.history.path}")
        feed = Feed(world, reviews, plan)
        feed.start()
        _strike_all(plan, world, outcome, say)
        world.heal()
        topics = world.topics
        outcome.answered_meanwhile = sum(committed_offsets(topics.bootstrap, topics.group, topics.reviews).values())
        say(f"{outcome.faults.total()} faults in {time.monotonic() - started:.0f} s; healed")
        _settle(world, feed, outcome)
        world.stop_workers()
        for slot in (*world.slots, *world.spares):
            outcome.ends.update(slot.ends)
            if slot.unexpected_ends:
                outcome.unexpected_ends[slot.name] = slot.unexpected_ends
        outcome.report = world.check(reviews.expect)
    outcome.seconds = time.monotonic() - started
    return outcome


def _settle(world: World, feed: Feed, outcome: Outcome) -> None:
    """The rest is sent while it is watched whether each partition moves."""
    with ThreadPoolExecutor(1, "feed-rest") as aside:
        unsent = aside.submit(feed.finish)
        try:
            outcome.standstill_seconds = wait_until_answered(world, SETTLE_SECONDS, sent=unsent.done)
        except (Standstill, TimeoutError) as error:
            outcome.errors.append(str(error))
        outcome.unsent = unsent.result()


def _strike_all(plan: Plan, world: World, outcome: Outcome, say: Callable[[str], None]) -> None:
    """The lanes beside each other until the plan's faults or minutes are used up."""
    deadline = time.monotonic() + plan.minutes * 60 if plan.minutes else float("inf")
    left = threading.Semaphore(plan.faults if plan.faults is not None else 1_000_000)

    lanes = {**LANES, "processes": PROCESSES} if plan.processes > 1 else LANES

    def lane(name: str) -> None:
        random = Random(f"{plan.seed}/{name}")
        for each in _shuffled(lanes[name], random):
            if time.monotonic() > deadline or not left.acquire(blocking=False):
                return
            try:
                world.history.note("fault", lane=name, kind=each.name)
                struck = each.strike(world, random)
            except Exception as error:  # noqa: BLE001  a fault that cannot strike is part of the outcome
                outcome.errors.append(f"{each.name}: {type(error).__name__}: {error}")
                struck = False
            world.history.note("healed" if struck else "missed", lane=name, kind=each.name)
            (outcome.faults if struck else outcome.missed)[each.name] += 1
            if not struck:
                left.release()
            say(f"{outcome.faults.total():4} {name}: {each.name}{'' if struck else ' (did not strike)'}")
            time.sleep(random.uniform(*REST_SECONDS))

    threads = [threading.Thread(target=lane, args=(name,), name=f"lane-{name}") for name in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _shuffled(faults: Sequence[Fault], random: Random) -> Iterator[Fault]:
    """Every kind once in a random order, again and again."""
    while True:
        yield from random.sample(faults, len(faults))


class Feed:
    """Sends reviews in bursts on a thread of its own, whatever happens to the broker."""

    def __init__(self, world: World, reviews: Reviews, plan: Plan) -> None:
        self._topic = world.topics.reviews
        self._reviews = reviews
        self._plan = plan
        self._random = Random(f"{plan.seed}/feed")
        self._hurry = threading.Event()
        self._failed = 0
        self._sent = 0
        self._thread = threading.Thread(target=self._run, name="feed")
        self._producer = KafkaProducer(
            bootstrap_servers=world.broker.bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_block_ms=120_000,
            delivery_timeout_ms=300_000,
            request_timeout_ms=10_000,
            metrics_enabled=False,
        )

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> int:
        """Sends what the plan still wants, waits for every acknowledgement, and returns how many never came."""
        self._hurry.set()
        self._thread.join()
        self._producer.flush(300)
        self._producer.close()
        return self._failed

    def _run(self) -> None:
        while not self._hurry.is_set():
            burst = self._random.randint(1, BURST)
            self._send(burst)
            self._hurry.wait(burst / self._plan.rate)
        while self._sent < self._plan.messages:
            self._send(min(BURST, self._plan.messages - self._sent))

    def _send(self, count: int) -> None:
        for _ in range(count):
            out = self._reviews.next()
            future = self._producer.send(self._topic, out.value, key=out.key, headers=out.headers)
            future.add_errback(self._on_failure)
        self._sent += count

    def _on_failure(self, _error: BaseException) -> None:
        self._failed += 1
