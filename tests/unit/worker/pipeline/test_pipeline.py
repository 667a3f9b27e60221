"""The pipeline over fakes: every promise it makes without Kafka or a model server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from threading import Event

import pytest

from protos.codecs import ReviewMessage
from worker.backoff import Backoff
from worker.errors import (
    Cause,
    DeadLetterLimitReached,
    DeliveryFailed,
    InvalidReview,
    ModelGone,
    ServingRejected,
    ServingUnavailable,
    WorkerError,
)
from worker.pipeline import Options, assemble
from worker.pipeline.batching import Limits
from worker.records import Reason, Record, Window
from worker.state import WorkerState
from worker.testing import FakeDelivery, FakeModel, FakeSource, ManualClock, RecordingEvents, served


def record(offset: int, text: str = "a good film", partition: int = 0) -> Record:
    return Record("reviews", partition, offset, 1_000_000_000, b"k%d" % partition, text.encode())


def decode(record: Record) -> ReviewMessage:
    if record.value == b"BAD":
        raise InvalidReview(Reason.MALFORMED, "it says BAD")
    return ReviewMessage(record.result_id, (record.value or b"").decode())


class Bench:
    """A pipeline over fakes."""

    def __init__(
        self, records: Sequence[Record], *, window_records: int = 10, share: float = 1.0, run: int = 0
    ) -> None:
        self.source = FakeSource(records, window_records=window_records)
        self.delivery = FakeDelivery(self.source)
        self.model = FakeModel()
        self.events = RecordingEvents()
        self.clock = ManualClock()
        self.pipeline = assemble(
            self.source,
            self.model,
            self.delivery,
            Options(
                decode=decode,
                window_records=window_records,
                max_windows=3,
                batch_limits=Limits(rows=4, tokens=1000, padding_tokens=1000),
                backoff=Backoff(0.1, 5.0),
                max_strikes=3,
                dead_letter_share=share,
                dead_letter_run=run,
                drain_seconds=10.0,
            ),
            state=WorkerState(self.events.state),
            events=self.events,
            clock=self.clock,
            abandon=Event(),
        )

    def answered(self) -> Counter[str]:
        answers = [*self.delivery.results, *self.delivery.dead_letters]
        return Counter(answer.record.result_id for answer in answers)

    def assert_each_once(self, count: int) -> None:
        assert sorted(self.answered().items()) == sorted((f"reviews/0/{offset}", 1) for offset in range(count))


def test_every_record_is_answered_once_and_in_order() -> None:
    bench = Bench([record(offset, "good" if offset % 3 else "bad") for offset in range(57)])
    assert bench.pipeline.run().drained
    bench.assert_each_once(57)
    assert [result.record.offset for result in bench.delivery.results] == list(range(57))
    assert [result.label for result in bench.delivery.results] == [
        "positive" if n % 3 else "negative" for n in range(57)
    ]


def test_a_record_that_cannot_be_answered_is_one_dead_letter_and_the_rest_go_on() -> None:
    bench = Bench([record(offset, "BAD" if offset == 7 else "good") for offset in range(20)])
    bench.pipeline.run()
    bench.assert_each_once(20)
    assert [(letter.record.offset, letter.reason) for letter in bench.delivery.dead_letters] == [(7, Reason.MALFORMED)]


def test_a_failed_delivery_drops_what_is_in_flight_and_reads_it_again() -> None:
    bench = Bench([record(offset) for offset in range(60)])
    bench.delivery.failures = [DeliveryFailed("first"), DeliveryFailed("second")]
    assert bench.pipeline.run().drained
    bench.assert_each_once(60)
    assert bench.source.rewinds >= 1


def test_windows_polled_before_a_rebalance_are_never_delivered_after_it() -> None:
    bench = Bench([record(offset) for offset in range(40)])
    polls = 0
    poll = bench.source.poll

    def poll_and_rebalance(timeout_seconds: float):
        nonlocal polls
        polls += 1
        if polls in (2, 5):
            bench.source.rebalance()
        return poll(timeout_seconds)

    bench.source.poll = poll_and_rebalance  # type: ignore[method-assign]
    assert bench.pipeline.run().drained
    bench.assert_each_once(40)


def test_a_window_polled_while_a_delivery_fails_is_read_again_not_skipped() -> None:
    """The reader has polled a window before it hears of the failure: delivering it would skip the dropped one."""
    bench = Bench([record(offset) for offset in range(30)])
    failed, polled = Event(), 0
    poll, deliver = bench.source.poll, bench.delivery.deliver

    def poll_and_wait(timeout_seconds: float) -> Window | None:
        nonlocal polled
        window = poll(timeout_seconds)
        polled += window is not None
        if polled == 2:
            assert failed.wait(30), "the first window's delivery fails while the second is in the reader's hands"
        return window

    def fail_once(*arguments):
        if failed.is_set():
            return deliver(*arguments)
        failed.set()
        raise DeliveryFailed("meanwhile")

    bench.source.poll, bench.delivery.deliver = poll_and_wait, fail_once  # type: ignore[method-assign]
    assert bench.pipeline.run().drained
    bench.assert_each_once(30)


def test_a_review_the_model_rejects_is_dead_lettered_alone() -> None:
    bench = Bench([record(offset, "poison" if offset == 5 else "good") for offset in range(12)])
    bench.model.fail = lambda texts: ServingRejected("no poison, please") if "poison" in texts else None
    bench.pipeline.run()
    bench.assert_each_once(12)
    assert [(x.record.offset, x.reason, x.stage) for x in bench.delivery.dead_letters] == [
        (5, Reason.REJECTED_BY_MODEL, "predict")
    ]


def test_an_outage_of_the_model_dead_letters_nothing_however_long() -> None:
    bench = Bench([record(offset) for offset in range(12)])
    fails = iter([True] * 7)
    bench.model.fail = lambda _texts: ServingUnavailable("away") if next(fails, False) else None
    bench.model.away = [ServingUnavailable("still away")] * 200
    assert bench.pipeline.run().drained
    bench.assert_each_once(12)
    assert not bench.delivery.dead_letters
    assert max(bench.clock.waits) <= 5.0


def test_an_overloaded_server_that_still_answers_probes_dead_letters_nothing() -> None:
    bench = Bench([record(offset) for offset in range(4)])
    fails = iter([True] * 100)
    bench.model.fail = lambda _texts: ServingUnavailable("full", Cause.OVERLOADED) if next(fails, False) else None
    bench.pipeline.run()
    bench.assert_each_once(4)
    assert not bench.delivery.dead_letters


def test_a_review_that_crashes_the_server_every_time_is_found_and_the_others_are_answered() -> None:
    bench = Bench([record(offset, "crash" if offset == 6 else "good") for offset in range(16)])
    bench.model.fail = lambda texts: ServingUnavailable("connection reset") if "crash" in texts else None
    bench.pipeline.run()
    bench.assert_each_once(16)
    assert [(x.record.offset, x.reason) for x in bench.delivery.dead_letters] == [(6, Reason.CRASHES_MODEL)]


def test_a_version_that_goes_away_means_encoding_again_never_a_dead_letter() -> None:
    bench = Bench([record(offset) for offset in range(40)])
    seen = 0

    def swap(_texts: Sequence[str]) -> WorkerError | None:
        nonlocal seen
        seen += 1
        if seen == 3:
            bench.model.version = served(2)
        return None

    bench.model.fail = swap
    assert bench.pipeline.run().drained
    bench.assert_each_once(40)
    assert {result.model_version for result in bench.delivery.results} <= {1, 2}
    for window in bench.delivery.windows:
        offsets = {r.offset for r in window.records}
        versions = {x.model_version for x in bench.delivery.results if x.record.offset in offsets}
        assert len(versions) == 1, "a window is scored by one version only"


def test_a_version_that_comes_while_a_poll_waits_scores_what_the_poll_brings() -> None:
    bench = Bench([record(offset) for offset in range(5)])
    poll = bench.source.poll

    def slow_poll(timeout_seconds: float) -> Window | None:
        window = poll(timeout_seconds)
        if window is not None:
            bench.model.version = served(2)
        return window

    bench.source.poll = slow_poll  # type: ignore[method-assign]  # the only way to be in the middle of a poll
    assert bench.pipeline.run().drained
    assert {result.model_version for result in bench.delivery.results} == {2}
    assert len(bench.events.named("encoded")) == 1, "for the version in use, not for the one before"


def test_too_many_dead_letters_stop_the_worker_before_the_topic_is_emptied() -> None:
    bench = Bench([record(offset, "BAD") for offset in range(500)], run=50)
    with pytest.raises(DeadLetterLimitReached, match="in a row"):
        bench.pipeline.run()
    assert len(bench.delivery.dead_letters) <= 50


def test_a_window_whose_delivery_fails_counts_once_for_the_dead_letter_limit() -> None:
    bench = Bench([record(offset, "BAD") for offset in range(20)], run=25)
    bench.delivery.failures = [DeliveryFailed(str(n)) for n in range(3)]
    assert bench.pipeline.run().drained
    bench.assert_each_once(20)


def test_results_that_the_topic_does_not_take_count_as_dead_letters_and_for_the_dead_letter_limit() -> None:
    bench = Bench([record(offset) for offset in range(10)])
    bench.delivery.refuses = lambda result: result.record.offset in (3, 7)
    assert bench.pipeline.run().drained
    [(_, labels, reasons, _, _)] = bench.events.named("delivered")
    assert (labels, reasons) == ({"positive": 8}, {"result-too-large": 2})

    bench = Bench([record(offset) for offset in range(1_000)], run=20)
    bench.delivery.refuses = lambda _result: True
    with pytest.raises(DeadLetterLimitReached):
        bench.pipeline.run()
    assert len(bench.delivery.dead_letters) < 100


def test_an_error_of_the_deliverer_ends_the_run_and_loses_nothing() -> None:
    bench = Bench([record(offset) for offset in range(50)])
    bench.delivery.failures = [WorkerError("disk on fire")]
    with pytest.raises(WorkerError, match="disk on fire"):
        bench.pipeline.run()
    assert not any(bench.source.committed.values())


def test_a_soft_stop_delivers_what_is_in_flight() -> None:
    bench = Bench([record(offset) for offset in range(100)])
    predict = bench.model.predict

    def predict_and_stop(*arguments):
        bench.pipeline.stop()
        return predict(*arguments)

    bench.model.predict = predict_and_stop  # type: ignore[method-assign]
    assert bench.pipeline.run().drained, "everything polled must be delivered"
    assert len(bench.delivery.results) == sum(len(w.records) for w in bench.delivery.windows) == 10


def test_a_bounded_run_that_is_stopped_is_not_complete() -> None:
    bench = Bench([record(offset) for offset in range(100)])
    predict = bench.model.predict

    def predict_and_stop(*arguments):
        bench.pipeline.stop()
        return predict(*arguments)

    bench.model.predict = predict_and_stop  # type: ignore[method-assign]
    assert bench.pipeline.run() == (True, False), "what was polled is delivered, yet that is not all there is"

    whole = Bench([record(offset) for offset in range(100)])
    assert whole.pipeline.run() == (True, True)


def test_a_stop_during_the_last_window_of_a_bounded_run_still_completes_it() -> None:
    bench = Bench([record(offset) for offset in range(10)])
    deliver = bench.delivery.deliver

    def stop_and_deliver(*arguments):
        bench.pipeline.stop()
        return deliver(*arguments)

    bench.delivery.deliver = stop_and_deliver  # type: ignore[method-assign]
    assert bench.pipeline.run() == (True, True)


def test_a_delivery_that_fails_during_the_drain_has_not_drained() -> None:
    bench = Bench([record(offset) for offset in range(100)])

    def stop_and_fail(*_arguments):
        bench.pipeline.stop()
        raise DeliveryFailed("the broker went away")

    bench.delivery.deliver = stop_and_fail  # type: ignore[method-assign]
    assert bench.pipeline.run() == (False, False)
    assert not any(bench.source.committed.values())


def test_a_hard_stop_gives_up_what_is_in_flight_and_commits_none_of_it() -> None:
    bench = Bench([record(offset) for offset in range(10)])

    def fail_and_stop(_texts: Sequence[str]) -> WorkerError:
        bench.pipeline.stop(hard=True)
        return ServingUnavailable("away")

    bench.model.fail = fail_and_stop
    assert not bench.pipeline.run().drained
    assert not bench.delivery.results
    assert not any(bench.source.committed.values())


def test_in_flight_windows_are_bounded() -> None:
    bench = Bench([record(offset) for offset in range(300)])
    bench.pipeline.run()
    assert max(arguments[0] for arguments in bench.events.named("in_flight")) <= 3


def test_the_worker_holds_while_no_version_is_served() -> None:
    bench = Bench([record(offset) for offset in range(5)])
    bench.model.version = None
    poll = bench.source.poll
    polls = 0

    def poll_then_serve(timeout_seconds: float):
        nonlocal polls
        polls += 1
        if polls == 3:
            bench.model.version = served()
        return poll(timeout_seconds)

    bench.source.poll = poll_then_serve  # type: ignore[method-assign]
    bench.pipeline.run()
    bench.assert_each_once(5)
    states = [arguments[0] for arguments in bench.events.named("state")]
    assert states.index("holding") < len(states) - 1 - states[::-1].index("running"), (
        "it says so, and says when it is over"
    )


def test_a_server_that_lists_a_version_it_does_not_serve_is_asked_with_pauses() -> None:
    bench = Bench([record(offset) for offset in range(4)])
    gone = iter([True] * 20)
    bench.model.fail = lambda _texts: ModelGone("listed, not served") if next(gone, False) else None
    bench.pipeline.run()
    bench.assert_each_once(4)
    assert len(bench.clock.waits) >= 19


def test_small_windows_go_one_after_the_other_and_full_ones_overlap() -> None:
    quiet = Bench([record(offset, partition=0) for offset in range(200)], window_records=100)
    quiet.source._window_records = 2  # what a topic with few records in it gives
    quiet.pipeline.run()
    assert max(arguments[0] for arguments in quiet.events.named("in_flight")) == 1
    busy = Bench([record(offset) for offset in range(300)])
    busy.pipeline.run()
    assert max(arguments[0] for arguments in busy.events.named("in_flight")) > 1
