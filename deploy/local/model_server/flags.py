"""The flags: TensorFlow Serving's own names and defaults (model_servers/main.cc), and `--bind_address`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


def _threads() -> int:
    return 4 * (os.cpu_count() or 1)


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Flags of TensorFlow Serving that this server does not know are refused, except those said to be ignored."""

    port: int = 8500
    """Port of the gRPC API; 0 switches it off."""

    rest_api_port: int = 0
    """Port of the REST API; 0 switches it off."""

    bind_address: str = "127.0.0.1"
    """Address to listen on; TensorFlow Serving listens on all of them."""

    model_name: str = "default"
    """Name of the model; ignored with --model_config_file."""

    model_base_path: Path | None = None
    """Folder with one numbered folder for each version; ignored with --model_config_file."""

    model_config_file: Path | None = None
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

    enable_batching: bool = False
    """Taken and ignored: requests run as they come."""

    batching_parameters_file: Path | None = None
    """Taken and ignored."""
