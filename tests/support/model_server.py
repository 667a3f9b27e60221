"""The real model server as a process of the test's own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.ports import free_ports
from deploy.local.processes import TETHER

_STOP_SECONDS = 20


@dataclass(frozen=True)
class ServerAddress:
    """Where a model server listens."""

    grpc_target: str
    rest_url: str


@dataclass(frozen=True)
class ServerHandle(ServerAddress):
    """A running model server of one's own."""

    process: subprocess.Popen[str]
    log_path: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """What it wrote to standard error so far."""
        return self.log_path.read_text()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(_STOP_SECONDS)


@contextlib.contextmanager
def running_model_server(
    base_path: Path | None,
    *,
    model_name: str = "sentiment_classifier",
    config_file: Path | None = None,
    poll_seconds: float = 0.2,
    ports: tuple[int, int] | None = None,
    arguments: Sequence[str] = (),
) -> Iterator[ServerHandle]:
    """Starts a model server, waits until it is ready, and stops it at the end.

    With `ports` (gRPC, REST) a server can be started again where one was before. A version that does not load is
    given up at once unless `arguments` say otherwise.
    """
    grpc_port, rest_port = ports or free_ports(2)
    command = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid())]  # so that it ends when this process is killed
    command += [sys.executable, "-m", "deploy.local.model_server"]
    command += [f"--port={grpc_port}", f"--rest_api_port={rest_port}"]
    command += [f"--file_system_poll_wait_seconds={poll_seconds}", f"--model_name={model_name}"]
    command += [f"--model_base_path={base_path}"] if base_path else []
    command += [f"--model_config_file={config_file}"] if config_file else []
    command += arguments if any("retries" in each for each in arguments) else ["--max_num_load_retries=0", *arguments]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=_root(), env=os.environ)
        handle = ServerHandle(f"127.0.0.1:{grpc_port}", f"http://127.0.0.1:{rest_port}", process, Path(log.name))
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "ready" in line, f"the model server did not start: {line}{handle.log}"
            yield handle
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                handle.kill()
            if process.stdout is not None:
                process.stdout.close()


def _root() -> Path:
    return Path(__file__).parents[2]
