"""Training for real, on a part of the data, and versions promoted in a real model server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest

from protos.serving.prediction_pb2 import PredictRequest, PredictResponse
from protos.serving.tensor_pb2 import DT_INT32
from tests.support.model_server import running_model_server
from tests.support.models import export_tiny, full_model
from trainer import data, evaluation, training
from trainer import model as keras_model
from trainer.__main__ import run
from trainer.errors import ExitCode
from trainer.quiet import keras, tf
from trainer.versions import registry

pytestmark = pytest.mark.lasts(15)

SMALL = ["train", "--limit", "800", "--epochs", "10", "--vocabulary-size", "1000", "--data", "package"]
TEXT = "That movie i saw the other day was fantastic"


def train(models: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainer", *SMALL, "--models", str(models), *more]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=280, env=os.environ)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions trained alike, by two processes, and one with another seed."""
    folder = tmp_path_factory.mktemp("models")
    for seed in ("0", "0", "1"):
        ended = train(folder, "--seed", seed)
        noise = [line for line in ended.stderr.splitlines() if "TensorFlow:" not in line and "WARNING" in line.upper()]
        assert noise == [], "third-party log lines"
    return folder


def figures(version: registry.Version) -> dict[str, Any]:
    found = msgspec.json.decode((version.path / "assets.extra" / "figures.json").read_bytes())
    return {name: value for name, value in found.items() if name not in ("created", "cpu_seconds")}


def test_training_is_reproducible_from_its_seed(models: Path) -> None:
    first, second, other = map(figures, registry.versions(models / "sentiment_classifier"))

    assert first == second
    assert first["history"] != other["history"]
    assert first["data"] == other["data"]


def test_the_figures_are_those_of_the_exported_model(models: Path) -> None:
    version = registry.newest(models / "sentiment_classifier")
    found, card = version.figures(), version.card()
    assert found is not None
    signature = (loaded := tf.saved_model.load(str(version.path))).signatures["serving_default"]
    test = data.from_package().test
    rows = keras_model.encode((example.text for example in test), version.vocabulary(), card)
    positive = np.array([example.positive for example in test])

    scores = keras_model.predict(lambda tokens: signature(tokens=tf.constant(tokens))["score"], rows)
    assert loaded is not None

    assert evaluation.accuracy(scores, positive, card.threshold) == found.test.accuracy
    assert evaluation.auc(scores, positive) == pytest.approx(found.test.auc)
    assert found.test.auc > 0.75, "it learned nothing"
    assert (found.data.train, found.data.validation, found.data.test) == (800, 2_500, 2_500)
    assert 990 <= found.vocabulary_size <= 1_010
    kept = keras.models.load_model(version.path / "assets.extra" / "model.keras")
    np.testing.assert_allclose(keras_model.predict(kept, rows), scores, rtol=0, atol=1e-6)


@pytest.mark.together("the real model")
@pytest.mark.timeout(1_200)  # it is trained first where there is none
def test_the_real_model_keeps_its_promises() -> None:
    model = full_model()
    test = data.from_package().test
    scores = np.array(model.score([example.text for example in test]))
    positive = np.array([example.positive for example in test])

    assert evaluation.accuracy(scores, positive, 0.5) >= 0.87
    assert evaluation.accuracy(scores, positive, model.card.threshold) >= 0.86
    scores = np.array(model.score([text for text, _ in training.EXAMPLES]))
    labels = [model.card.labels[bool(score >= model.card.threshold)] for score in scores]
    assert dict(zip(training.EXAMPLES, labels, strict=True)) == {each: each[1] for each in training.EXAMPLES}


def test_compare_tells_equal_versions_from_different_ones(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, other = (str(each.number) for each in registry.versions(models / "sentiment_classifier"))
    more = ["--models", str(models), "--data", "package", "--differences", "2"]

    assert run(["compare", first, second, *more]) == ExitCode.OK
    same = capsys.readouterr().out
    assert run(["compare", first, other, *more]) == ExitCode.OK
    different = capsys.readouterr().out

    assert "Same label for 100.00% of 2,500 test reviews" in same
    assert "p = 1;" in same
    assert "Same label for 100.00%" not in different
    assert len(different.split("Farthest apart:")[1].splitlines()) == 3


def test_a_promoted_label_is_served_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base_path = tmp_path / "sentiment_classifier"
    tiny = {number: export_tiny(base_path, version=number, seed=number) for number in (1, 2, 3)}

    with running_model_server(base_path) as server:  # which serves the newest alone, and knows no label
        for number in (1, 2, 1):
            arguments = ["promote", str(number), "--label", "stable", "--server", server.grpc_target]
            assert run([*arguments, "--models", str(tmp_path)]) == ExitCode.OK

            version, score = ask(server.grpc_target, "stable", tiny[number].vocabulary.encode_ids(TEXT))

            assert version == number
            assert score == pytest.approx(tiny[number].score([TEXT])[0], abs=1e-6)

    assert f"stable is version 1 in {tmp_path / 'models.config'}" in capsys.readouterr().out


def test_a_server_that_is_away_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_tiny(tmp_path / "sentiment_classifier", version=1)
    arguments = ["promote", "1", "--label", "stable", "--models", str(tmp_path), "--server", "127.0.0.1:1"]

    assert run(arguments) == ExitCode.UNAVAILABLE

    assert "the model server at 127.0.0.1:1 did not take the configuration: UNAVAILABLE" in capsys.readouterr().err
    assert not (tmp_path / "models.config").exists()


def ask(target: str, label: str, ids: list[int]) -> tuple[int, float]:
    """The version that answers for a label, and its score."""
    request = PredictRequest()
    request.model_spec.name = "sentiment_classifier"
    request.model_spec.version_label = label
    tensor = request.inputs["tokens"]
    tensor.dtype = DT_INT32
    for size in (1, len(ids)):
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = np.array(ids, "<i4").tobytes()
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        reply = PredictResponse.FromString(call(request.SerializeToString(), timeout=20))
    score = reply.outputs["score"]
    [value] = score.float_val or np.frombuffer(score.tensor_content, "<f4")
    return reply.model_spec.version.value, float(value)
