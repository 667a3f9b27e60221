"""The faults of a random run, each a function that strikes, lasts a while, and leaves all well again.

Four lanes run beside each other: crashes of workers, what else befalls them, faults of Kafka and the way to it, of the
model server and the way to it. A fifth strikes single processes, where workers have several.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import psutil
from kafka import KafkaConsumer
from kafka.errors import KafkaError

from tests.faults.faulty_server import Mood
from tests.faults.proxy import ApiKey, Mode, Proxy
from tests.faults.slots import SETTINGS, Slot, signal_all
from tests.faults.worker_with_faults import STEPS
from tests.faults.world import GROUP, World
from tests.support.harness import wait_for
from worker.errors import ExitCode

Strike = Callable[[World, Random], bool]
"""Whether it struck: a fault may wait for a step that does not come."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault."""

    name: str
    strike: Strike


CRASHES: list[Fault] = []
WORKER: list[Fault] = []
KAFKA: list[Fault] = []
SERVING: list[Fault] = []
PROCESSES: list[Fault] = []
"""For workers of several processes alone."""
LANES = {"crashes": CRASHES, "workers": WORKER, "kafka": KAFKA, "serving": SERVING}


def fault(lane: list[Fault], name: str) -> Callable[[Strike], Strike]:
    """Adds the function to a lane."""

    def add(strike: Strike) -> Strike:
        lane.append(Fault(name, strike))
        return strike

    return add


def all_faults() -> list[Fault]:
    return [*CRASHES, *WORKER, *KAFKA, *SERVING]


# --- crashes and workers ---------------------------------------------------------------------------------------------


def _kill_after(step: str) -> Strike:
    def strike(world: World, random: Random) -> bool:
        slot = random.choice(world.slots)
        before = slot.process
        if step == "init":  # passed at a start, or after a failed delivery
            slot.arm(step, 1)
            before.kill()
            return slot.strike(step, 1, within_seconds=30)
        return slot.strike(step, random.randint(1, 4))

    return strike


CRASHES.extend(Fault(f"SIGKILL after {step}", _kill_after(step)) for step in STEPS)


@fault(CRASHES, "SIGKILL at any time")
def _kill(world: World, random: Random) -> bool:
    slot = random.choice(world.slots)
    time.sleep(random.random())
    slot.process.kill()
    return True


def _pause(slot: Slot, seconds: float) -> bool:
    slot.pause(seconds)
    return True


@fault(WORKER, "SIGSTOP shorter than the session timeout")
def _pause_short(world: World, random: Random) -> bool:
    return _pause(random.choice(world.slots), random.uniform(0.5, 4))


@fault(WORKER, "SIGSTOP longer than the session timeout")
def _pause_long(world: World, random: Random) -> bool:
    return _pause(random.choice(world.slots), SETTINGS["session_timeout_seconds"] + random.uniform(1.5, 4))


@fault(WORKER, "SIGSTOP of all workers")
def _pause_all(world: World, random: Random) -> bool:
    seconds = random.choice((2, SETTINGS["session_timeout_seconds"] + 2))
    with ThreadPoolExecutor(len(world.slots)) as pausing:
        list(pausing.map(lambda slot: slot.pause(seconds), world.slots))
    return True


@fault(WORKER, "SIGTERM")
def _terminate(world: World, random: Random) -> bool:
    return _end(random.choice(world.slots), None)


@fault(WORKER, "SIGTERM twice")
def _terminate_twice(world: World, random: Random) -> bool:
    return _end(random.choice(world.slots), random.uniform(0, 0.3))


def _end(slot: Slot, again_after_seconds: float | None) -> bool:
    process = slot.process
    process.terminate()
    if again_after_seconds is not None:
        time.sleep(again_after_seconds)
        process.terminate()
    wait_for(lambda: process.exit_code is not None, 60, f"the end of {slot.name}")
    return True


@fault(WORKER, "transaction timed out before its commit")
def _late_commit(world: World, random: Random) -> bool:
    seconds = SETTINGS["transaction_timeout_seconds"] + 2.5
    struck = random.choice(world.slots).strike(random.choice(("flush", "offsets")), 1, str(seconds))
    time.sleep(seconds if struck else 0)
    return struck


@fault(WORKER, "no poll beyond the poll interval")
def _late_poll(world: World, random: Random) -> bool:
    seconds = SETTINGS["max_poll_interval_seconds"] + 3
    struck = random.choice(world.slots).strike("poll", 1, str(seconds))
    time.sleep(seconds if struck else 0)
    return struck


@fault(WORKER, "delivery held up beyond the poll interval")
def _late_delivery(world: World, random: Random) -> bool:
    seconds = SETTINGS["max_poll_interval_seconds"] + 2
    struck = random.choice(world.slots).strike("predict", 1, str(seconds))
    time.sleep(seconds if struck else 0)
    return struck


@fault(WORKER, "two workers with one transactional id")
def _same_id(world: World, random: Random) -> bool:
    victim, intruder = random.choice(world.slots), world.spares[0]
    for slot in (victim, intruder):
        slot.allowed.add(ExitCode.FENCED)
    intruder.start({"transactional_id": f"faults.{victim.name}"})
    time.sleep(random.uniform(6, 9))
    intruder.stop()
    return True


@fault(WORKER, "a worker joins and leaves")
def _join_and_leave(world: World, random: Random) -> bool:
    spare = world.spares[0]
    spare.start()
    time.sleep(random.uniform(4, 7))
    if random.random() < 0.5:
        spare.process.kill()
        time.sleep(2)
    spare.stop()
    return True


@fault(WORKER, "rebalance storm")
def _storm(world: World, random: Random) -> bool:
    """Members that join, take partitions, commit nothing and leave, one after another."""
    for _ in range(random.randint(3, 6)):
        with suppress(KafkaError):  # whatever else is broken meanwhile
            member = KafkaConsumer(
                world.topics.reviews,
                bootstrap_servers=world.broker.bootstrap,
                group_id=GROUP,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                session_timeout_ms=6_000,
                heartbeat_interval_ms=1_000,
            )
            try:
                member.poll(int(random.uniform(100, 900)))
            finally:
                member.close(autocommit=False, timeout_ms=2_000)
    return True


# --- one of several processes ----------------------------------------------------------------------------------------


def _one_process(world: World, random: Random) -> list[psutil.Process]:
    """Of one of the workers that have any now; of those it is the only one."""
    children = [child for slot in world.slots for child in slot.children()]
    return random.sample(children, min(1, len(children)))


def _signal_one(number: signal.Signals) -> Strike:
    def strike(world: World, random: Random) -> bool:
        chosen = _one_process(world, random)
        signal_all(chosen, number)
        return bool(chosen)

    return strike


fault(PROCESSES, "SIGKILL of one process")(_signal_one(signal.SIGKILL))


@fault(PROCESSES, "SIGKILL of all processes but the parent")
def _kill_processes(world: World, random: Random) -> bool:
    chosen = random.choice(world.slots).children()
    signal_all(chosen, signal.SIGKILL)
    return bool(chosen)


fault(PROCESSES, "SIGTERM of one process")(_signal_one(signal.SIGTERM))


@fault(PROCESSES, "SIGSTOP of one process beyond the session timeout")
def _pause_process(world: World, random: Random) -> bool:
    chosen = _one_process(world, random)
    signal_all(chosen, signal.SIGSTOP)
    time.sleep(SETTINGS["session_timeout_seconds"] + random.uniform(1, 3))
    signal_all(chosen, signal.SIGCONT)
    return bool(chosen)


@fault(PROCESSES, "SIGKILL of the parent")
def _kill_parent(world: World, random: Random) -> bool:
    random.choice(world.slots).process.kill()
    return True


@fault(PROCESSES, "SIGSTOP of the parent alone")
def _pause_parent(world: World, random: Random) -> bool:
    process = random.choice(world.slots).process
    process.pause()
    time.sleep(random.uniform(2, 8))
    process.resume()
    return True


# --- Kafka -----------------------------------------------------------------------------------------------------------


@fault(KAFKA, "broker SIGTERM and restart")
def _broker_terminated(world: World, random: Random) -> bool:
    with world.broker_lock:
        world.broker.stop()
        time.sleep(random.uniform(0, 3))
        world.broker.start()
    return True


@fault(KAFKA, "broker SIGKILL and restart")
def _broker_killed(world: World, random: Random) -> bool:
    with world.broker_lock:
        world.broker.kill()
        time.sleep(random.uniform(0, 3))
        world.broker.start()
    return True


@fault(KAFKA, "broker SIGSTOP")
def _broker_paused(world: World, random: Random) -> bool:
    with world.broker_lock:
        world.broker.pause()
        time.sleep(random.uniform(1, 8))
        world.broker.resume()
    return True


def _on_the_way(ways: Callable[[World], list[Proxy]], mode: Mode | None, longest_seconds: float) -> Strike:
    """A fault of the proxies to one worker or to all; None: the open connections are cut once."""

    def strike(world: World, random: Random) -> bool:
        proxies = ways(world)
        chosen = proxies if random.random() < 0.4 else [random.choice(proxies)]
        for proxy in chosen:
            proxy.cut() if mode is None else setattr(proxy, "mode", mode)
        if mode is not None:
            time.sleep(random.uniform(longest_seconds / 4, longest_seconds))
            for proxy in chosen:
                proxy.mode = Mode.OPEN
        return True

    return strike


def _to_kafka(world: World) -> list[Proxy]:
    return [slot.kafka for slot in world.slots]


def _to_serving(world: World) -> list[Proxy]:
    return [slot.serving for slot in world.slots]


WAYS: list[tuple[str, Mode | None, float]] = [
    ("cut", None, 0),
    ("refused", Mode.REFUSE, 6),
    ("black hole out", Mode.HOLE_UP, 9),
    ("black hole in", Mode.HOLE_DOWN, 9),
    ("delayed", Mode.DELAY, 6),
    ("dripping", Mode.DRIP, 6),
]
for _name, _mode, _seconds in WAYS:
    KAFKA.append(Fault(f"connection to the broker: {_name}", _on_the_way(_to_kafka, _mode, _seconds)))
    SERVING.append(Fault(f"connection to the model server: {_name}", _on_the_way(_to_serving, _mode, _seconds)))


def _late(kind: ApiKey) -> Strike:
    """A request of a transaction arrives after the client has sent it again, perhaps in the middle of a later one."""

    def strike(world: World, random: Random) -> bool:
        way = random.choice(_to_kafka(world))
        way.hold_back(kind)
        with suppress(TimeoutError):
            wait_for(lambda: way.holds_back, 15, f"a request {kind.name}")
        struck = way.holds_back
        time.sleep(random.uniform(0, 3) if struck else 0)
        way.let_through()
        return struck

    return strike


KAFKA.extend(
    [
        Fault("late offsets of a transaction", _late(ApiKey.TXN_OFFSET_COMMIT)),
        Fault("late end of a transaction", _late(ApiKey.END_TXN)),
    ]
)


# --- the model server ------------------------------------------------------------------------------------------------


NO_USABLE_SCORE = (Mood.NAN, Mood.OUT_OF_RANGE)
"""Moods in which the model answers, with no score that can be used for any review."""


def _mood(mood: Mood, longest_seconds: float) -> Strike:
    def strike(world: World, random: Random) -> bool:
        if mood in NO_USABLE_SCORE:
            # A worker that starts just now tries the model out, and ends: so does one whose model is never any better.
            for slot in (*world.slots, *world.spares):
                slot.allowed.add(ExitCode.MODEL_MISMATCH)
        world.server.mood = mood
        time.sleep(random.uniform(longest_seconds / 3, longest_seconds))
        world.server.mood = Mood.WELL
        return True

    return strike


SERVING.extend(
    Fault(f"model server answers: {mood}", _mood(mood, 4)) for mood in Mood if mood not in (Mood.WELL, Mood.HUNG)
)
SERVING.append(Fault("model server hung", _mood(Mood.HUNG, 6)))
SERVING.append(
    Fault("model server hung beyond the poll interval", _mood(Mood.HUNG, 3 * SETTINGS["max_poll_interval_seconds"] + 6))
)


@fault(SERVING, "model server SIGKILL and restart")
def _server_killed(world: World, random: Random) -> bool:
    world.kill_model_server()
    time.sleep(random.uniform(0, 2))
    world.start_model_server()
    return True


@fault(SERVING, "model version swapped")
def _swapped(world: World, random: Random) -> bool:
    world.history.note("version", newest=world.models.swap())
    time.sleep(random.uniform(1, 3))
    return True
