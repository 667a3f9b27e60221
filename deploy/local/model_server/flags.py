"""The flags: TensorFlow Serving's own names and defaults (model_servers/main.cc), and `--bind_address`.

Those of every release from 2.0 on are taken, so that start scripts work as they are: `Flags` have their effect here,
`FlagsWithoutEffect` have none. What TensorFlow Serving does not know either is refused.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token


def _threads() -> int:
    return 4 * (os.cpu_count() or 1)


def _path_or_none(_: object, tokens: Sequence[Token]) -> Path | None:
    return Path(tokens[0].value) if tokens[0].value else None


File = Annotated[Path | None, Parameter(converter=_path_or_none, n_tokens=1)]
"""A file or folder; an empty value means none, as in TensorFlow Serving."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The flags that have an effect."""

    port: int = 8500
    """Port of the gRPC API; 0 switches it off."""

    grpc_socket_path: str = ""
    """Path of a UNIX socket for the gRPC API, beside --port."""

    rest_api_port: int = 0
    """Port of the REST API; 0 switches it off."""

    bind_address: str = "127.0.0.1"
    """Address to listen on; TensorFlow Serving listens on all of them."""

    model_name: str = "default"
    """Name of the model; ignored with --model_config_file."""

    model_base_path: File = None
    """Folder with one numbered folder for each version; ignored with --model_config_file."""

    model_config_file: File = None
    """A ModelServerConfig as a text protobuf: several models, version policies, version labels."""

    model_config_file_poll_wait_seconds: float = 0.0
    """Read --model_config_file again this often; 0 never does."""

    file_system_poll_wait_seconds: float = 1.0
    """Look for new versions this often; 0 looks once. Fractions work here, unlike in TensorFlow Serving."""

    max_num_load_retries: int = 5
    """How often to try again to load a version that does not load."""

    load_retry_interval_micros: int = 60_000_000
    """How long to wait before each of those tries."""

    allow_version_labels_for_unavailable_models: bool = False
    """Allow a label that is not in use yet to name a version that is not available yet. A configuration file that has
    labels needs it at start."""

    enable_serialization_as_tensor_content: bool = False
    """Send predictions as tensor_content instead of float_val and its like."""

    tensorflow_session_parallelism: int = 0
    """Threads that run a model; 0 takes one for each core."""

    grpc_max_threads: int = field(default_factory=_threads)
    """Threads that answer gRPC requests; four for each core unless set."""

    grpc_channel_arguments: str = ""
    """Arguments of the gRPC server, with commas between: grpc.max_connection_age_ms=2000,…"""

    saved_model_tags: str = "serve"
    """Tags of the graph to load from a SavedModel, with commas between."""

    monitoring_config_file: File = None
    """A MonitoringConfig as a text protobuf: whether the REST port serves metrics for Prometheus, and under which path."""

    ssl_config_file: File = None
    """An SSLConfig as a text protobuf: key, certificate and authorities for gRPC over TLS. REST stays without."""

    use_alts_credentials: bool = False
    """Refused: ALTS works on Google's cloud only."""

    version: bool = False
    """Print the version and exit."""


@dataclass(frozen=True, kw_only=True)
class FlagsWithoutEffect:
    """The flags that are taken for the sake of scripts and change nothing."""

    # Requests run as they come, one thread each.
    enable_batching: bool | None = None
    batching_parameters_file: str | None = None
    enable_per_model_batching_parameters: bool | None = None
    rest_api_num_threads: int | None = None
    rest_api_timeout_in_ms: int | None = None
    thread_pool_factory_config_file: str | None = None

    # REST and gRPC have no more services than the models need.
    rest_api_enable_cors_support: bool | None = None
    rest_api_enable_cors_headers: bool | None = None
    enable_grpc_healthcheck_service: bool | None = None
    enable_profiler: bool | None = None

    # Versions are loaded and unloaded one after the other, and without warm-up.
    num_load_threads: int | None = None
    num_unload_threads: int | None = None
    flush_filesystem_caches: bool | None = None
    enable_model_warmup: bool | None = None
    num_request_iterations_for_warmup: int | None = None
    remove_unused_fields_from_bundle_metagraph: bool | None = None
    enable_signature_method_name_check: bool | None = None

    # A session is that of the tensorflow package on a CPU.
    tensorflow_session_config_file: str | None = None
    tensorflow_intra_op_parallelism: int | None = None
    tensorflow_inter_op_parallelism: int | None = None
    platform_config_file: str | None = None
    per_process_gpu_memory_fraction: float | None = None
    mixed_precision: str | None = None
    skip_initialize_tpu: bool | None = None
    xla_cpu_compilation_enabled: bool | None = None
    xla_gpu_compilation_enabled: bool | None = None

    # There is no TensorFlow Lite.
    prefer_tflite_model: bool | None = None
    use_tflite_model: bool | None = None
    num_tflite_pools: int | None = None
    num_tflite_interpreters_per_pool: int | None = None
    num_tflite_interpreters: int | None = None

    def given(self) -> list[str]:
        """The flags that were given, as they are written."""
        return [f"--{each.name}" for each in fields(self) if getattr(self, each.name) is not None]
