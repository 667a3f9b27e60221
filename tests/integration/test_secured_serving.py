"""A model server that speaks TLS and wants to know who asks: certificates, names, tokens, and all of them replaced."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from deploy.local.ports import free_ports
from tests.integration.test_model_server_flags import ssl_config
from tests.support.certificates import Authority
from tests.support.model_server import ServerHandle, running_model_server
from worker.clock import SystemClock
from worker.errors import ServingUnavailable
from worker.serving import make_model
from worker.settings import load
from worker.silent_events import SilentEvents
from worker.text import build_encoder

CANARY = "canary-7Qx"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("serving-certificates"))


@pytest.fixture(scope="module")
def server(
    authority: Authority, model_base_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerHandle]:
    """Its certificate is for `models.example` only, and it answers nobody who shows none."""
    own = authority.issue("models", names="DNS:models.example")
    quoted = authority.certificate.read_text().replace("\n", "\\n")
    path = tmp_path_factory.mktemp("serving") / "ssl"
    ssl_config(path, own.key.read_text(), own.certificate.read_text(), f'custom_ca: "{quoted}" client_verify: true')
    with running_model_server(model_base_path, arguments=[f"--ssl_config_file={path}"]) as running:
        yield running


def refreshed(*words: str) -> None:
    """Asks the model server as a worker with these settings does."""
    model = make_model(load(words), build_encoder, SilentEvents(), SystemClock())
    try:
        model.refresh()
    finally:
        model.close()


def test_the_name_in_the_certificate_may_be_another_than_the_address(
    server: ServerHandle, authority: Authority
) -> None:
    client = authority.issue("worker")
    trusted = ("--serving", server.grpc_target, "--serving-ca-file", str(authority.certificate))
    shown = ("--serving-cert-file", str(client.certificate), "--serving-key-file", str(client.key))
    named = ("--serving-server-name", "models.example")
    refreshed(*trusted, *shown, *named)
    with pytest.raises(ServingUnavailable, match="UNAVAILABLE"):
        refreshed(*trusted, *shown)
    with pytest.raises(ServingUnavailable, match="UNAVAILABLE"):
        refreshed(*trusted, *named)


def test_a_certificate_that_is_replaced_is_taken_up_without_a_restart(
    server: ServerHandle, authority: Authority, tmp_path: Path
) -> None:
    """The worker starts with one that the server does not take."""
    stranger, known = Authority(tmp_path, "other").issue("worker"), authority.issue("known")
    shown = tmp_path / "shown.pem"
    shown.write_text(stranger.together().read_text())
    words = ["--serving", server.grpc_target, "--serving-ca-file", str(authority.certificate)]
    words += ["--serving-server-name", "models.example", "--serving-cert-file", str(shown)]
    model = make_model(load(words), build_encoder, SilentEvents(), SystemClock())
    try:
        with pytest.raises(ServingUnavailable):
            model.refresh()
        shown.with_suffix(".new").write_text("-----BEGIN ")  # half written: what is there stays in use
        shown.with_suffix(".new").replace(shown)
        with pytest.raises(ServingUnavailable):
            model.refresh()
        shown.with_suffix(".new").write_text(known.together().read_text())
        shown.with_suffix(".new").replace(shown)
        assert model.refresh().version == 1
    finally:
        model.close()


class Doorkeeper(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """Answers every call as unavailable and notes what it was shown."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def service(self, call: Any) -> Any:
        self.shown.append(dict(call.invocation_metadata).get("authorization"))
        return None


def test_a_token_goes_with_each_call_and_is_read_anew(authority: Authority, tmp_path: Path) -> None:
    own, keeper = authority.issue("token-server"), Doorkeeper()
    [port] = free_ports(1)
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, handlers=[keeper])
        server.add_secure_port(
            f"127.0.0.1:{port}",
            grpc.ssl_server_credentials([(own.key.read_bytes(), own.certificate.read_bytes())]),
        )
        server.start()
        token = tmp_path / "token"
        token.write_text(CANARY)
        words = ["--serving", f"127.0.0.1:{port}", "--serving-ca-file", str(authority.certificate)]
        settings = load([*words, "--serving-token-file", str(token), "--model-poll-seconds", "600"])
        model = make_model(settings, build_encoder, SilentEvents(), SystemClock())
        try:
            for value in (CANARY, "another"):
                token.write_text(value)
                with pytest.raises(ServingUnavailable) as raised:
                    model.refresh()
                assert keeper.shown[-1] == f"Bearer {value}"
                assert CANARY not in str(raised.value)
            token.unlink()
            asked = len(keeper.shown)
            with pytest.raises(ServingUnavailable, match="serving-token-file"):
                model.refresh()
            assert len(keeper.shown) == asked
        finally:
            model.close()
            server.stop(None).wait()
