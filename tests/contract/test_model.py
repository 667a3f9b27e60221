"""One suite for Model: the fake, and the gRPC adapter over the real model server, keep the same promises."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.local.ports import free_ports
from tests.support.harness import wait_for
from tests.support.model_server import running_model_server
from tests.support.models import BAD, GOOD, PLAIN, TinyModel, export_tiny
from worker.clock import SystemClock
from worker.errors import ModelGone, ServingRejected, ServingUnavailable
from worker.ports import Call, Model, ServedModel
from worker.records import Tensor
from worker.serving import open_model
from worker.settings import Settings
from worker.testing import FakeModel, RecordingEvents, served
from worker.text import build_encoder

WAIT_SECONDS = 60
TEXTS = ["a good film", "awful", "the plot was boring and dull and it is a waste of actors", "", "zwölf 映画 🎬"]


class World(Protocol):
    """A model and a hand on the server behind it."""

    model: Model

    def score(self, texts: Sequence[str]) -> list[float]: ...

    def refused(self) -> Tensor: ...

    def leave(self) -> None: ...

    def come_back(self) -> None: ...

    def roll_out(self, version: int) -> None: ...

    def take_back(self, version: int) -> None: ...

    def close(self) -> None: ...


class FakeWorld:
    REFUSED = "the review that the model refuses"

    def __init__(self) -> None:
        self.model = FakeModel()
        self._away = False
        self.model.fail = self._fail

    def score(self, texts: Sequence[str]) -> list[float]:
        return [0.9 if "good" in text else 0.1 for text in texts]

    def refused(self) -> Tensor:
        return tensor(self.model.current(), [self.REFUSED])

    def leave(self) -> None:
        self._away = True
        self.model.away = [ServingUnavailable("no route")] * 1_000

    def come_back(self) -> None:
        self._away = False
        self.model.away = []

    def roll_out(self, version: int) -> None:
        self.model.version = served(version)

    def take_back(self, version: int) -> None:
        self.model.version = None

    def close(self) -> None:
        self.model.close()

    def _fail(self, texts: Sequence[str]) -> ServingUnavailable | ServingRejected | None:
        if self._away:
            return ServingUnavailable("no route")
        return ServingRejected("it has a token that is not in the table") if self.REFUSED in texts else None


class GrpcWorld:
    """The real server, over a small real model."""

    def __init__(self, base_path: Path) -> None:
        self._base_path = base_path
        self._ports = free_ports(2)
        self._tiny = export_tiny(base_path, version=1)
        self.come_back()
        settings = Settings(serving=f"127.0.0.1:{self._ports[0]}", model_poll_seconds=0.2, request_timeout_seconds=20)
        self.model = open_model(settings, build_encoder, RecordingEvents(), SystemClock())

    def score(self, texts: Sequence[str]) -> list[float]:
        # What has no token at all still has a row: of padding.
        return self._tiny.score(texts)

    def refused(self) -> Tensor:
        served = self.model.current()
        whole = tensor(served, ["a"])
        return Tensor(whole.dtype, (1, 1), (self._tiny.vocabulary.size + 7).to_bytes(4, "little"))

    def leave(self) -> None:
        self._server.__exit__(None, None, None)
        self._running = False

    def come_back(self) -> None:
        self._server: Any = running_model_server(self._base_path, ports=(self._ports[0], self._ports[1]))
        self._server.__enter__()
        self._running = True

    def roll_out(self, version: int) -> None:
        self._tiny = export_tiny(self._base_path, version=version, seed=version)

    def take_back(self, version: int) -> None:
        shutil.rmtree(self._base_path / str(version))

    def close(self) -> None:
        self.model.close()
        if self._running:
            self.leave()


def make(kind: str, folder: Path) -> World:
    return FakeWorld() if kind == "fake" else GrpcWorld(folder / "sentiment_classifier")


@pytest.fixture(scope="module", params=["fake", "grpc"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One that several tests share and leave as it was."""
    made = make(request.param, tmp_path_factory.mktemp("models"))
    yield made
    made.close()


@pytest.fixture(params=["fake", "grpc"])
def own_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = make(request.param, tmp_path)
    yield made
    made.close()


def tensor(served: ServedModel, texts: Sequence[str], *, extra: int = 0) -> Tensor:
    """The input for `texts`, padded to `extra` tokens more than the longest needs."""
    rows = served.encoder.encode_many(texts)
    return rows.tensor(range(len(texts)), max(rows.tokens) + extra)


def predict(model: Model, texts: Sequence[str], *, extra: int = 0) -> list[float]:
    served = model.current()
    return [row[0] for row in model.predict(served, tensor(served, texts, extra=extra)).result()]


def outcome(call: Call) -> type[BaseException] | None:
    try:
        call.result()
    except (ServingUnavailable, ServingRejected, ModelGone) as error:
        return type(error)
    return None


def test_a_version_is_known_and_says_how_to_read_its_scores(world: World) -> None:
    served = world.model.current()
    assert served.version == 1
    assert served.labels == ("negative", "positive")
    assert served.threshold == 0.6
    assert served.digest.startswith("sha256:")
    assert world.model.refresh() == served


def test_scores_come_row_by_row_and_may_be_read_again(world: World) -> None:
    texts = TEXTS[:3] + TEXTS[4:]
    served = world.model.current()
    call = world.model.predict(served, tensor(served, texts))
    first = call.result()
    assert [len(row) for row in first] == [1] * len(texts)
    assert [row[0] for row in first] == pytest.approx(world.score(texts), abs=1e-6)
    assert call.result() == first


class Trace:
    """A ports.CallTrace that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def sending(self) -> Sequence[tuple[str, str]]:
        self.told.append("sent")
        return [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]

    def ended(self, status: str) -> None:
        self.told.append(status)


def test_a_call_s_trace_is_told_when_it_is_sent_and_how_it_ended(world: World) -> None:
    served = world.model.current()
    well, refused = Trace(), Trace()
    world.model.predict(served, tensor(served, ["a good film"]), well).result()
    assert well.told == ["sent", "OK"]
    assert outcome(world.model.predict(served, world.refused(), refused)) is ServingRejected
    assert (refused.told[0], len(refused.told), "OK" in refused.told) == ("sent", 2, False)


def test_many_calls_may_be_under_way_and_each_gets_its_own_answer(world: World) -> None:
    served = world.model.current()
    texts = [f"{'good ' * (n % 7)}film {'bad ' * (n % 3)}" for n in range(60)]
    calls = [world.model.predict(served, tensor(served, [text])) for text in texts]
    assert [call.result()[0][0] for call in reversed(calls)] == pytest.approx(world.score(texts)[::-1], abs=1e-6)


def test_calls_may_be_made_from_several_threads(world: World) -> None:
    expected = world.score(["a good film"])
    found: list[list[float]] = []
    threads = [Thread(target=lambda: found.append(predict(world.model, ["a good film"]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert len(found) == 8
    assert all(scores == pytest.approx(expected, abs=1e-6) for scores in found)


def test_what_the_model_refuses_is_rejected_every_time_it_is_asked(world: World) -> None:
    served = world.model.current()
    call = world.model.predict(served, world.refused())
    for _ in range(2):
        with pytest.raises(ServingRejected):
            call.result()
    assert predict(world.model, ["a good film"]) == pytest.approx(world.score(["a good film"]), abs=1e-6)


def test_a_server_that_is_away_is_unavailable_until_it_is_back(own_world: World) -> None:
    served = own_world.model.current()
    own_world.model.probe()
    own_world.leave()
    assert outcome(own_world.model.predict(served, tensor(served, ["a good film"]))) is ServingUnavailable
    with pytest.raises(ServingUnavailable):
        own_world.model.probe()
    assert own_world.model.current() == served, "the version last known"
    own_world.come_back()
    wait_for(lambda: lives(own_world.model), WAIT_SECONDS, "the server")
    assert predict(own_world.model, ["a good film"]) == pytest.approx(own_world.score(["a good film"]), abs=1e-6)


def lives(model: Model) -> bool:
    try:
        model.probe()
    except ServingUnavailable:
        return False
    return True


def test_a_version_that_was_taken_back_is_gone_and_the_next_is_found(own_world: World) -> None:
    old = own_world.model.current()
    old_input = tensor(old, ["a good film"])
    own_world.take_back(1)
    wait_for(
        lambda: outcome(own_world.model.predict(old, old_input)) is ModelGone, WAIT_SECONDS, "the old version's end"
    )
    wait_for(lambda: no_version(own_world.model), WAIT_SECONDS, "word of it")
    own_world.roll_out(2)
    wait_for(lambda: not no_version(own_world.model), WAIT_SECONDS, "the new version")
    assert own_world.model.current().version == 2
    assert own_world.model.current().digest != old.digest
    assert predict(own_world.model, TEXTS[:2]) == pytest.approx(own_world.score(TEXTS[:2]), abs=1e-6)
    assert outcome(own_world.model.predict(old, old_input)) is ModelGone


def no_version(model: Model) -> bool:
    try:
        model.refresh()
    except ServingUnavailable:
        return True
    return False


def test_a_cancelled_call_may_be_cancelled_again(world: World) -> None:
    served = world.model.current()
    call = world.model.predict(served, tensor(served, ["a good film"]))
    call.cancel()
    call.cancel()
    assert outcome(call) in (None, ServingUnavailable)


def test_closing_twice_is_fine(own_world: World) -> None:
    own_world.model.close()
    own_world.model.close()


# --- the invariant that a score is a review's own --------------------------------------------------------------------

WORDS = st.sampled_from([*GOOD, *BAD, *PLAIN, "zwölf", "映画", "🎬", "<br", "10/10"])
REVIEW_TEXTS = st.lists(WORDS, min_size=1, max_size=40).map(" ".join) | st.text(min_size=1, max_size=40)


@pytest.fixture(scope="module")
def real_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Model, TinyModel]]:
    """The trainer's own architecture and export, behind the real server."""
    base_path = tmp_path_factory.mktemp("models") / "sentiment_classifier"
    tiny = export_tiny(base_path, version=1)
    with running_model_server(base_path) as server:
        model = open_model(Settings(serving=server.grpc_target), build_encoder, RecordingEvents(), SystemClock())
        yield model, tiny
        model.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.lists(REVIEW_TEXTS, min_size=1, max_size=12), extra=st.integers(0, 300), data=st.data())
def test_a_score_depends_neither_on_padding_nor_on_batch_mates(
    real_model: tuple[Model, TinyModel], texts: list[str], extra: int, data: st.DataObject
) -> None:
    model, tiny = real_model
    alone = tiny.score(texts)
    assert [predict(model, [text])[0] for text in texts] == pytest.approx(alone, abs=1e-6)
    assert predict(model, texts, extra=extra) == pytest.approx(alone, abs=1e-6)
    order = data.draw(st.permutations(range(len(texts))))
    assert predict(model, [texts[n] for n in order]) == pytest.approx([alone[n] for n in order], abs=1e-6)
