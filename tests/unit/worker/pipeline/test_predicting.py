"""From calls under way to one score or one verdict for each review, whatever the model server does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.codecs import ReviewMessage
from worker.backoff import Backoff
from worker.errors import Cause, ModelGone, ModelMismatch, ServingRejected, ServingUnavailable, WorkerError
from worker.pipeline.batching import Limits
from worker.pipeline.in_flight import Void, WindowInFlight
from worker.pipeline.predicting import Predictions, Predictor
from worker.pipeline.preparing import Decoded, encode_window
from worker.records import Reason, Record, Window
from worker.testing import FakeModel, ManualClock, RecordingEvents, running
from worker.untraced import UntracedWindow

MAX_DELAY_SECONDS = 5.0
MAX_STRIKES = 3

Fail = Callable[[Sequence[str]], WorkerError | None]


class Rig:
    """A predictor over a model whose score of a text is the number in it, over 100."""

    def __init__(self) -> None:
        self.model = FakeModel(lambda text: (int(text.split()[-1]) / 100,))
        self.events = RecordingEvents()
        self.clock = ManualClock()
        self.predictor = Predictor(
            self.model,
            running(self.events),
            self.events,
            self.clock,
            backoff=Backoff(0.1, MAX_DELAY_SECONDS),
            max_strikes=MAX_STRIKES,
        )

    def window(self, count: int, max_rows: int = 8) -> WindowInFlight:
        """A window whose predictions are under way."""
        reviews = [ReviewMessage(str(n), f"{'word ' * (n % 5)}{n}") for n in range(count)]
        decoded = Decoded(Window([record()], {}), [record()] * count, reviews, [])
        encoded = encode_window(
            decoded, self.model.current(), Limits(rows=max_rows, tokens=1_000, padding_tokens=1_000)
        )
        trace = UntracedWindow(1)
        return WindowInFlight(0, decoded, encoded, self.predictor.start(encoded, trace), trace)

    def predict(self, count: int, max_rows: int = 8) -> Predictions:
        return self.predictor.finish(self.window(count, max_rows))


def record() -> Record:
    return Record("reviews", 0, 0, 0, None, b"")


def numbers(texts: Sequence[str]) -> set[int]:
    return {int(text.split()[-1]) for text in texts}


def fails_on(culprits: set[int], error: Callable[[], WorkerError]) -> Fail:
    return lambda texts: error() if numbers(texts) & culprits else None


def assert_scored_but_for(predictions: Predictions, count: int, culprits: set[int], reason: Reason) -> None:
    assert set(predictions.rejections) == culprits
    assert {rejection.reason for rejection in predictions.rejections.values()} <= {reason}
    assert {n: outputs[0] for n, outputs in predictions.outputs.items()} == {
        n: n / 100 for n in set(range(count)) - culprits
    }


@given(st.integers(0, 40), st.integers(1, 9))
def test_each_review_gets_its_own_score_however_batches_are_cut(count: int, max_rows: int) -> None:
    assert_scored_but_for(Rig().predict(count, max_rows), count, set(), Reason.REJECTED_BY_MODEL)


@given(st.sets(st.integers(0, 31), max_size=5), st.integers(1, 32))
def test_what_the_model_refuses_is_found_and_costs_nobody_else_a_score(culprits: set[int], max_rows: int) -> None:
    rig = Rig()
    rig.model.fail = fails_on(culprits, lambda: ServingRejected("token 9999 is not in the table"))
    predictions = rig.predict(32, max_rows)
    assert_scored_but_for(predictions, 32, culprits, Reason.REJECTED_BY_MODEL)
    assert all("token 9999" in rejection.detail for rejection in predictions.rejections.values())
    assert rig.clock.waits == [], "asking again would change nothing"
    batches = math.ceil(32 / max_rows)
    # A culprit costs at most two requests for each halving of its batch.
    assert len(rig.model.requests) <= batches + len(culprits) * 2 * math.ceil(math.log2(max(max_rows, 2)))


@given(st.sets(st.integers(0, 15), max_size=3), st.sampled_from(["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"]))
def test_what_crashes_a_server_that_answers_everything_else_is_found(culprits: set[int], status: str) -> None:
    rig = Rig()
    rig.model.fail = fails_on(culprits, lambda: ServingUnavailable("connection reset", status=status))
    predictions = rig.predict(16)
    assert_scored_but_for(predictions, 16, culprits, Reason.CRASHES_MODEL)
    assert all(status in rejection.detail for rejection in predictions.rejections.values())


@given(st.integers(1, 60), st.integers(0, 60))
def test_however_long_an_outage_lasts_nobody_pays_for_it(probes: int, failures: int) -> None:
    rig = Rig()
    rig.model.away = [ServingUnavailable("no route")] * probes
    left = min(failures, MAX_STRIKES)

    def fail(texts: Sequence[str]) -> WorkerError | None:
        nonlocal left
        left -= 1
        return ServingUnavailable("no route") if left >= 0 else None

    rig.model.fail = fail
    assert_scored_but_for(rig.predict(8), 8, set(), Reason.CRASHES_MODEL)
    assert all(0 < wait <= MAX_DELAY_SECONDS for wait in rig.clock.waits)
    if failures:
        assert rig.events.named("state")[-1] == ("running", "")


def test_an_outage_is_told_and_so_is_its_end() -> None:
    rig = Rig()
    rig.model.away = [ServingUnavailable("no route to 10.0.0.7")] * 2
    broken = [ServingUnavailable("connection reset")]
    rig.model.fail = lambda _texts: broken.pop() if broken else None
    rig.predict(4)
    assert rig.events.named("state") == [("holding", "no route to 10.0.0.7"), ("running", "")]
    assert [told[:3] for (told,) in rig.events.named("retrying")] == [("predict", "AWAY", n) for n in (1, 2, 3)]


def test_a_server_that_is_full_never_condemns_a_review() -> None:
    rig = Rig()
    broken = [ServingUnavailable("not now", Cause.OVERLOADED)] * 50
    rig.model.fail = lambda _texts: broken.pop() if broken else None
    assert_scored_but_for(rig.predict(8), 8, set(), Reason.CRASHES_MODEL)
    assert len(rig.model.requests) == 51


def without_a_score(rig: Rig, culprits: set[int], score: float = math.nan) -> None:
    """The model's score of these reviews is no score."""
    well = rig.model.score
    rig.model.score = lambda text: (score,) if numbers([text]) & culprits else well(text)


@given(st.sets(st.integers(0, 11), max_size=5), st.integers(6, 16), st.sampled_from([math.nan, 1.5, -math.inf]))
def test_a_review_without_a_usable_score_is_found_and_costs_nobody_else_one(
    culprits: set[int], max_rows: int, score: float
) -> None:
    """Fewer culprits than a batch has rows: each has a neighbour that is answered well."""
    rig = Rig()
    without_a_score(rig, culprits, score)
    predictions = rig.predict(2 * max_rows, max_rows)
    assert_scored_but_for(predictions, 2 * max_rows, culprits, Reason.REJECTED_BY_MODEL)
    assert all("a score makes no sense" in rejection.detail for rejection in predictions.rejections.values())
    assert not culprits or rig.events.named("state")[-1] == ("running", "")


def test_a_review_without_a_usable_score_that_is_alone_has_the_probe_for_a_witness() -> None:
    rig = Rig()
    without_a_score(rig, {0})
    assert_scored_but_for(rig.predict(1), 1, {0}, Reason.REJECTED_BY_MODEL)
    assert rig.model.probes >= MAX_STRIKES


def test_a_review_sent_alone_is_not_condemned_by_a_server_whose_probes_fail_as_well() -> None:
    rig = Rig()
    broken = [ServingUnavailable("nonsense", Cause.BAD_REPLY)] * 50
    rig.model.fail = lambda _texts: broken.pop() if broken else None
    well = rig.model.probe

    def probe() -> None:
        well()
        if broken:
            raise broken.pop()

    rig.model.probe = probe  # type: ignore[method-assign]
    assert_scored_but_for(rig.predict(1), 1, set(), Reason.REJECTED_BY_MODEL)


@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.parametrize("failures", [1, 10, 200])
def test_a_server_that_answers_probes_and_nonsense_to_every_review_is_an_outage(count: int, failures: int) -> None:
    rig = Rig()
    broken = [ServingUnavailable("nonsense", Cause.BAD_REPLY)] * failures
    rig.model.fail = lambda _texts: broken.pop() if broken else None
    assert_scored_but_for(rig.predict(count), count, set(), Reason.REJECTED_BY_MODEL)
    assert not broken
    longest = max(rig.clock.waits)
    assert failures < 200 or longest > MAX_DELAY_SECONDS / 2, "it backs off up to the cap"
    assert failures == 1 or rig.events.named("state")[0] == ("holding", "nonsense")
    assert failures == 1 or rig.events.named("state")[-1] == ("running", "")


def test_nonsense_and_crashes_by_turns_condemn_nobody_either() -> None:
    """The crash alone would need no witness, but the strikes before it were nonsense to everybody."""
    rig = Rig()
    broken = [ServingUnavailable("by turns", (Cause.BAD_REPLY, Cause.AWAY)[n % 2]) for n in range(200)]
    rig.model.fail = lambda _texts: broken.pop() if broken else None
    assert_scored_but_for(rig.predict(8), 8, set(), Reason.CRASHES_MODEL)


def test_what_a_review_failed_before_there_was_a_witness_does_not_count_against_it() -> None:
    rig = Rig()
    to_everybody = [ServingUnavailable("nonsense", Cause.BAD_REPLY)] * (1 + MAX_STRIKES + MAX_STRIKES)
    # The first of these does not come after a probe, so they are one strike too few.
    to_the_first = [ServingUnavailable("nonsense", Cause.BAD_REPLY)] * MAX_STRIKES

    def fail(texts: Sequence[str]) -> WorkerError | None:
        if to_everybody:
            return to_everybody.pop()
        return to_the_first.pop() if numbers(texts) == {0} and to_the_first else None

    rig.model.fail = fail
    assert_scored_but_for(rig.predict(2), 2, set(), Reason.REJECTED_BY_MODEL)
    assert not to_the_first
    assert [numbers(texts) for texts in rig.model.requests[-5:]] == [{1}, {0}, {0}, {0}, {0}]


def test_a_batch_that_fails_while_probes_pass_is_sent_less_and_less_often() -> None:
    rig = Rig()
    broken = [ServingUnavailable("queue full", Cause.OVERLOADED)] * 20
    rig.model.fail = lambda _texts: broken.pop() if broken else None
    rig.predict(8)
    assert rig.model.probes == len(rig.clock.waits) == 20, "no probe failed"
    for attempt, wait in enumerate(rig.clock.waits):
        longest = min(MAX_DELAY_SECONDS, 0.1 * 2**attempt)
        assert longest / 2 <= wait <= longest
    assert [told.attempt for (told,) in rig.events.named("retrying")] == list(range(1, 21))


def test_each_batch_backs_off_for_itself() -> None:
    rig = Rig()
    failed: set[int] = set()

    def once(texts: Sequence[str]) -> WorkerError | None:
        if min(numbers(texts)) in failed:
            return None
        failed.add(min(numbers(texts)))
        return ServingUnavailable("connection reset")

    rig.model.fail = once
    rig.predict(8, max_rows=2)
    assert len(rig.clock.waits) == 4
    assert all(wait <= 0.1 for wait in rig.clock.waits)


def test_a_server_that_answers_probes_and_no_batch_holds_the_worker_until_it_answers_one() -> None:
    """Else an overload of minutes, or a long search for the review that hangs the server, would look like a stall."""
    rig = Rig()
    broken = [ServingUnavailable("queue full", Cause.OVERLOADED)] * 50
    rig.model.fail = lambda _texts: broken.pop() if broken else None
    rig.predict(8)
    assert rig.events.named("state") == [("holding", "queue full"), ("running", "")]


def test_a_worker_whose_last_review_was_the_culprit_holds_no_longer() -> None:
    rig = Rig()
    rig.model.fail = fails_on({0}, lambda: ServingUnavailable("connection reset"))
    assert set(rig.predict(1).rejections) == {0}
    assert rig.events.named("state")[-1] == ("running", "")


def test_a_failure_counts_only_right_after_the_server_was_seen_alive() -> None:
    """The first failure of a batch proves nothing: the outage began while it was under way."""
    rig = Rig()
    broken = [ServingUnavailable("connection reset")] * MAX_STRIKES
    rig.model.fail = lambda _texts: broken.pop() if broken else None
    rig.predict(4, max_rows=4)
    assert [len(texts) for texts in rig.model.requests] == [4] * (MAX_STRIKES + 1), "not bisected yet"


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_a_server_that_fails_on_every_third_call_condemns_no_review(rows: int) -> None:
    """In step with another worker's calls, each of which falls between a probe and what follows it."""
    rig = Rig()
    calls = 2  # the first prediction is a third call
    spared = 60

    def third(step: int) -> bool:
        nonlocal calls
        calls += step
        return calls % 3 == 0

    def fail(_texts: Sequence[str]) -> WorkerError | None:
        nonlocal spared
        spared -= 1
        return ServingUnavailable("flaky") if third(1 if spared == 59 else 2) and spared > 0 else None

    def probe() -> None:
        if third(1):
            raise ServingUnavailable("flaky")

    rig.model.fail, rig.model.probe = fail, probe  # type: ignore[method-assign]
    assert_scored_but_for(rig.predict(rows), rows, set(), Reason.CRASHES_MODEL)


def test_a_version_that_is_gone_is_passed_on() -> None:
    rig = Rig()
    window = rig.window(4)
    rig.model.version = None
    window.encoded_again(window.encoded, rig.predictor.start(window.encoded, window.trace))
    with pytest.raises(ModelGone):
        rig.predictor.finish(window)


def test_nothing_more_is_sent_for_a_window_that_is_void() -> None:
    rig = Rig()
    window = rig.window(4)
    sent = len(rig.model.requests)
    window.give_up("a test")
    with pytest.raises(Void):
        rig.predictor.finish(window)
    assert len(rig.model.requests) == sent


def test_a_window_that_becomes_void_during_an_outage_is_waited_for_no_longer_and_holds_nothing_up() -> None:
    rig = Rig()
    rig.model.fail = lambda _texts: ServingUnavailable("no route")
    window = rig.window(4)
    probes = 0

    def give_up_after_three() -> None:
        nonlocal probes
        probes += 1
        if probes == 3:
            window.give_up("a test")
        raise ServingUnavailable("no route")

    rig.model.probe = give_up_after_three  # type: ignore[method-assign]
    with pytest.raises(Void):
        rig.predictor.finish(window)
    assert probes == 3
    assert rig.events.named("state") == [("holding", "no route"), ("running", "")]


def test_a_version_is_waited_for_until_one_fits() -> None:
    rig = Rig()
    refresh, errors = (
        rig.model.refresh,
        [
            ModelMismatch("three labels for one output"),
            ServingUnavailable("none yet", Cause.NO_VERSION, status="NONE_YET"),
        ],
    )

    def refuse_first():
        if errors:
            raise errors.pop()
        return refresh()

    rig.model.refresh = refuse_first  # type: ignore[method-assign]
    assert rig.predictor.wait_for_version(rig.window(1), ModelGone("version 1 is not served"), 1).version == 1
    states = [told[0] for told in rig.events.named("state")]
    assert states == ["holding", "holding", "running"]
    assert len(rig.clock.waits) == 2
    assert [told[:3] for (told,) in rig.events.named("retrying")] == [
        ("model", "NONE_YET", 1),
        ("model", "MODEL_MISMATCH", 2),
    ]


def test_a_server_that_lists_what_it_does_not_serve_is_asked_with_pauses() -> None:
    rig = Rig()
    for times in range(1, 5):
        rig.predictor.wait_for_version(rig.window(1), ModelGone("version 1 is not served"), times)
    assert len(rig.clock.waits) == 3
    assert rig.clock.waits[-1] > rig.clock.waits[0]


def test_no_version_is_waited_for_on_behalf_of_a_void_window() -> None:
    rig = Rig()
    window = rig.window(1)
    rig.model.version = None
    window.give_up("a test")
    with pytest.raises(Void):
        rig.predictor.wait_for_version(window, ModelGone("version 1 is not served"), 1)


def test_a_window_that_is_given_up_while_the_server_is_proven_steady_is_probed_no_further() -> None:
    rig = Rig()
    rig.model.fail = fails_on({0}, lambda: ServingUnavailable("connection reset"))
    window = rig.window(1)
    probes: list[int] = []

    def probe() -> None:
        probes.append(len(probes))
        if len(probes) == MAX_STRIKES + 2:  # the first ones follow a failure each, the others prove it steady
            window.give_up("the group was rebalanced")

    rig.model.probe = probe  # type: ignore[method-assign]
    with pytest.raises(Void):
        rig.predictor.finish(window)
    assert len(probes) == MAX_STRIKES + 2
