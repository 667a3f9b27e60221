"""The tutorial's client against the model that the trainer exports: text, tokens, REST, label; and the same over gRPC."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import requests

from tests.support.model_server import ServerHandle, running_model_server
from tests.support.model_server_requests import prediction_stub, refused, request
from tests.support.models import TinyModel, export_tiny

NAME = "sentiment_classifier"
TEXTS = ["That movie i saw the other day was fantabulous", "That movie i saw the other day was aweful"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return export_tiny(tmp_path_factory.mktemp("models"), version=1700000000, texts=TEXTS)


@pytest.fixture(scope="module")
def server(model: TinyModel) -> Iterator[ServerHandle]:
    with running_model_server(Path(model.path).parent) as handle:
        yield handle


def test_the_tutorials_python_client(server: ServerHandle, model: TinyModel) -> None:
    url = f"{server.rest_url}/v1/models/{NAME}:predict"

    def make_prediction(instances: list[int]) -> list[list[float]]:
        data = json.dumps({"signature_name": "serving_default", "instances": [instances]})
        reply = requests.post(url, data=data, headers={"content-type": "application/json"}, timeout=60)
        predictions: list[list[float]] = json.loads(reply.text)["predictions"]
        return predictions

    predictions = [make_prediction(model.vocabulary.encode_ids(text))[0] for text in TEXTS]
    assert [prediction[0] for prediction in predictions] == pytest.approx(model.score(TEXTS), abs=1e-6)


def test_the_tutorials_curl(server: ServerHandle) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed; the Python client above sends the same request")
    url = f"{server.rest_url}/v1/models/{NAME}:predict"
    body = '{"instances": [[44, 27, 13, 28, 1, 10, 41, 18, 42, 47, 72]]}'
    command = [curl, "--silent", "--show-error", "--fail", "--max-time", "60", "-d", body, "-X", "POST", url]
    ((score,),) = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["predictions"]
    assert 0 <= score <= 1


def test_the_vocabulary_comes_over_grpc_and_the_filter_picks_one_output(server: ServerHandle, model: TinyModel) -> None:
    ids = np.arange(1, 1 + len(model.vocabulary.subwords), dtype=np.int32)
    with prediction_stub(server) as stub:
        subwords = stub.Predict(request(NAME, "vocabulary", ["subword"], ids=ids)).outputs["subword"].string_val
        card = stub.Predict(request(NAME, "vocabulary", ["card"], ids=ids[:1])).outputs["card"].string_val
    assert [each.decode() for each in subwords] == list(model.vocabulary.subwords)
    assert json.loads(card[0])["digest"] == model.vocabulary.digest


@pytest.mark.parametrize("shape", [(), (3,), (1, 3, 2)])
def test_tokens_of_another_shape_are_the_requests_fault(server: ServerHandle, shape: tuple[int, ...]) -> None:
    with prediction_stub(server) as stub:
        code, _ = refused(stub.Predict, request(NAME, tokens=np.ones(shape, np.int32)))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
