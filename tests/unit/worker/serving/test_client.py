"""The gRPC adapter against a model server in this process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import pytest

from protos.model_card import EncoderKind
from protos.serving import prediction_pb2
from tests.support.fake_serving import (
    MODEL,
    FakeServing,
    IdEncoder,
    State,
    Version,
    digest_of,
    info,
    make_encoder,
    signature,
)
from worker.clock import SystemClock
from worker.errors import ConfigError, ModelGone, ModelMismatch, ServingRejected, ServingUnavailable
from worker.ports import BuiltEncoder, ServedModel
from worker.records import DType, EncoderSpec, Tensor
from worker.serving.client import GrpcModel, Options
from worker.serving.errors import error_for
from worker.testing import RecordingEvents, served
from worker.text.factory import normalised

LONG_SECONDS = 30.0
NEVER_SECONDS = 3_600.0


class Events(RecordingEvents):
    """Lets a test wait until an event of a name has come."""

    def __init__(self) -> None:
        super().__init__()
        self._came = threading.Condition()

    def __getattr__(self, name: str) -> Callable[..., None]:
        record = super().__getattr__(name)

        def told(*arguments: Any, **named: Any) -> None:
            with self._came:
                record(*arguments, **named)
                self._came.notify_all()

        return told

    def wait_for(self, name: str, matches: Callable[[tuple[Any, ...]], bool]) -> None:
        with self._came:
            assert self._came.wait_for(lambda: any(matches(found) for found in self.named(name)), LONG_SECONDS), name


@pytest.fixture
def server() -> Iterator[FakeServing]:
    server = FakeServing()
    server.versions[1] = Version()
    yield server
    server.stop()


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def connect(server: FakeServing, events: Events) -> Iterator[Callable[..., GrpcModel]]:
    opened: list[GrpcModel] = []

    def connect(*, encoder: Callable[[EncoderSpec], BuiltEncoder] = make_encoder, **changed: Any) -> GrpcModel:
        settings: dict[str, Any] = {"target": server.target, "model": MODEL, "poll_seconds": NEVER_SECONDS, **changed}
        opened.append(GrpcModel(Options(**settings), encoder, events, SystemClock()))
        return opened[-1]

    yield connect
    for model in opened:
        model.close()
    assert "model-watcher" not in {thread.name for thread in threading.enumerate()}


Connect = Callable[..., GrpcModel]


def predict(model: GrpcModel, served: ServedModel, *texts: str) -> Any:
    rows = served.encoder.encode_many(texts)
    return model.predict(served, rows.tensor(range(len(texts)), max(rows.tokens)))


def scores_of(model: GrpcModel, *texts: str) -> Sequence[Sequence[float]]:
    found: Sequence[Sequence[float]] = predict(model, model.current(), *texts).result()
    return found


# --- what a version says of itself


def test_the_newest_available_version_is_used_and_its_card_believed(
    server: FakeServing, connect: Connect, events: Events
) -> None:
    server.versions = {
        3: Version(subwords=("three",)),
        7: Version(subwords=("seven", "é\n"), card={"labels": ["bad", "good"], "threshold": 0.7}),
        9: Version(state=State.LOADING),
    }

    served = connect().refresh()

    assert (served.name, served.version, served.labels, served.threshold) == (MODEL, 7, ("bad", "good"), 0.7)
    assert served.digest == digest_of(("seven", "é\n"))
    assert served.encoder.spec == EncoderSpec(
        EncoderKind.SUBWORDS, DType.INT32, max_tokens=50, subwords=("seven", "é\n")
    )
    assert events.named("serving") == [(served,)]


def test_settings_go_before_the_card(connect: Connect) -> None:
    served = connect(labels=("a", "b"), threshold=0.0, max_tokens=7).refresh()

    assert (served.labels, served.threshold, served.encoder.spec.max_tokens) == (("a", "b"), 0.0, 7)


def test_a_vocabulary_longer_than_one_request_comes_whole_and_in_order(server: FakeServing, connect: Connect) -> None:
    subwords = tuple(f"subword-{number}" for number in range(10_001))
    server.versions = {1: Version(subwords=subwords)}

    assert connect().refresh().encoder.spec.subwords == subwords


@pytest.mark.parametrize(
    ("card", "complaint"),
    [
        ({"digest": "sha256:00"}, "its card says sha256:00"),
        ({"vocabulary_size": 99}, "its card says 99"),
        ({"subwords": 2}, "digest"),
        ({"subwords": 4}, "digest"),
        ({"format": 3}, "format 3"),
        ({"encoder": "morse"}, "card cannot be read"),
        ({"labels": None}, "card cannot be read"),
    ],
)
def test_a_vocabulary_that_its_card_does_not_vouch_for_is_refused(
    server: FakeServing, connect: Connect, card: dict[str, Any], complaint: str
) -> None:
    server.versions = {1: Version(card=card)}
    model = connect()

    with pytest.raises(ModelMismatch, match=complaint):
        model.refresh()
    with pytest.raises(ServingUnavailable, match=complaint):
        model.current()


def test_an_encoder_that_cannot_be_made_is_a_mismatch(connect: Connect) -> None:
    def fails(_: EncoderSpec) -> BuiltEncoder:
        raise ValueError("no such alphabet")

    with pytest.raises(ModelMismatch, match="no such alphabet"):
        connect(encoder=fails).refresh()


def bare_version(**signatures: prediction_pb2.SignatureDef) -> Version:
    return Version(signatures=signatures)


def test_a_model_without_a_vocabulary_takes_the_file_that_the_settings_name(
    server: FakeServing, connect: Connect, tmp_path: Any
) -> None:
    file = tmp_path / "vocabulary.subwords"
    file.write_bytes(b"### SubwordTextEncoder\n### Metadata: {}\n'a_'\n")
    tokens, score = info("DT_INT64", -1, 16), info("DT_DOUBLE", -1, 1)
    server.versions = {1: bare_version(serving_default=signature({"tokens": tokens}, {"score": score}))}

    with pytest.raises(ModelMismatch, match="name its vocabulary file with `vocabulary`"):
        connect().refresh()
    served = connect(vocabulary_file=str(file), padding_id=3, max_tokens=99).refresh()

    assert served.encoder.spec == EncoderSpec(
        EncoderKind.SUBWORDS, DType.INT64, max_tokens=16, padding_id=3, length=16, vocabulary=file.read_bytes()
    )
    assert (served.labels, served.threshold) == (("negative", "positive"), 0.6)
    file.write_bytes(b"[PAD]\n[UNK]\n")
    assert connect(vocabulary_file=str(file)).refresh().encoder.spec.kind is EncoderKind.WORDPIECE


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_a_model_that_takes_text_is_sent_text(server: FakeServing, connect: Connect, shape: tuple[int, ...]) -> None:
    text, score = info("DT_STRING", *shape), info("DT_FLOAT", -1, 1)
    server.versions = {1: bare_version(serving_default=signature({"text": text}, {"score": score}))}
    model = connect()

    served = model.refresh()
    call = model.predict(served, Tensor(DType.TEXT, (2,), strings=[b"12345", b""]))

    assert call.result() == [(pytest.approx(0.05),), (0.0,)]
    assert served.encoder.spec.kind is EncoderKind.TEXT
    assert [dim.size for dim in server.requests[0].inputs["text"].tensor_shape.dim] == [2, *shape[1:]]


# --- predictions


@pytest.mark.parametrize("as_content", [False, True])
@pytest.mark.parametrize("dtype", ["DT_FLOAT", "DT_DOUBLE"])
def test_scores_come_back_row_by_row(
    server: FakeServing, connect: Connect, events: Events, dtype: str, as_content: bool
) -> None:
    server.versions[1].signatures["serving_default"].outputs["score"].CopyFrom(info(dtype, -1, 1))
    server.as_content = as_content
    model = connect()
    model.refresh()

    assert scores_of(model, "25 1", "50", "100 2 3") == [(0.25,), (0.5,), (1.0,)]
    request = server.requests[0]
    assert request.model_spec.version.value == 1
    assert request.model_spec.signature_name == "serving_default"
    assert list(request.output_filter) == ["score"]
    assert [dim.size for dim in request.inputs["tokens"].tensor_shape.dim] == [3, 3]
    assert [status for _, status in events.named("predicted")] == ["OK"]
    assert events.named("requests") == [(1, 16), (0, 16)]


def reply_with(**changes: Any) -> Callable[[prediction_pb2.PredictResponse], None]:
    def bend(reply: prediction_pb2.PredictResponse) -> None:
        output = reply.outputs["score"]
        for name, value in changes.items():
            if name == "shape":
                del output.tensor_shape.dim[:]
                for size in value:
                    output.tensor_shape.dim.add(size=size)
            elif name == "version":
                reply.model_spec.version.value = value
            elif isinstance(value, list):
                del getattr(output, name)[:]
                getattr(output, name).extend(value)
            else:
                setattr(output, name, value)

    return bend


def test_several_scores_a_row_and_a_flat_reply_are_read(server: FakeServing, connect: Connect) -> None:
    server.versions[1].card = {"labels": ["a", "b", "c"]}
    server.versions[1].signatures["serving_default"].outputs["score"].CopyFrom(info("DT_FLOAT", -1, 3))
    server.bend = reply_with(shape=[2, 3], float_val=[0.5, 0.25, 0.25, 1.0, 0.0, 0.0])
    model = connect()
    model.refresh()
    assert scores_of(model, "1", "2") == [(0.5, 0.25, 0.25), (1.0, 0.0, 0.0)]

    server.versions[1] = Version()
    server.bend = reply_with(shape=[2], float_val=[0.5])  # the last element fills the rest
    model = connect()
    model.refresh()
    assert scores_of(model, "1", "2") == [(0.5,), (0.5,)]


@pytest.mark.parametrize(
    ("bend", "complaint"),
    [
        (reply_with(shape=[1, 1]), r"shape is \[1, 1\] where \[2, 1\]"),
        (reply_with(shape=[2, 2]), "shape"),
        (reply_with(shape=[2, 1, 1]), "shape"),
        (reply_with(shape=[]), "shape"),
        (reply_with(shape=[-1, 1]), "shape"),
        (reply_with(dtype=3), "dtype is DT_INT32"),
        (reply_with(dtype=30), "dtype is dtype 30"),
        (reply_with(float_val=[]), "0 values for 2"),
        (reply_with(float_val=[0.1, 0.2, 0.3]), "3 values for 2"),
        (reply_with(float_val=[], tensor_content=b"1234"), "4 bytes for 2"),
        (reply_with(float_val=[0.1, float("nan")]), "not a finite"),
        (reply_with(float_val=[0.1, float("inf")]), "not a finite"),
        (reply_with(float_val=[0.1, 1.1]), r"outside \[0, 1\]"),
        (reply_with(float_val=[-0.1, 0.1]), r"outside \[0, 1\]"),
        (reply_with(version=2), "from version 2"),
        (lambda reply: reply.ClearField("outputs"), "no output score"),
        (lambda _: b"\xff\xff\xff", "makes no sense"),
    ],
)
def test_a_reply_that_makes_no_sense_is_no_answer(
    server: FakeServing, connect: Connect, events: Events, bend: Any, complaint: str
) -> None:
    server.bend = bend
    model = connect()
    call = predict(model, model.refresh(), "1", "2")

    with pytest.raises(ServingUnavailable, match=complaint) as error:
        call.result()
    assert error.value.status == "BAD_REPLY"
    assert [status for _, status in events.named("predicted")] == ["BAD_REPLY"]
    with pytest.raises(ServingUnavailable) as again:
        call.result()
    assert again.value is error.value


def test_logits_may_lie_anywhere(server: FakeServing, connect: Connect) -> None:
    server.bend = reply_with(float_val=[-3.0, 2.5])
    model = connect(logits=True)
    model.refresh()

    assert scores_of(model, "1", "2") == [(-3.0,), (2.5,)]


EXPECTED = {
    "NOT_FOUND": ModelGone,
    "INVALID_ARGUMENT": ServingRejected,
    "OUT_OF_RANGE": ServingRejected,
}


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_each_status_is_one_kind_of_error(
    server: FakeServing, connect: Connect, events: Events, code: grpc.StatusCode
) -> None:
    server.failure = (code, "because")
    model = connect()
    call = predict(model, model.refresh(), "1")

    with pytest.raises(
        EXPECTED.get(code.name, ServingUnavailable), match=rf"version 1 of model .*{code.name}: because"
    ) as e:
        call.result()
    assert isinstance(e.value, ModelGone) or e.value.status == code.name
    assert [status for _, status in events.named("predicted")] == [code.name]


def test_a_server_s_long_complaint_is_cut() -> None:
    assert len(str(error_for("INTERNAL", "x" * 100_000, "Predict"))) < 600


def test_a_request_above_our_limit_is_rejected_without_being_sent(server: FakeServing, connect: Connect) -> None:
    model = connect(max_request_bytes=10_000)
    call = predict(model, model.refresh(), "1 " * 5_000)

    with pytest.raises(ServingRejected, match="the limit is 10,000"):
        call.result()
    assert server.requests == []


def test_a_version_that_another_model_gave_out_is_refused(connect: Connect) -> None:
    with pytest.raises(TypeError, match="version 1 of fake was given out by another model"):
        connect().predict(served(), Tensor(DType.INT32, (1, 1), bytes(4)))


def test_a_request_above_the_server_s_limit_is_rejected_not_unavailable(
    server: FakeServing, connect: Connect, events: Events
) -> None:
    model = connect()
    served = model.refresh()
    huge = Tensor(DType.INT32, (1, 2_000_000), bytes(8_000_000))

    with pytest.raises(ServingRejected, match="larger than max"):
        model.predict(served, huge).result()
    assert scores_of(model, "25") == [(0.25,)]
    assert events.named("requests")[-1] == (0, 16)


# --- calls in flight


def test_no_more_calls_run_than_the_limit_and_the_rest_follow(server: FakeServing, connect: Connect) -> None:
    model = connect(max_requests=2)
    served = model.refresh()
    server.open.clear()

    calls = [predict(model, served, str(number)) for number in range(10)]
    assert all(server.arrived.acquire(timeout=LONG_SECONDS) for _ in range(2))
    assert len(server.requests) == 2
    server.open.set()

    assert [call.result()[0][0] for call in calls] == [pytest.approx(number / 100) for number in range(10)]
    assert server.most_at_once == 2


def test_an_overloaded_server_gets_fewer_calls(server: FakeServing, connect: Connect, events: Events) -> None:
    model = connect(max_requests=8)
    served = model.refresh()
    server.failure = (grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full")
    with pytest.raises(ServingUnavailable):
        predict(model, served, "1").result()
    assert events.named("requests")[-1] == (0, 4)

    server.failure = (grpc.StatusCode.INVALID_ARGUMENT, "bad shape")  # says nothing about load
    with pytest.raises(ServingRejected):
        predict(model, served, "1").result()
    assert events.named("requests")[-1] == (0, 4)


def test_a_cancelled_call_ends_at_once_wherever_it_is(server: FakeServing, connect: Connect) -> None:
    model = connect(max_requests=1)
    served = model.refresh()
    server.open.clear()
    under_way, waiting, last = (predict(model, served, str(number)) for number in (1, 2, 3))
    assert server.arrived.acquire(timeout=LONG_SECONDS)

    for call in (waiting, under_way):
        call.cancel()
        call.cancel()
        with pytest.raises(ServingUnavailable) as error:
            call.result()
        assert error.value.status == "CANCELLED"
    server.open.set()

    assert last.result() == [(pytest.approx(0.03),)]
    assert len(server.requests) == 2


def test_closing_ends_every_call_and_thread(server: FakeServing, connect: Connect) -> None:
    model = connect(max_requests=1)
    served = model.refresh()
    server.open.clear()
    calls = [predict(model, served, "1") for _ in range(3)]
    assert server.arrived.acquire(timeout=LONG_SECONDS)

    model.close()
    model.close()

    calls.append(predict(model, served, "1"))
    for call in calls:
        with pytest.raises(ServingUnavailable) as error:
            call.result()
        assert error.value.status == "CANCELLED"
    with pytest.raises(ServingUnavailable):
        model.refresh()


def test_a_call_past_its_deadline_ends(server: FakeServing, connect: Connect) -> None:
    model = connect(request_timeout_seconds=0.05)
    served = connect().refresh()
    server.open.clear()

    with pytest.raises(ServingUnavailable) as error:
        model.predict(served, Tensor(DType.INT32, (1, 1), bytes(4))).result()
    assert error.value.status == "DEADLINE_EXCEEDED"


# --- which version


def test_a_fixed_version_is_used_although_a_newer_one_is_there(server: FakeServing, connect: Connect) -> None:
    server.versions[2] = Version()
    model = connect(version="1")

    assert model.refresh().version == 1
    server.versions[1].state = State.UNLOADING
    with pytest.raises(ServingUnavailable, match="version 1 is not AVAILABLE: 1 is UNLOADING, 2 is AVAILABLE"):
        model.refresh()
    with pytest.raises(ServingUnavailable, match="version 1 is not AVAILABLE"):
        model.current()


def test_a_label_is_followed_wherever_it_points_and_the_number_pinned(server: FakeServing, connect: Connect) -> None:
    server.versions[2] = Version()
    server.labels = {"stable": 1}
    model = connect(version="stable")

    assert model.refresh().version == 1
    scores_of(model, "1")
    server.labels = {"stable": 2}
    assert model.refresh().version == 2
    scores_of(model, "1")
    assert [request.model_spec.version.value for request in server.requests] == [1, 2]
    server.labels = {}
    with pytest.raises(ServingUnavailable, match=r"Version label stable .*Unrecognized"):
        model.refresh()


def test_an_unknown_model_is_named(connect: Connect) -> None:
    with pytest.raises(ServingUnavailable, match="has no model reviews"):
        connect(model="reviews").refresh()


def test_without_a_server_there_is_a_sentence(connect: Connect) -> None:
    with socket.socket() as taken:  # bound but not listening: nothing can answer here
        taken.bind(("127.0.0.1", 0))
        model = connect(target=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ServingUnavailable, match=r"GetModelStatus of model \w+ at 127") as error:
            model.refresh()
        assert error.value.status == "UNAVAILABLE"
        with pytest.raises(ServingUnavailable, match="GetModelStatus"):
            model.current()


def test_the_watch_finds_a_new_version_and_its_own_vocabulary(
    server: FakeServing, connect: Connect, events: Events
) -> None:
    model = connect(poll_seconds=0.02)
    first = model.refresh()

    server.versions[2] = Version(subwords=("other",))
    events.wait_for("serving", lambda found: found[0] is not None and found[0].version == 2)

    assert model.current().version == 2
    assert model.current().encoder.spec.subwords == ("other",)
    assert first.encoder.spec.subwords == ("good_", "bad_", "é")
    assert predict(model, first, "25").result() == [(0.25,)]  # still served: its last windows may finish
    del server.versions[1]
    with pytest.raises(ModelGone):
        predict(model, first, "25").result()


def test_the_watch_says_when_nothing_is_served_and_when_it_is_again(
    server: FakeServing, connect: Connect, events: Events
) -> None:
    model = connect(poll_seconds=0.02)
    model.refresh()

    server.versions[1].state = State.UNLOADING
    events.wait_for("serving", lambda found: found[0] is None)
    with pytest.raises(ServingUnavailable, match="1 is UNLOADING"):
        model.current()
    server.versions[2] = Version()
    events.wait_for("serving", lambda found: found[0] is not None and found[0].version == 2)


def test_the_watch_outlives_an_outage_and_notices_another_model_under_the_same_number(
    server: FakeServing, connect: Connect, events: Events
) -> None:
    model = connect(poll_seconds=0.02)
    before = model.refresh()
    server.stop()
    events.wait_for("retrying", lambda found: found[0][:2] == ("model", "UNAVAILABLE"))
    assert model.current() is before

    back = FakeServing(server.port)
    back.versions[1] = Version(subwords=("another", "model"))
    try:
        events.wait_for("serving", lambda found: found[0] is not None and found[0].digest != before.digest)
        assert model.current().encoder.spec.subwords == ("another", "model")
    finally:
        back.stop()


def test_a_server_that_comes_back_unchanged_keeps_the_warm_encoder(server: FakeServing, connect: Connect) -> None:
    model = connect()
    before = model.refresh()
    server.failure = (grpc.StatusCode.UNAVAILABLE, "away")
    with pytest.raises(ServingUnavailable):
        predict(model, before, "1").result()

    assert model.refresh() is before


def test_after_an_outage_every_version_is_read_anew_before_it_is_used(server: FakeServing, connect: Connect) -> None:
    server.versions[2] = Version()
    server.labels = {"now": 1}
    model = connect(version="now")
    model.refresh()
    server.labels["now"] = 2
    second = model.refresh()
    server.failure = (grpc.StatusCode.UNAVAILABLE, "away")
    with pytest.raises(ServingUnavailable):
        predict(model, second, "1").result()
    server.versions[1] = Version(subwords=("another", "model"))
    assert model.refresh() is second

    server.labels["now"] = 1
    assert model.refresh().encoder.spec.subwords == ("another", "model")


def test_a_new_version_that_does_not_fit_leaves_the_old_one_in_use_while_it_is_served(
    server: FakeServing, connect: Connect, events: Events
) -> None:
    model = connect()
    before = model.refresh()
    server.versions[2] = Version(card={"digest": "sha256:00"})

    assert model.refresh() is before
    assert events.named("retrying")[-1][0][:2] == ("model", "MODEL_MISMATCH")
    del server.versions[1]
    with pytest.raises(ModelMismatch, match="sha256:00"):
        model.refresh()
    with pytest.raises(ServingUnavailable, match="sha256:00"):
        model.current()
    server.versions[3] = Version()
    assert model.refresh().version == 3


def test_the_card_says_how_texts_are_normalised(server: FakeServing, connect: Connect) -> None:
    server.versions = {1: Version(card={"format": 2, "normaliser": "plain-1"})}
    assert connect().refresh().encoder.spec.normaliser == "plain-1"


def test_a_version_with_an_unknown_normaliser_is_refused_and_the_old_one_goes_on(
    server: FakeServing, connect: Connect, events: Events
) -> None:
    def normalising(spec: EncoderSpec) -> BuiltEncoder:
        built = make_encoder(spec)
        return built._replace(encoder=normalised(built.encoder, spec.normaliser))

    model = connect(encoder=normalising)
    before = model.refresh()
    server.versions[2] = Version(card={"format": 2, "normaliser": "plain-9"})

    assert model.refresh() is before
    retry = events.named("retrying")[-1][0]
    assert (retry.what, retry.status) == ("model", "MODEL_MISMATCH")
    assert "`plain-9`" in retry.detail
    del server.versions[1]
    with pytest.raises(ModelMismatch, match="`plain-9`; this installation knows plain-1 only"):
        model.refresh()


def test_the_card_says_what_is_uncertain_unless_the_operator_has_a_threshold(
    server: FakeServing, connect: Connect
) -> None:
    server.versions = {1: Version(card={"uncertain": [0.4, 0.7]})}

    assert connect().refresh().uncertain == (0.4, 0.7)
    assert connect().refresh().all_labels == ("negative", "positive", "uncertain")
    assert connect(threshold=0.5).refresh().uncertain is None


def test_encoders_of_the_last_three_versions_are_kept_and_no_more(server: FakeServing, connect: Connect) -> None:
    made: list[EncoderSpec] = []

    def counting(spec: EncoderSpec) -> BuiltEncoder:
        made.append(spec)
        return make_encoder(spec)

    server.versions = {number: Version() for number in range(1, 6)}
    server.labels = {"now": 1}
    model = connect(version="now", encoder=counting)
    for number in (1, 2, 3, 2, 1, 4, 2):
        server.labels["now"] = number
        assert model.refresh().version == number
    assert len(made) == 4  # going back to 1 and 2 made nothing again

    server.labels["now"] = 3  # the one used longest ago has been dropped
    model.refresh()
    assert len(made) == 5


# --- probes


def test_a_probe_says_whether_the_server_answers(server: FakeServing, connect: Connect) -> None:
    server.trials_count = True
    model = connect()
    with pytest.raises(ServingUnavailable):
        model.probe()
    model.refresh()
    model.probe()
    probe = server.requests[-1].inputs["tokens"]
    assert probe == server.requests[0].inputs["tokens"], "what was answered well when the version was tried out"
    assert probe.tensor_shape.dim[0].size == 1

    server.failure = (grpc.StatusCode.INVALID_ARGUMENT, "no")  # an answer, too
    model.probe()
    server.failure = (grpc.StatusCode.UNAVAILABLE, "away")
    with pytest.raises(ServingUnavailable):
        model.probe()
    server.failure = None
    server.versions = {2: Version()}
    with pytest.raises(ModelGone):
        model.probe()


@pytest.mark.parametrize(
    "bend", [reply_with(float_val=[float("nan")]), reply_with(float_val=[1.5]), lambda _: b"\xff\xff\xff"]
)
def test_a_probe_s_reply_is_checked_as_any_other(server: FakeServing, connect: Connect, bend: Any) -> None:
    server.trials_count = True
    model = connect()
    model.refresh()
    server.bend = bend
    with pytest.raises(ServingUnavailable) as error:
        model.probe()
    assert error.value.status == "BAD_REPLY"


# --- versions are tried out before they are used


def first_replies(*scores: float) -> Callable[[prediction_pb2.PredictResponse], None]:
    """These scores one after the other, and then the server's own."""
    left = list(scores)

    def bend(reply: prediction_pb2.PredictResponse) -> None:
        if left:
            reply.outputs["score"].float_val[:] = [left.pop(0)]

    return bend


def test_a_logit_model_without_its_setting_is_a_mismatch_that_names_it(server: FakeServing, connect: Connect) -> None:
    server.trials_count = True
    server.bend = first_replies(0.4, 0.9, -2.5)  # by chance the first two look like scores
    with pytest.raises(ModelMismatch, match=r"version 1 of model .* gives the score -2.5 .* Set `logits` \(--logits\)"):
        connect().refresh()
    server.bend = first_replies(0.4, 0.9, -2.5)
    assert connect(logits=True).refresh().version == 1


@pytest.mark.parametrize(
    ("bend", "complaint"),
    [
        (reply_with(float_val=[float("nan")]), "no usable score for any of 8 plain sentences: .*not a finite number"),
        (reply_with(shape=[1, 2]), "no usable score .*shape"),
    ],
)
def test_a_model_without_any_usable_score_is_a_mismatch(
    server: FakeServing, connect: Connect, bend: Any, complaint: str
) -> None:
    server.trials_count = True
    server.bend = bend
    with pytest.raises(ModelMismatch, match=complaint):
        connect().refresh()


def test_a_model_that_refuses_every_sentence_is_a_mismatch(server: FakeServing, connect: Connect) -> None:
    server.trials_count = True
    server.failure = (grpc.StatusCode.INVALID_ARGUMENT, "no such embedding")
    with pytest.raises(ModelMismatch, match="no such embedding"):
        connect().refresh()


@pytest.mark.parametrize("garbled", [b"\xff\xff\xff", b""])
def test_a_server_that_garbles_its_replies_says_nothing_of_the_model(
    server: FakeServing, connect: Connect, garbled: bytes
) -> None:
    server.trials_count = True
    server.bend = lambda _: garbled
    with pytest.raises(ServingUnavailable):
        connect().refresh()
    server.bend = lambda _: None
    server.failure = (grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full")
    with pytest.raises(ServingUnavailable, match="queue full"):
        connect().refresh()


def test_what_has_no_score_for_some_texts_is_used_and_probed_with_one_that_has(
    server: FakeServing, connect: Connect
) -> None:
    server.trials_count = True
    server.bend = first_replies(float("nan"), float("nan"))
    model = connect()
    model.refresh()
    third = server.requests[2].inputs["tokens"]
    model.probe()
    assert server.requests[-1].inputs["tokens"] == third


def test_a_version_that_appears_later_and_has_no_usable_score_is_not_used(
    server: FakeServing, connect: Connect, events: Events
) -> None:
    server.trials_count = True
    model = connect()
    before = model.refresh()
    server.versions[2] = Version()
    server.bend = reply_with(float_val=[3.0])

    assert model.refresh() is before
    assert events.named("retrying")[-1][0][:2] == ("model", "MODEL_MISMATCH")
    assert "--logits" in events.named("retrying")[-1][0].detail
    server.bend = lambda _: None
    assert model.refresh().version == 2


def test_a_version_is_tried_out_once(server: FakeServing, connect: Connect) -> None:
    server.trials_count = True
    model = connect()
    model.refresh()
    tried = len(server.requests)
    model.refresh()
    assert len(server.requests) == tried


# --- settings


@pytest.mark.parametrize("settings", [{"vocabulary_file": "nowhere"}, {"ca_file": "nowhere"}])
def test_a_file_that_cannot_be_read_is_named(connect: Connect, settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="nowhere cannot be read: No such file"):
        connect(**settings)


@pytest.mark.parametrize("settings", [{"cert_file": "x"}, {"key_file": "x"}, {"ca_file": "x", "key_file": "x"}])
def test_half_a_certificate_is_refused(connect: Connect, settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        connect(**settings)


def test_the_encoder_of_the_tests_is_what_it_says() -> None:
    spec = EncoderSpec(EncoderKind.SUBWORDS, DType.INT32, max_tokens=5)
    assert IdEncoder(spec).encode_many(["1 2", "3"]).tensor([0, 1], 2).content == b"\1\0\0\0\2\0\0\0\3\0\0\0\0\0\0\0"
