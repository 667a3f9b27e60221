"""Versions come and go while the model server runs: loads, unloads, failures, labels, reloads, start and stop."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from deploy.local.ports import free_ports
from tests.support.model_server import running_model_server
from tests.support.model_server_models import save_broken, save_scorer, save_waiter, tf
from tests.support.model_server_requests import (
    model_service_stub,
    prediction_stub,
    refused,
    request,
    states,
    with_label,
    with_version,
)

from google.protobuf import text_format  # isort: skip
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2  # isort: skip

NAME = "sentiment_classifier"
TOKENS = [[1]]


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Waits for what must come, however slow the machine: only a test that fails waits long."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.05)


def int32(rows: list[list[int]]) -> Any:
    return tf.constant(rows, tf.int32).numpy()


def version_that_answers(stub: Any) -> int:
    return int(stub.Predict(request(NAME, tokens=int32(TOKENS))).model_spec.version.value)


def reload_request(config: str) -> Any:
    return text_format.Parse(
        f"config {{ model_config_list {{ {config} }} }}", model_management_pb2.ReloadConfigRequest()
    )


def model(base: Path, rest: str = "", name: str = NAME) -> str:
    return f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" {rest} }}'


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save_scorer(tmp_path / "scorer", 1)
    return tmp_path / "scorer"


def test_a_new_version_replaces_the_old_one_and_no_request_fails_meanwhile(base: Path) -> None:
    with running_model_server(base) as server, prediction_stub(server) as stub, model_service_stub(server) as service:
        assert version_that_answers(stub) == 1
        save_scorer(base, 2)
        seen = [1]
        while states(service, NAME) != {2: "AVAILABLE", 1: "END"}:
            seen.append(version_that_answers(stub))
            time.sleep(0.01)
        assert version_that_answers(stub) == 2
        assert sorted(seen) == seen
        old = with_version(request(NAME, tokens=int32(TOKENS)), 1)
        words = f"Servable not found for request: Specific({NAME}, 1)"
        assert refused(stub.Predict, old) == (grpc.StatusCode.NOT_FOUND, words)


def test_a_version_that_does_not_load_is_reported_and_the_old_one_goes_on(base: Path) -> None:
    with running_model_server(base) as server, prediction_stub(server) as stub, model_service_stub(server) as service:
        save_broken(base, 2)
        eventually(lambda: states(service, NAME).get(2) == "END", "version 2 has failed")
        assert states(service, NAME) == {2: "END", 1: "AVAILABLE"}
        message = get_model_status_pb2.GetModelStatusRequest()
        message.model_spec.name = NAME
        broken, good = service.GetModelStatus(message).model_version_status
        assert broken.status.error_code != 0
        assert "saved_model.pb" in broken.status.error_message
        assert good.status.error_code == 0
        assert version_that_answers(stub) == 1
        save_scorer(base, 3)
        eventually(lambda: version_that_answers(stub) == 3, "version 3 answers")
        eventually(lambda: states(service, NAME)[1] == "END", "version 1 is unloaded")


def test_a_version_that_loads_at_a_later_try(base: Path) -> None:
    arguments = ["--max_num_load_retries=100000", "--load_retry_interval_micros", "100000"]
    with running_model_server(base, arguments=arguments) as server, model_service_stub(server) as service:
        save_broken(base, 2)
        eventually(lambda: "version 2 does not load" in server.log, "version 2 has failed once")
        assert states(service, NAME) == {2: "LOADING", 1: "AVAILABLE"}
        save_scorer(base, 99)
        (base / "99" / "saved_model.pb").replace(base / "2" / "saved_model.pb")
        shutil.copytree(base / "99" / "variables", base / "2" / "variables")
        shutil.rmtree(base / "99")
        eventually(lambda: states(service, NAME).get(2) == "AVAILABLE", "version 2 is available")


def test_a_version_that_is_taken_away_and_put_back(base: Path) -> None:
    save_scorer(base, 2)
    with running_model_server(base) as server, prediction_stub(server) as stub:
        assert version_that_answers(stub) == 2
        (base / "2").rename(base / "gone")
        eventually(lambda: version_that_answers(stub) == 1, "a rollback to version 1")
        (base / "gone").rename(base / "2")
        eventually(lambda: version_that_answers(stub) == 2, "version 2 again")


def test_a_request_under_way_finishes_on_its_version_before_that_is_unloaded(tmp_path: Path) -> None:
    base, gate = tmp_path / "waiter", tmp_path / "gate"
    save_waiter(base, 1)
    arguments = ["--tensorflow_session_parallelism=4"]
    with (
        running_model_server(base, arguments=arguments) as server,
        prediction_stub(server) as stub,
        model_service_stub(server) as service,
    ):
        under_way = stub.Predict.future(request(NAME, gate=str(gate)))
        eventually(Path(f"{gate}-entered").exists, "the request runs")
        save_waiter(base, 2)
        eventually(lambda: states(service, NAME) == {2: "AVAILABLE", 1: "UNLOADING"}, "version 1 waits to be unloaded")
        late = with_version(request(NAME, gate=str(gate)), 1)
        assert refused(stub.Predict, late)[0] == grpc.StatusCode.NOT_FOUND
        assert not under_way.done()
        for turn in "01":
            Path(f"{gate}{turn}").touch()
        reply = under_way.result()
        assert (reply.model_spec.version.value, list(reply.outputs["version"].int_val)) == (1, [1])
        eventually(lambda: states(service, NAME) == {2: "AVAILABLE", 1: "END"}, "version 1 is unloaded")


def test_policies_and_labels_by_reload(base: Path) -> None:
    save_scorer(base, 2)
    with running_model_server(base) as server, prediction_stub(server) as stub, model_service_stub(server) as service:
        ask = request(NAME, tokens=int32(TOKENS))
        labels = "version_labels { key: 'stable' value: 1 } version_labels { key: 'canary' value: 2 }"
        everything = "model_version_policy { all {} }"
        assert refused(service.HandleReloadConfigRequest, reload_request(model(base, everything + labels))) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            f"Request to assign label to version 1 of model {NAME}, which is not currently available for inference",
        )
        service.HandleReloadConfigRequest(reload_request(model(base, everything)))
        eventually(lambda: states(service, NAME) == {1: "AVAILABLE", 2: "AVAILABLE"}, "both versions")
        service.HandleReloadConfigRequest(reload_request(model(base, everything + labels)))
        assert stub.Predict(with_label(ask, "stable")).model_spec.version.value == 1
        assert stub.Predict(with_label(ask, "canary")).model_spec.version.value == 2
        promoted = everything + labels.replace("value: 1", "value: 2")
        service.HandleReloadConfigRequest(reload_request(model(base, promoted)))
        assert stub.Predict(with_label(ask, "stable")).model_spec.version.value == 2
        one = "model_version_policy { specific { versions: 1 } }"
        service.HandleReloadConfigRequest(reload_request(model(base, one)))
        eventually(lambda: states(service, NAME) == {1: "AVAILABLE", 2: "END"}, "version 1 alone")
        assert refused(stub.Predict, with_label(ask, "stable"))[0] == grpc.StatusCode.INVALID_ARGUMENT


def test_models_come_and_go_by_reload(base: Path) -> None:
    with running_model_server(base) as server, prediction_stub(server) as stub, model_service_stub(server) as service:
        service.HandleReloadConfigRequest(reload_request(model(base, name="other")))
        assert states(service, "other") == {1: "AVAILABLE"}
        assert stub.Predict(request("other", tokens=int32(TOKENS))).model_spec.name == "other"
        eventually(lambda: states(service, NAME) == {1: "END"}, "the first model is gone")
        words = f"Servable not found for request: Latest({NAME})"
        assert refused(stub.Predict, request(NAME, tokens=int32(TOKENS))) == (grpc.StatusCode.NOT_FOUND, words)


def refusals(base: Path) -> Iterator[tuple[str, str]]:
    yield model(base) + model(base), f"Illegal to list model {NAME} multiple times in config list"
    relative = model(Path("here"))
    yield relative, f"Expected model {NAME} to have an absolute path or URI; got base_path()=here"
    platform = model(base).replace('"tensorflow"', '"pytorch"')
    yield platform, f"Model {NAME} requests unsupported platform pytorch"


def test_a_wrong_configuration_is_refused_and_the_old_one_goes_on(base: Path) -> None:
    with running_model_server(base) as server, prediction_stub(server) as stub, model_service_stub(server) as service:
        for config, words in refusals(base):
            got = refused(service.HandleReloadConfigRequest, reload_request(config))
            assert got == (grpc.StatusCode.INVALID_ARGUMENT, words)
        empty = model_management_pb2.ReloadConfigRequest()
        assert refused(service.HandleReloadConfigRequest, empty)[0] == grpc.StatusCode.INVALID_ARGUMENT
        assert version_that_answers(stub) == 1


def test_a_configuration_file_with_labels_that_is_polled(base: Path) -> None:
    save_scorer(base, 2)
    config = base.parent / "config"
    template = "model_config_list {{ {} }}"
    policy = "model_version_policy { latest { num_versions: 2 } }"
    config.write_text(template.format(model(base, policy + "version_labels { key: 'stable' value: 1 }")))
    arguments = ["--model_config_file_poll_wait_seconds=0.2", "--allow_version_labels_for_unavailable_models"]
    with running_model_server(None, config_file=config, arguments=arguments) as server, prediction_stub(server) as stub:
        ask = with_label(request(NAME, tokens=int32(TOKENS)), "stable")
        assert stub.Predict(ask).model_spec.version.value == 1
        config.write_text(template.format(model(base, policy + "version_labels { key: 'stable' value: 2 }")))
        eventually(lambda: stub.Predict(ask).model_spec.version.value == 2, "the label moved")


def test_it_waits_for_a_first_version_and_can_be_stopped_meanwhile(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "deploy.local.model_server", f"--port={port}", f"--model_base_path={tmp_path}/m"]
    command += ["--file_system_poll_wait_seconds=0.2"]
    for there in (False, True):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            waits = f"model server: waiting: cannot read {tmp_path}/m, the base path of default: No such file or directory\n"
            assert process.stderr.readline() == waits
            if there:
                save_scorer(tmp_path / "m", 4)
                assert process.stdout.readline().endswith("serves default version 4\n")
            process.terminate()
            assert process.wait(60) == 0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.local.model_server", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_port_that_is_taken_is_one_sentence_and_a_code(base: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run(f"--port={port}", f"--model_base_path={base}")
        assert (ended.returncode, ended.stdout) == (69, "")
        assert ended.stderr.startswith(f"model server: cannot listen on 127.0.0.1:{port} (")
        assert ended.stderr.endswith("stop what uses that port, or choose another with --port.\n")
        assert ended.stderr.count("\n") == 1


def test_what_cannot_be_started_is_one_sentence_and_a_code(base: Path) -> None:
    assert run("--help").returncode == 0
    unknown = run("--no_such_flag=1")
    assert (unknown.returncode, "Unknown option" in unknown.stderr) == (2, True)
    (port,) = free_ports(1)
    nothing = run(f"--port={port}")
    words = "model server: give --model_base_path or --model_config_file.\n"
    assert (nothing.returncode, nothing.stderr) == (2, words)
    missing = run(f"--port={port}", "--model_config_file", str(base / "none"))
    assert missing.returncode == 78
    assert missing.stderr == f"model server: cannot read --model_config_file {base}/none: No such file or directory.\n"
    broken = base.parent / "broken"
    save_broken(broken, 1)
    ended = run(f"--port={port}", f"--model_base_path={broken}", "--max_num_load_retries=0")
    assert ended.returncode == 65
    assert "1 model(s) did not become available: {{{name: default version: 1} due to error:" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_sigterm_lets_a_request_under_way_finish(tmp_path: Path) -> None:
    base, gate = tmp_path / "waiter", tmp_path / "gate"
    save_waiter(base, 1)
    with running_model_server(base) as server, prediction_stub(server) as stub:
        under_way = stub.Predict.future(request(NAME, gate=str(gate)))
        eventually(Path(f"{gate}-entered").exists, "the request runs")
        server.process.terminate()
        eventually(lambda: refuses_connections(server.grpc_target), "the server takes no more connections")
        for turn in "01":
            Path(f"{gate}{turn}").touch()
        assert list(under_way.result().outputs["version"].int_val) == [1]
        assert server.process.wait(60) == 0


def test_sigterm_does_not_wait_for_ever(tmp_path: Path) -> None:
    save_waiter(tmp_path / "waiter", 1)
    with running_model_server(tmp_path / "waiter") as server, prediction_stub(server) as stub:
        under_way = stub.Predict.future(request(NAME, gate=str(tmp_path / "gate")))
        eventually((tmp_path / "gate-entered").exists, "the request runs")
        server.process.terminate()
        assert server.process.wait(60) == 0
        assert under_way.exception().code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


def refuses_connections(target: str) -> bool:
    host, port = target.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return True
    return False
