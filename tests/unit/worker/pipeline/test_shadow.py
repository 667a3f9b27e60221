from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from threading import Event

from protos.codecs import ReviewMessage
from tests.unit.worker.pipeline.test_pipeline import record
from worker.clock import SystemClock
from worker.errors import ServingUnavailable, WorkerError
from worker.pipeline.batching import Limits
from worker.pipeline.preparing import Decoded
from worker.pipeline.shadow import Shadow
from worker.records import Labelled, Window
from worker.serving.client import GrpcModel, Options
from worker.testing import FakeCall, FakeModel, RecordingEvents
from worker.text import build_encoder


def delivered(texts: Sequence[str], label: str) -> tuple[Decoded, list[Labelled]]:
    records = [record(n, text) for n, text in enumerate(texts)]
    reviews = [ReviewMessage(r.result_id, text) for r, text in zip(records, texts, strict=True)]
    results = [Labelled(r, r.result_id, label, 0.8, "m", 1, 1, False) for r in records]
    return Decoded(Window(records, {}), records, reviews, []), results


def shadow(model: FakeModel, events: RecordingEvents) -> Shadow:
    return Shadow(model, events, Limits(rows=2, tokens=100, padding_tokens=100), logits=False)


def wait_for(events: RecordingEvents, name: str) -> tuple[object, ...]:
    for _ in range(400):
        if found := events.named(name):
            return found[0]
        time.sleep(0.01)
    raise AssertionError(f"no {name}")


def test_it_tells_how_often_the_labels_agree_and_how_far_the_scores_differ() -> None:
    events = RecordingEvents()
    under_test = shadow(FakeModel(), events)
    under_test.offer(*delivered(["good", "bad", "good film"], "positive"))
    rows, agreements, differences = wait_for(events, "shadowed")
    under_test.close()
    assert (rows, agreements) == (3, 2)
    assert sorted(round(d, 6) for d in differences) == [0.1, 0.1, 0.7]  # type: ignore[attr-defined]


def test_a_shadow_that_is_away_skips_windows_and_goes_on() -> None:
    model, events = FakeModel(), RecordingEvents()
    away: list[WorkerError] = [ServingUnavailable("away")]
    model.fail = lambda _texts: away.pop() if away else None
    under_test = shadow(model, events)
    under_test.offer(*delivered(["good"], "positive"))
    wait_for(events, "shadow_skipped")
    under_test.offer(*delivered(["good"], "positive"))
    assert wait_for(events, "shadowed")[0] == 1
    under_test.close()


class HungModel(FakeModel):
    """Never answers a call: only its own closing ends one."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = Event()
        self.closed = Event()

    def predict(self, *_arguments: object) -> FakeCall:
        return HungCall(self)

    def close(self) -> None:
        self.closed.set()


class HungCall(FakeCall):
    def __init__(self, model: HungModel) -> None:
        super().__init__(ServingUnavailable("the call was given up"))
        self._model = model

    def result(self) -> Sequence[Sequence[float]]:
        self._model.asked.set()
        assert self._model.closed.wait(30), "nobody closed the model while a call waited"
        return super().result()


def test_closing_ends_what_a_silent_server_keeps_waiting() -> None:
    model, events = HungModel(), RecordingEvents()
    under_test = shadow(model, events)
    under_test.offer(*delivered(["good"], "positive"))
    assert model.asked.wait(30)
    under_test.close()
    assert not under_test._thread.is_alive()
    assert events.named("shadow_skipped")


def test_closing_does_not_wait_for_a_server_that_takes_the_connection_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = Options(target=f"127.0.0.1:{silent.getsockname()[1]}", request_timeout_seconds=300)
        model = GrpcModel(options, build_encoder, RecordingEvents(), SystemClock())  # type: ignore[arg-type]
        under_test = Shadow(model, RecordingEvents(), Limits(rows=2, tokens=100, padding_tokens=100), logits=False)  # type: ignore[arg-type]
        under_test.offer(*delivered(["good"], "positive"))
        connection, _ = silent.accept()
        under_test.close()
        connection.close()
    assert not under_test._thread.is_alive()
