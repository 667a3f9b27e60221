"""The model server started as scripts start TensorFlow Serving: metrics, TLS, a UNIX socket, and flags without effect."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.model_server.exits import Exit
from tests.integration.test_model_server_rollouts import NAME, int32, run
from tests.support.model_server import ServerHandle, running_model_server
from tests.support.model_server_models import save_scorer
from tests.support.model_server_requests import refused, request

from tensorflow_serving.apis import prediction_service_pb2_grpc  # isort: skip  # after tf, which imports quietly

METRICS = "/metrics/of/the/model/server"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The PEM texts of a key and of its certificate for `localhost`, which is its own authority."""
    program = shutil.which("openssl")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("openssl is missing")
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    command = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    subprocess.run(command, check=True, capture_output=True)
    return (folder / "key").read_text(), (folder / "certificate").read_text()


def ssl_config(path: Path, key: str, certificate: str, rest: str = "") -> Path:
    quoted = [text.replace("\n", "\\n") for text in (key, certificate)]
    path.write_text(f'server_key: "{quoted[0]}"\nserver_cert: "{quoted[1]}"\n{rest}')
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flags")


@pytest.fixture(scope="module")
def server(certificate: tuple[str, str], folder: Path) -> Iterator[ServerHandle]:
    save_scorer(folder / "scorer", 1)
    (folder / "monitoring").write_text(f'prometheus_config {{ enable: true, path: "{METRICS}" }}')
    quoted = certificate[1].replace("\n", "\\n")
    tls = ssl_config(folder / "ssl", *certificate, f'custom_ca: "{quoted}" client_verify: true')
    arguments = [
        f"--monitoring_config_file={folder / 'monitoring'}",
        f"--ssl_config_file={tls}",
        f"--grpc_socket_path={folder / 'socket'}",
        "--grpc_channel_arguments=grpc.max_connection_age_ms=600000,grpc.default_authority=x",
        "--rest_api_timeout_in_ms=1000",
        "--enable_batching=true",
        "--enable_model_warmup=false",
    ]
    with running_model_server(folder / "scorer", arguments=arguments) as running:
        yield running


def credentials(certificate: tuple[str, str], *, client: bool = True) -> grpc.ChannelCredentials:
    key, text = (each.encode() for each in certificate)
    return grpc.ssl_channel_credentials(text, *((key, text) if client else ()))


def predicts(channel: grpc.Channel) -> Any:
    with channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return stub.Predict(request(NAME, tokens=int32([[1]]))).model_spec.version.value


def test_flags_without_effect_are_named_once(server: ServerHandle) -> None:
    said = (
        "model server: taken without effect here: --enable_batching, --rest_api_timeout_in_ms, --enable_model_warmup\n"
    )
    assert server.log.count(said) == 1
    assert server.log.count("without effect") == 1


def test_it_speaks_tls_on_the_port_and_on_the_socket(
    server: ServerHandle, certificate: tuple[str, str], folder: Path
) -> None:
    names = [("grpc.ssl_target_name_override", "localhost")]
    for target in (server.grpc_target, f"unix:{folder / 'socket'}"):
        assert predicts(grpc.secure_channel(target, credentials(certificate), names)) == 1


def test_it_answers_nobody_who_does_not(server: ServerHandle, certificate: tuple[str, str]) -> None:
    channels = (
        grpc.insecure_channel(server.grpc_target),
        grpc.secure_channel(server.grpc_target, credentials(certificate, client=False)),
    )
    for channel in channels:
        with channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            code, _ = refused(stub.Predict, request(NAME, tokens=int32([[1]])))
            assert code == grpc.StatusCode.UNAVAILABLE


def test_requests_are_seen_in_the_metrics(server: ServerHandle, certificate: tuple[str, str]) -> None:
    model = "/v1/models/" + NAME
    predicts(grpc.secure_channel(server.grpc_target, credentials(certificate)))
    requests.post(f"{server.rest_url}{model}:predict", json={"instances": [[1]]}, timeout=10).raise_for_status()
    assert requests.post(f"{server.rest_url}{model}:predict", json={}, timeout=10).status_code == 400
    assert requests.post(f"{server.rest_url}{model}:predict", data="[" * 100_000, timeout=10).status_code == 400
    assert requests.get(f"{server.rest_url}/v1/models/x", timeout=10).status_code == 404
    requests.get(f"{server.rest_url}{model}/metadata", timeout=10).raise_for_status()
    answer = requests.get(server.rest_url + METRICS, timeout=10)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/plain")
    found = {family.name: family.samples for family in text_string_to_metric_families(answer.text)}
    counts = {
        (sample.labels["model_name"], sample.labels["status"]): sample.value
        for sample in found[":tensorflow:serving:request_count"]
    }
    assert counts[NAME, "OK"] >= 3
    assert counts[NAME, "INVALID_ARGUMENT"] == 2
    assert counts["x", "NOT_FOUND"] == 1
    timed = {
        (sample.labels["API"], sample.labels["entrypoint"])
        for sample in found[":tensorflow:serving:request_latency"]
        if sample.name.endswith("_count")
    }
    assert timed == {("Predict", "GRPC"), ("predict", "REST"), ("", "REST")}


def test_no_metrics_are_served_where_nothing_asks_for_them(tmp_path: Path) -> None:
    save_scorer(tmp_path, 1)
    with running_model_server(tmp_path) as plain:
        assert requests.get(plain.rest_url + "/monitoring/prometheus/metrics", timeout=10).status_code == 404
        assert "without effect" not in plain.log


def test_security_that_cannot_be_had_is_refused(tmp_path: Path, certificate: tuple[str, str]) -> None:
    save_scorer(tmp_path / "scorer", 1)
    base = f"--model_base_path={tmp_path / 'scorer'}"
    place = ("--port=0", f"--grpc_socket_path={tmp_path / 's'}")
    alts = run(base, *place, "--use_alts_credentials")
    assert (alts.returncode, alts.stderr.count("\n")) == (Exit.USAGE, 1)
    for rest, words in (("", "needs server_key"), ("client_verify: true", "no custom_ca")):
        key = certificate if rest else ("", "")
        half = run(base, *place, f"--ssl_config_file={ssl_config(tmp_path / 'ssl', *key, rest)}")
        assert (half.returncode, half.stderr.count("\n"), words in half.stderr) == (Exit.CONFIG, 1, True), half.stderr
    wrong = run(base, *place, "--grpc_channel_arguments=a")
    assert (wrong.returncode, "'a' is not of the form key=value" in wrong.stderr) == (Exit.USAGE, True), wrong.stderr
    tls = ssl_config(tmp_path / "ssl", "no key", "no certificate")
    unfit = run(base, *place, f"--ssl_config_file={tls}")
    assert (unfit.returncode, "is no key with its certificate" in unfit.stderr) == (Exit.UNAVAILABLE, True), (
        unfit.stderr
    )


def test_the_graph_with_the_tags_asked_for_is_loaded(tmp_path: Path) -> None:
    save_scorer(tmp_path, 1)
    arguments = [f"--model_base_path={tmp_path}", "--port=0", f"--grpc_socket_path={tmp_path / 's'}"]
    ended = run(*arguments, "--saved_model_tags=serve,gpu", "--max_num_load_retries=0")
    assert ended.returncode == Exit.MODEL
    assert "gpu" in ended.stderr
