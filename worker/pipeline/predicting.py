"""From calls under way to one score per review, whatever the model server does meanwhile.

Three things can be wrong with a prediction, and each has one remedy:

- the server cannot answer now (ServingUnavailable): wait, ask whether it lives, send the same batch again. However long
  an outage lasts, no review pays for it;
- the server says this request is wrong (ServingRejected): bisect until the one review that it refuses is alone, and
  only that one becomes a dead letter;
- the server lives, yet this batch fails again and again: a review in it crashes or hangs the server, or has no score
  that can be used (NaN, outside its range). A failure counts as a strike only right after a probe was answered well, and
  enough strikes bisect the batch as well.

A bad reply proves less than a crash: a server that answers nonsense to every review may still answer a probe. So a review
pays for bad replies only once another one of its batch was answered well meanwhile; until then the worker holds. And a
server that fails now and then, whatever it is asked, fails on some review several times in a row: none pays for that
unless the server answers many probes in a row just then.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from worker.backoff import Backoff
from worker.errors import Cause, ModelGone, ModelMismatch, ServingRejected, ServingUnavailable
from worker.pipeline.batching import halve
from worker.pipeline.in_flight import Void, WindowInFlight
from worker.pipeline.preparing import Encoded
from worker.ports import Call, Clock, Events, Model, ServedModel, WindowTrace
from worker.records import Batch, Reason, Retry
from worker.state import Component, WorkerState

STEADY_PROBES = 2
"""Probes in a row, for each strike that a review may have, that show a server which does not fail now and then: none that
fails on every third call passes."""


class Rejection(msgspec.Struct, frozen=True):
    """Why one review got no score."""

    reason: Reason
    detail: str


class Predictions(msgspec.Struct, frozen=True):
    """What became of an encoded window: every row index is in exactly one of the two."""

    outputs: Mapping[int, Sequence[float]]
    rejections: Mapping[int, Rejection]


class _Origin(msgspec.Struct):
    """What the parts of one planned batch share."""

    rows: int
    failures: int = 0
    """In a row, for the back-off: a part that was answered, refused or halved begins again."""
    answered_well: bool = False
    """Whether a part has got its scores since the batch was halved: the witness that the server scores reviews."""


class _Attempt(msgspec.Struct):
    """A batch, or a part of one, on its way: the call under way, and how often it failed right after the server was seen
    alive."""

    batch: Batch
    origin: _Origin
    call: Call | None
    """None: to be sent when its turn comes, so that a batch under suspicion travels alone."""
    strikes: int = 0
    bad_replies: bool = False
    """Whether one of the strikes was a reply that makes no sense."""
    proven: bool = False
    """Whether the server answered a probe just before this call."""


class Predictor:
    """Starts and finishes the predictions of a window. `start` is the reader's, everything else the deliverer's."""

    def __init__(
        self, model: Model, state: WorkerState, events: Events, clock: Clock, *, backoff: Backoff, max_strikes: int
    ) -> None:
        self._model = model
        self._state = state
        self._events = events
        self._clock = clock
        self._backoff = backoff
        self._max_strikes = max_strikes
        self._jitter = random.Random()  # noqa: S311  spreads retries; nothing secret hangs on it

    def start(self, encoded: Encoded, trace: WindowTrace) -> list[Call]:
        """Sends every batch; never blocks. The calls stand in the order of the batches."""
        return [self._send(encoded, batch, trace) for batch in encoded.batches]

    def finish(self, window: WindowInFlight) -> Predictions:
        """Blocks until every row has its outputs or its rejection.

        Raises ModelGone when the version is not served any more, Void when the window is given up first."""
        outputs: dict[int, Sequence[float]] = {}
        rejections: dict[int, Rejection] = {}
        encoded = window.encoded
        waiting = deque(
            _Attempt(batch, _Origin(len(batch.rows)), call)
            for batch, call in zip(encoded.batches, window.calls, strict=True)
        )
        try:
            while waiting:
                attempt = waiting.popleft()
                window.check()
                try:
                    scores = window.result_of(attempt.call or self._send(encoded, attempt.batch, window.trace))
                except ServingRejected as error:
                    self._answered(attempt)
                    self._split(attempt, encoded, waiting, rejections, Rejection(Reason.REJECTED_BY_MODEL, str(error)))
                except ServingUnavailable as error:
                    self._wait_after(attempt, error, window)
                    self._try_again(attempt, error, window, waiting, rejections)
                else:
                    self._answered(attempt)
                    attempt.origin.answered_well = True
                    outputs.update(zip(attempt.batch.rows, scores, strict=True))
        finally:
            self._state.release(Component.PREDICTION)
        return Predictions(outputs, rejections)

    def wait_for_version(self, window: WindowInFlight, gone: ModelGone, times: int) -> ServedModel:
        """Blocks until some version can be used again, the `times`-th time in a row for this window: from the second time
        on it waits first, since a server that lists a version it does not serve would have us ask without a pause.

        Raises Void."""
        attempt, why = times - 1, str(gone)
        if attempt:
            self._pause(self._backoff.after(attempt, self._jitter), window)
        try:
            while True:
                try:
                    return self._model.refresh()
                except (ServingUnavailable, ModelMismatch) as error:
                    why, status = str(error), error.status
                attempt += 1
                delay = self._backoff.after(attempt, self._jitter)
                self._state.hold(Component.PREDICTION, why)
                self._tell(Retry("model", status, attempt, delay, why), window)
                self._pause(delay, window)
        finally:
            self._state.release(Component.PREDICTION)

    def _send(self, encoded: Encoded, batch: Batch, trace: WindowTrace) -> Call:
        served = encoded.served
        tensor = encoded.rows.tensor(batch.rows, batch.longest)
        return self._model.predict(served, tensor, trace.call(len(batch.rows), served))

    def _tell(self, retry: Retry, window: WindowInFlight) -> None:
        self._events.retrying(retry)
        window.trace.retrying(retry)

    def _pause(self, seconds: float, window: WindowInFlight) -> None:
        """Raises Void when the window is given up meanwhile."""
        if self._clock.wait(window.given_up, seconds):
            raise Void

    def _answered(self, attempt: _Attempt) -> None:
        attempt.origin.failures = 0
        self._state.release(Component.PREDICTION)

    def _wait_after(self, attempt: _Attempt, error: ServingUnavailable, window: WindowInFlight) -> None:
        """Counts the failure, then backs off and probes until the server answers. Raises ModelGone, Void."""
        if attempt.proven:
            if error.cause is not Cause.OVERLOADED:
                attempt.strikes += 1
                attempt.bad_replies |= error.cause is Cause.BAD_REPLY
            # Probes pass and batches do not: an overloaded server, or a review that hangs it. Either may take minutes.
            self._state.hold(Component.PREDICTION, str(error))
        tries = attempt.origin.failures
        while True:
            tries += 1
            delay = self._backoff.after(tries, self._jitter)
            self._tell(Retry("predict", error.status, tries, delay, str(error)), window)
            self._pause(delay, window)
            try:
                self._model.probe()
            except ServingUnavailable as still:
                error = still
                self._state.hold(Component.PREDICTION, str(still))
            else:
                break
        attempt.origin.failures += 1
        attempt.call, attempt.proven = None, True

    def _try_again(
        self,
        attempt: _Attempt,
        error: ServingUnavailable,
        window: WindowInFlight,
        waiting: deque[_Attempt],
        rejections: dict[int, Rejection],
    ) -> None:
        """The batch once more, or its halves once it has too many strikes. Raises ModelGone, Void."""
        if attempt.strikes < self._max_strikes:
            waiting.appendleft(attempt)
        elif len(attempt.batch.rows) > 1 or (_at_fault(attempt) and self._steady(window)):
            attempt.origin.failures = 0
            self._split(attempt, window.encoded, waiting, rejections, _verdict(attempt, error))
        else:
            # Its neighbours go first: one that is answered well is the witness that may be missing. What was held against
            # this review until then was a server without a good word for anybody, or one that fails now and then, so its
            # count begins again.
            attempt.strikes, attempt.proven = 0, False
            waiting.append(attempt)

    def _steady(self, window: WindowInFlight) -> bool:
        """Whether the server answers many probes in a row: one that fails now and then, whatever it is asked, has failed on
        this review by chance. Raises ModelGone, Void."""
        try:
            for _ in range(STEADY_PROBES * self._max_strikes):
                window.check()
                self._model.probe()
        except ServingUnavailable:
            return False
        return True

    def _split(
        self,
        attempt: _Attempt,
        encoded: Encoded,
        waiting: deque[_Attempt],
        rejections: dict[int, Rejection],
        verdict: Rejection,
    ) -> None:
        """Halves the batch, or passes the verdict on a review that is alone. A half needs one strike less: its
        parent's strikes have shown that the fault lies in one of the two. Only for bad replies, a review that is left
        alone needs all of them, as asking again harms nobody."""
        if len(attempt.batch.rows) == 1:
            rejections[attempt.batch.rows[0]] = verdict
            return
        for half in reversed(halve(attempt.batch, encoded.rows.tokens)):
            alone = attempt.bad_replies and len(half.rows) == 1
            waiting.appendleft(
                _Attempt(
                    half,
                    attempt.origin,
                    None,
                    strikes=0 if alone else max(attempt.strikes - 1, 0),
                    bad_replies=attempt.bad_replies,
                    proven=attempt.proven,
                )
            )


def _at_fault(attempt: _Attempt) -> bool:
    """Whether it is the review that fails, rather than a server that answers nonsense to every review. For a review that
    was sent alone to begin with, the probe is the witness."""
    return not attempt.bad_replies or attempt.origin.answered_well or attempt.origin.rows == 1


def _verdict(attempt: _Attempt, error: ServingUnavailable) -> Rejection:
    """What to say of the review that is alone at fault."""
    detail = (
        f"the model server failed {attempt.strikes} times on this review alone ({error.status}: {error}), "
        "each time right after it had answered another request"
    )
    reason = Reason.REJECTED_BY_MODEL if error.cause is Cause.BAD_REPLY else Reason.CRASHES_MODEL
    return Rejection(reason, detail)
