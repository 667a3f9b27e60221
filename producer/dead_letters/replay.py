"""Sends dead letters back to the topic they came from, each at most once unless asked again.

What was replayed is remembered by a consumer group's commits (see `replayed`). They follow the acknowledgements: when a
replay is killed outright, the next one may repeat what was sent in its last seconds. Kafka forgets a group's commits
a week after the last one (the broker's `offsets.retention.minutes`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from producer.connection import Connection
from producer.dead_letters.finding import ALL, DEFAULT_TOPIC, Filter, Found, as_found
from producer.dead_letters.replayed import Replayed
from producer.errors import ExitCode, ProducerError, Unavailable
from producer.interruption import Interruption
from producer.pacing import Pacer
from producer.reading import TopicReader
from producer.sending import OnProgress, Sending, Summary, ToSend
from protos.dead_letters import replay_headers

DEFAULT_GROUP = "inferry-replay"
DEFAULT_MAX_ATTEMPTS = 3
_COMMIT_EVERY_SECONDS = 2.0


@dataclass(frozen=True)
class Plan:
    """What to replay, and how."""

    topic: str = DEFAULT_TOPIC
    wanted: Filter = ALL
    to: str | None = None
    """The topic to send to; None: the one each dead letter came from, to the same partition."""
    group: str = DEFAULT_GROUP
    """The consumer group that remembers what was replayed. One replay at a time."""
    again: bool = False
    """Also what was replayed before."""
    dry_run: bool = False
    """Send and remember nothing, only say what would be sent."""
    rate: float | None = None
    """Records per second; None: full speed."""
    limit: int | None = None
    """Send no more than this many."""
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    """Refuse what was replayed this often already: it would only come back."""


@dataclass
class Outcome:
    """What became of the dead letters."""

    summary: Summary = field(default_factory=Summary)
    """Of the sends."""
    chosen: Counter[str] = field(default_factory=Counter)
    """Dead letters sent (in a dry run: that would be), by reason."""
    before: bool = False
    """Whether some were left out because an earlier run replayed them."""
    refused: Counter[str] = field(default_factory=Counter)
    """Dead letters that fit but cannot or must not be sent, by why."""

    @property
    def exit_code(self) -> ExitCode:
        """How a process with this outcome should end. What was refused is no failure: it would fail every later run."""
        return self.summary.exit_code


def replay(
    connection: Connection,
    plan: Plan = Plan(),
    *,
    on_chosen: Callable[[Found, str], None] | None = None,
    on_progress: OnProgress | None = None,
    interruption: Interruption | None = None,
) -> Outcome:
    """Replays what is in the dead-letter topic now; what fails again meanwhile is left for the next run.

    `on_chosen` is told each dead letter and the topic it goes to. Returns once every delivery's outcome is known and
    remembered. Raises Unavailable when Kafka cannot be reached or has no such topic."""
    with TopicReader(connection, plan.topic, group=plan.group) as reader:
        return _Replay(connection, plan, reader, on_chosen, interruption or Interruption()).run(on_progress)


class _Replay:
    """One run."""

    def __init__(
        self,
        connection: Connection,
        plan: Plan,
        reader: TopicReader,
        on_chosen: Callable[[Found, str], None] | None,
        interruption: Interruption,
    ) -> None:
        self._connection = connection
        self._plan = plan
        self._reader = reader
        self._on_chosen = on_chosen
        self._interruption = interruption
        self._outcome = Outcome()
        self._targets: dict[str, list[int]] = {}
        commits = reader.committed()
        self._before = _memory(commits, reader)
        self._planned = _memory(commits, reader)  # as it will be once every send has succeeded
        self._acknowledged = _memory(commits, reader)  # what gets committed; written on the client's thread too
        self._lock = threading.Lock()
        self._committed_at = time.monotonic()

    def run(self, on_progress: OnProgress | None) -> Outcome:
        """Chooses, sends, remembers."""
        if self._plan.dry_run:
            for found, topic in self._choose():
                self._chosen(found, topic)
            return self._outcome
        sending = Sending(self._connection, interruption=self._interruption, on_progress=on_progress)
        self._outcome.summary = sending.summary
        pacer = Pacer(self._plan.rate)
        with sending:
            for found, topic in self._choose():
                with self._interruption.allowed:
                    pacer.wait()
                sending.wait_for_room()
                self._chosen(found, topic)
                sending.send(self._outgoing(found, topic), partial(self._remember, found))
                self._commit_now_and_then()
        try:
            self._commit()
        except Unavailable as error:
            sending.summary.error = error
        return self._outcome

    def _choose(self) -> Iterator[tuple[Found, str]]:
        """The dead letters to send and the topic each goes to."""
        left = self._plan.limit
        seen = self._plan.wanted.start(self._reader)  # up to where each partition was looked at
        if not self._plan.again:
            floors = {number: self._before[number].floor for number in seen}
            self._outcome.before = any(floors[number] > at for number, at in seen.items())
            seen = {number: max(at, floors[number]) for number, at in seen.items()}
        for records in self._reader.read(dict(seen), self._reader.end, interruption=self._interruption):
            for record in records:
                if left == 0:
                    return
                # Offsets without a record (transaction markers) are done with; else each would part two stretches.
                self._nothing_there(record.partition, seen[record.partition], record.offset)
                seen[record.partition] = record.offset + 1
                found = as_found(record)
                topic = self._target(found)
                if topic is not None:
                    left = None if left is None else left - 1
                    yield found, topic

    def _target(self, found: Found) -> str | None:
        """The topic this one goes to; None for one that is not wanted, was replayed or is refused."""
        if not self._plan.wanted.fits(found):
            return None
        if not self._plan.again and found.record.offset in self._before[found.record.partition]:
            self._outcome.before = True
            return None
        topic = self._plan.to or found.info.topic
        why = self._obstacle(found, topic)
        if why:
            self._outcome.refused[why] += 1
            return None
        if self._planned[found.record.partition].full:
            raise ProducerError(
                f"The dead letters chosen lie too scattered to remember more of them in one commit (stopped at "
                f"{found.position}). Replay the others before them too, or start with --since."
            )
        self._planned[found.record.partition].add(found.record.offset, found.record.offset + 1)
        return topic

    def _obstacle(self, found: Found, topic: str) -> str:
        if found.info.attempts >= self._plan.max_attempts:
            return f"replayed {found.info.attempts} times already (--max-attempts {self._plan.max_attempts})"
        if found.info.cut:
            return "not whole: what it lacks was too large to keep (`dead-letters show` says where it lies)"
        if not topic:
            return "its headers name no source topic (say --to)"
        if found.record.key is None and found.record.value is None:
            return "neither key nor value, which this client cannot send"
        if any(value is None for _, value in found.record.headers):
            return "a header without a value, which this client cannot send"
        if not self._partitions(topic):
            return f"its source topic “{topic}” does not exist or is closed to us"
        return ""

    def _partitions(self, topic: str) -> list[int]:
        if topic not in self._targets:
            try:
                self._targets[topic] = self._connection.partitions(topic)
            except Unavailable:
                if topic == self._plan.to:
                    raise  # the user's own choice deserves the whole sentence
                self._targets[topic] = []
        return self._targets[topic]

    def _outgoing(self, found: Found, topic: str) -> ToSend:
        record, info = found
        same = topic == info.topic and info.partition in self._targets[topic]
        return ToSend(
            topic,
            found.position,
            record.value,
            record.key,
            replay_headers(record.headers),
            info.partition if same else None,
        )

    def _chosen(self, found: Found, topic: str) -> None:
        self._outcome.chosen[found.info.reason or "(none given)"] += 1
        if self._on_chosen is not None:
            self._on_chosen(found, topic)

    def _nothing_there(self, partition: int, first: int, end: int) -> None:
        self._planned[partition].add(first, end)
        with self._lock:
            self._acknowledged[partition].add(first, end)

    def _remember(self, found: Found) -> None:
        with self._lock:
            self._acknowledged[found.record.partition].add(found.record.offset, found.record.offset + 1)

    def _commit_now_and_then(self) -> None:
        if time.monotonic() - self._committed_at > _COMMIT_EVERY_SECONDS:
            self._commit()
            self._committed_at = time.monotonic()

    def _commit(self) -> None:
        with self._lock:
            commits = {number: (done.floor, done.metadata) for number, done in self._acknowledged.items()}
        self._reader.commit(commits)


def _memory(commits: dict[int, tuple[int, str]], reader: TopicReader) -> dict[int, Replayed]:
    """What each partition's commit says was replayed. What retention has deleted counts as done; a commit beyond the
    partition's end is of an earlier topic of that name and counts for nothing."""
    memory = {}
    for number, earliest in reader.earliest.items():
        floor, metadata = commits.get(number, (earliest, ""))
        memory[number] = Replayed(floor, metadata) if floor <= reader.end[number] else Replayed(earliest)
        memory[number].add(memory[number].floor, earliest)
    return memory
