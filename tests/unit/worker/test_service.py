"""The start of the worker, with everything it connects to replaced."""

from __future__ import annotations

import pytest

from worker import service, startup
from worker.channel import Bounds, FromProcess, Port, Running, Summary
from worker.errors import ConfigError, KafkaUnavailable, ServingUnavailable
from worker.kafka import opening
from worker.kafka.driver import NewTopic, Unreachable
from worker.kafka.testing import FakeConsumer, FakeKafka
from worker.ports import ServedModel
from worker.service import Service
from worker.settings import Settings
from worker.testing import FakeModel

STARTUP_SECONDS = 10.0


class Surroundings(FakeKafka):
    """What the worker finds when it starts. Every wait takes no time, and moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.began = self.clock.monotonic()
        self.model = ClosableModel()
        self.connects_after_seconds = 0.0

    @property
    def waited_seconds(self) -> float:
        return self.clock.monotonic() - self.began

    def open_consumer(self) -> FakeConsumer:
        self.away = self.waited_seconds < self.connects_after_seconds
        return super().open_consumer()


class ClosableModel(FakeModel):
    """Can be away, and knows whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.closed = 0

    def refresh(self) -> ServedModel:
        if self.is_away:
            raise ServingUnavailable("no route")
        return super().refresh()

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    found = Surroundings()
    monkeypatch.setattr(service, "SystemClock", lambda: found.clock)
    monkeypatch.setattr(service, "make_model", lambda *_: found.model)
    monkeypatch.setattr(opening, "make_driver", lambda *_: found)
    return found


def start() -> None:
    Service(Settings(metrics_host="127.0.0.1", metrics_port=0, startup_seconds=STARTUP_SECONDS)).run()


@pytest.mark.parametrize("is_away", [False, True])
def test_what_was_opened_before_the_start_failed_is_closed(found: Surroundings, *, is_away: bool) -> None:
    found.model.is_away = is_away
    with pytest.raises(ConfigError, match="no such topic"):
        start()
    assert (found.model.closed, found.members) == (1, 0)


def test_all_waits_at_start_share_one_deadline(found: Surroundings) -> None:
    found.connects_after_seconds = 0.8 * STARTUP_SECONDS
    found.failures["partition_counts"] = [Unreachable("no answer")] * 1_000
    with pytest.raises(KafkaUnavailable, match="topics"):
        start()
    assert found.waited_seconds <= STARTUP_SECONDS + startup.RETRY_SECONDS
    assert (found.model.closed, found.members) == (1, 0)


def test_one_of_several_tells_its_parent_how_far_it_is(found: Surroundings) -> None:
    for topic in ("reviews", "review-labels", "reviews-dead-letter"):
        found.create_topics([NewTopic(topic, 2, 1, {})])
    told: list[FromProcess] = []
    settings = Settings(metrics_host="127.0.0.1", metrics_port=0, startup_seconds=STARTUP_SECONDS, until="end")
    assert Service(settings, told.append).run()
    port, *rest = told
    assert isinstance(port, Port)
    assert port.port > 0
    assert rest == [Bounds({0: 0, 1: 0}), Running(), Summary(complete=True, results={}, dead_letters={})]
