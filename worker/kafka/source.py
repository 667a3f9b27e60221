"""The Source over a Kafka consumer group.

Three rules keep it honest. The first two were learnt from duplicates that a textbook loop makes, the third from a group
that rebalanced for ever:

- the membership is taken right after the poll that brought the records, never later: read later it may belong to
  another generation, or to none, which brokers accept without fencing;
- when the generation or the member id has changed, what was polled is dropped and every assigned partition goes back to
  its committed offset: a client may keep its old positions through a rejoin;
- while a rebalance is under way, nothing but poll() is called: whatever keeps a member from polling then can make a client
  join again, which makes every other member rejoin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from worker.errors import DeliveryFailed, KafkaUnavailable, SourceLost
from worker.kafka.driver import (
    Consumer,
    FencedInstance,
    KafkaFailure,
    NoCommittedOffset,
    OffsetOutOfRange,
    Refused,
    UnreadableRecord,
)
from worker.kafka.failures import replaced
from worker.kafka.lag import KafkaLag
from worker.kafka.positions import Positions
from worker.ports import Clock, Events
from worker.records import Membership, Partition, Record, Retry, Window
from worker.state import Component, WorkerState

AWAY_SECONDS = 5.0
"""How long the group's coordinator may be out of reach before the worker says that it waits for Kafka."""
RETRY_SECONDS = 0.2
"""Wait after a poll that failed, so that an outage costs no CPU."""

NOT_A_MEMBER = Membership()


@dataclass(frozen=True)
class SourceOptions:
    """How windows are made of what is read."""

    window_records: int
    """The most a window holds."""
    fill_seconds: float = 0.0
    """How long a window that is not full waits for further records."""
    until: Mapping[int, int] | None = None
    """The offset each partition ends before, if any: a bounded run."""


class KafkaSource:
    """Reads the one topic its consumer is subscribed to."""

    def __init__(
        self,
        consumer: Consumer,
        topic: str,
        options: SourceOptions,
        *,
        state: WorkerState,
        events: Events,
        clock: Clock,
        wait: Callable[[float], object],
    ) -> None:
        self._consumer = consumer
        self._options = options
        self._state = state
        self._events = events
        self._clock = clock
        self._wait = wait
        self._positions = Positions(consumer, topic)
        self._member = NOT_A_MEMBER
        self._stale = True
        """Whether positions must be set to the committed offsets before any record may be handed out."""
        self._paused = False
        self._lag = KafkaLag(consumer, clock)
        self._answered_at = clock.monotonic()
        """When Kafka was last known to be there."""

    @property
    def topic_id(self) -> str:
        """What has to go with each offset that is committed."""
        return self._positions.topic_id

    def poll(self, timeout_seconds: float) -> Window | None:
        """See ports.Source."""
        if self._paused:
            self._consumer.pause()
        polled = self._polled(timeout_seconds)
        self._watch_brokers(answered=polled is not None)
        if polled is None:
            return None
        membership = self._consumer.membership()
        if membership.rebalancing:
            if polled:
                self._lose("the group began to rebalance while a window was filled")
            return None
        if not self._in_place(membership):
            return None
        if self._paused and polled:
            # Only a partition assigned during this very poll can bring anything: it is read again later.
            self._lose("records came although they were paused")
        return self._window(polled, membership)

    def pause(self) -> None:
        """See ports.Source."""
        self._paused = True

    def resume(self) -> None:
        """See ports.Source."""
        self._paused = False
        self._consumer.resume()

    def rewind(self) -> None:
        """See ports.Source."""
        self._stale = True

    def lag(self) -> Mapping[Partition, int]:
        """See ports.Source."""
        ask = not self._consumer.membership().rebalancing
        return self._lag.of(self._positions.placed, fetching=not self._paused, ask=ask)

    def finished(self) -> bool:
        """See ports.Source."""
        until = self._options.until
        if until is None or self._stale or not self._member.joined:
            return False
        return all(self._positions.reached(p, until.get(p.partition, 0)) for p in self._positions.placed)

    def close(self) -> None:
        """See ports.Source."""
        self._consumer.close()

    def commit(self, window: Window) -> None:
        """Commits a window's offsets without a transaction (at-least-once). From any thread. Blocks up to the request
        timeout.

        Raises DeliveryFailed when the group has moved on or the commit did not go through, Fenced when another process
        took our place in the group."""
        if not self._consumer.membership().same(window.membership):
            raise DeliveryFailed("the group moved on to another generation before the commit")
        try:
            self._consumer.commit(window.next_offsets, self.topic_id)
        except FencedInstance as failure:
            raise replaced(window.membership.instance_id) from failure
        except KafkaFailure as failure:
            raise DeliveryFailed(f"committing offsets: {failure}") from failure

    # --- membership and positions --------------------------------------------------------------------------------

    def _in_place(self, membership: Membership) -> bool:
        """Whether we are a member with every position where it belongs, so that what was polled counts.

        Raises SourceLost once for every generation that ends."""
        now = membership if membership.joined else NOT_A_MEMBER
        if not now.same(self._member):
            was, self._member, self._stale = self._member, now, True
            self._positions.forget()
            if was.joined:
                place = f"generation {now.generation} now" if now.joined else "not a member at the moment"
                raise SourceLost(f"the group was rebalanced: {place}, in generation {was.generation} before")
        if not now.joined:
            return False
        self._positions.check_topic()
        if self._stale:
            self._reset()
            return False
        return True

    def _lose(self, why: str) -> None:
        """Positions go back to the committed offsets, so nothing in flight may count any more. Raises SourceLost, unless
        that has been said already."""
        if not self._stale:
            self._stale = True
            raise SourceLost(why)

    def _reset(self) -> None:
        """Every assigned partition goes to its committed offset. If that fails, the next poll tries again."""
        try:
            self._positions.place()
        except KafkaFailure as failure:
            self._wait_out(failure)
            return
        self._lag.reset()
        self._stale = False

    def _wait_out(self, failure: KafkaFailure) -> None:
        if isinstance(failure, Refused):
            raise KafkaUnavailable(f"reading from Kafka: {failure}") from failure
        self._events.retrying(Retry("kafka", failure.status, 1, RETRY_SECONDS, str(failure)))
        self._wait(RETRY_SECONDS)

    def _watch_brokers(self, *, answered: bool) -> None:
        """Says that the worker holds while Kafka is away. Most polls tell nothing of that: they just bring no records."""
        now = self._clock.monotonic()
        if answered and self._consumer.reachable():
            self._answered_at = now
            self._state.release(Component.KAFKA)
        elif now - self._answered_at > AWAY_SECONDS:
            self._state.hold(Component.KAFKA, "Kafka does not answer.")

    # --- records -------------------------------------------------------------------------------------------------

    def _polled(self, timeout_seconds: float) -> Mapping[Partition, list[Record]] | None:
        """What was read, or None after a failure that waiting may mend. Raises the others in the port's terms."""
        try:
            polled = self._consumer.poll(timeout_seconds, self._options.window_records)
        except NoCommittedOffset:
            self._lose("a partition came up that has no committed offset")
            return {}
        except OffsetOutOfRange as failure:
            raise self._positions.out_of_range(failure) from failure
        except UnreadableRecord as failure:
            raise self._positions.unreadable(failure) from failure
        except FencedInstance as failure:
            raise replaced(self._consumer.membership().instance_id) from failure
        except KafkaFailure as failure:
            self._wait_out(failure)
            return None
        return self._filled(polled) if self._options.fill_seconds and polled else polled

    def _filled(self, polled: Mapping[Partition, list[Record]]) -> Mapping[Partition, list[Record]]:
        """Polls on until the window is full or the time to fill it is up."""
        filled = dict(polled)
        deadline = self._clock.monotonic() + self._options.fill_seconds
        while True:
            room = self._options.window_records - sum(map(len, filled.values()))
            left_seconds = deadline - self._clock.monotonic()
            if room <= 0 or left_seconds <= 0:
                return filled
            try:
                more = self._consumer.poll(left_seconds, room)
            except KafkaFailure:
                return filled  # the next poll meets it again; what has been read must not get lost for it
            for partition, records in more.items():
                filled[partition] = filled.get(partition, []) + records

    def _window(self, polled: Mapping[Partition, list[Record]], membership: Membership) -> Window | None:
        until = self._options.until
        if until is not None:
            cut = {p: [r for r in found if r.offset < until.get(p.partition, 0)] for p, found in polled.items()}
            polled = {partition: found for partition, found in cut.items() if found}
        records = [record for found in polled.values() for record in found]
        ends = {partition: found[-1].offset + 1 for partition, found in polled.items()}
        return Window(records, ends, membership) if records else None
