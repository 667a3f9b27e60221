"""The whole server: the models, the gRPC server and the REST server, started and stopped together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from deploy.local.model_server.catalogue import Catalogue
from deploy.local.model_server.config import read_config, single_model
from deploy.local.model_server.exits import Exit, StartError
from deploy.local.model_server.flags import Flags
from deploy.local.model_server.grpc_api import grpc_server
from deploy.local.model_server.manager import Manager, Policy
from deploy.local.model_server.monitoring import Monitoring
from deploy.local.model_server.option_files import monitoring_path, read_option, tls_credentials
from deploy.local.model_server.rest_api import RestServer
from deploy.local.model_server.servable import Servable
from deploy.local.model_server.status import StatusError

_log = logging.getLogger(__name__)


class Serving:
    """One model server. `load`, then `listen`; `close` at the end, whatever happened."""

    def __init__(self, flags: Flags) -> None:
        """Reads the files that the flags name. Raises StartError."""
        self._flags = flags
        self._config = _config(flags)
        self._credentials = tls_credentials(flags.ssl_config_file) if flags.ssl_config_file else None
        self._metrics_path = monitoring_path(flags.monitoring_config_file) if flags.monitoring_config_file else None
        self._monitoring = Monitoring()
        self._stopping = threading.Event()
        self._grpc: grpc.Server | None = None
        self._rest: RestServer | None = None
        self.catalogue = Catalogue()
        self._manager = Manager(
            self.catalogue,
            lambda path: Servable(
                path, parallelism=flags.tensorflow_session_parallelism, tags=flags.saved_model_tags.split(",")
            ),
            Policy(
                file_system_poll_wait_seconds=flags.file_system_poll_wait_seconds,
                max_num_load_retries=flags.max_num_load_retries,
                load_retry_interval_seconds=flags.load_retry_interval_micros / 1e6,
                allow_version_labels_for_unavailable_models=flags.allow_version_labels_for_unavailable_models,
            ),
        )

    def load(self, *, keep_waiting: Callable[[], bool]) -> None:
        """Loads what the flags name; returns when every model is available, however long that takes, or when
        `keep_waiting` says no. Raises StartError."""
        try:
            self._manager.start(self._config, keep_waiting=keep_waiting)
        except StatusError as error:
            if error.code == grpc.StatusCode.UNKNOWN:
                raise StartError(Exit.MODEL, error.message) from error
            raise StartError(Exit.CONFIG, f"the configuration is refused: {error.message}") from error

    def listen(self) -> None:
        """Opens the ports. Raises StartError."""
        flags = self._flags
        if flags.port or flags.grpc_socket_path:
            self._grpc = self._listen_grpc()
        if flags.rest_api_port:
            self._rest = self._listen_rest()
        if flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
            threading.Thread(target=self._watch_config, args=[flags.model_config_file], daemon=True).start()

    def close(self, grace_seconds: float) -> None:
        """Takes no new requests, and gives those that run up to `grace_seconds`."""
        self._stopping.set()
        stopped = self._grpc.stop(grace_seconds) if self._grpc is not None else None
        if self._rest is not None:
            self._rest.close(grace_seconds)
        if stopped is not None:
            stopped.wait()
        self._manager.close(grace_seconds)

    def _listen_grpc(self) -> grpc.Server:
        flags = self._flags
        try:
            server = grpc_server(
                self.catalogue,
                self._manager,
                self._monitoring,
                threads=flags.grpc_max_threads,
                as_content=flags.enable_serialization_as_tensor_content,
                arguments=flags.grpc_channel_arguments,
            )
        except ValueError as error:
            raise StartError(Exit.USAGE, f"--grpc_channel_arguments: {error}.") from error
        if flags.port:
            self._bind(server, f"{flags.bind_address}:{flags.port}", "--port")
        if flags.grpc_socket_path:
            self._bind(server, f"unix:{flags.grpc_socket_path}", "--grpc_socket_path")
        server.start()
        return server

    def _bind(self, server: grpc.Server, address: str, flag: str) -> None:
        try:
            if self._credentials is None:
                server.add_insecure_port(address)
            else:
                server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            tls = ", or what --ssl_config_file holds is no key with its certificate" if self._credentials else ""
            raise StartError(
                Exit.UNAVAILABLE,
                f"cannot listen on {address}: something else does{tls}. Choose another with {flag}.",
            ) from error

    def _listen_rest(self) -> RestServer:
        flags = self._flags
        try:
            server = RestServer(
                self.catalogue,
                self._monitoring,
                flags.bind_address,
                flags.rest_api_port,
                metrics_path=self._metrics_path,
            )
        except OSError as error:
            raise StartError(
                Exit.UNAVAILABLE,
                f"cannot listen on {flags.bind_address}:{flags.rest_api_port}: stop what uses that port, or choose"
                " another with --rest_api_port.",
            ) from error
        threading.Thread(target=server.serve_forever, name="rest", daemon=True).start()
        return server

    def _watch_config(self, path: Path) -> None:
        while not self._stopping.wait(self._flags.model_config_file_poll_wait_seconds):
            try:
                self._manager.reload(read_config(path), keep_waiting=lambda: not self._stopping.is_set())
            except (StatusError, OSError) as error:
                _log.warning("%s was not taken: %s", path, error)


def _config(flags: Flags) -> ModelServerConfig:
    if flags.model_config_file is None:
        if flags.model_base_path is None:
            raise StartError(Exit.USAGE, "give --model_base_path or --model_config_file.")
        return single_model(flags.model_name, flags.model_base_path.absolute())
    return read_option("--model_config_file", flags.model_config_file, ModelServerConfig())
