"""The model server takes every flag of TensorFlow Serving's releases from 2.0 on, and no other."""

from __future__ import annotations

import pytest
from cyclopts import UnknownOptionError

from deploy.local.model_server.__main__ import app
from deploy.local.model_server.flags import Flags, FlagsWithoutEffect

# tensorflow_serving/model_servers/main.cc from r2.0 to master, by the type of the value
BOOLEANS = [
    "allow_version_labels_for_unavailable_models",
    "enable_batching",
    "enable_grpc_healthcheck_service",
    "enable_model_warmup",
    "enable_per_model_batching_parameters",
    "enable_profiler",
    "enable_serialization_as_tensor_content",
    "enable_signature_method_name_check",
    "flush_filesystem_caches",
    "prefer_tflite_model",
    "remove_unused_fields_from_bundle_metagraph",
    "rest_api_enable_cors_headers",
    "rest_api_enable_cors_support",
    "skip_initialize_tpu",
    "use_alts_credentials",
    "use_tflite_model",
    "version",
    "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
]
NUMBERS = [
    "file_system_poll_wait_seconds",
    "grpc_max_threads",
    "load_retry_interval_micros",
    "max_num_load_retries",
    "model_config_file_poll_wait_seconds",
    "num_load_threads",
    "num_request_iterations_for_warmup",
    "num_tflite_interpreters",
    "num_tflite_interpreters_per_pool",
    "num_tflite_pools",
    "num_unload_threads",
    "per_process_gpu_memory_fraction",
    "port",
    "rest_api_num_threads",
    "rest_api_port",
    "rest_api_timeout_in_ms",
    "tensorflow_inter_op_parallelism",
    "tensorflow_intra_op_parallelism",
    "tensorflow_session_parallelism",
]
TEXTS = [
    "batching_parameters_file",
    "grpc_channel_arguments",
    "grpc_socket_path",
    "mixed_precision",
    "model_base_path",
    "model_config_file",
    "model_name",
    "monitoring_config_file",
    "platform_config_file",
    "saved_model_tags",
    "ssl_config_file",
    "tensorflow_session_config_file",
    "thread_pool_factory_config_file",
]


def parsed(*arguments: str) -> tuple[Flags, FlagsWithoutEffect]:
    _, bound, _ = app.parse_args(list(arguments), exit_on_error=False, print_error=False)
    bound.apply_defaults()
    flags, without_effect = bound.args
    return flags, without_effect


@pytest.mark.parametrize("value", ["", "=true", "=false", "=1", "=0"])
def test_every_switch_is_taken(value: str) -> None:
    parsed(*(f"--{name}{value}" for name in BOOLEANS))


def test_every_number_is_taken() -> None:
    parsed(*(f"--{name}=1" for name in NUMBERS))


@pytest.mark.parametrize("value", ["some", ""])
def test_every_text_is_taken(value: str) -> None:
    parsed(*(f"--{name}={value}" for name in TEXTS))


@pytest.mark.parametrize("name", ["no_such_flag", "rest_api_timeout"])
def test_what_tensorflow_serving_does_not_know_is_refused(name: str) -> None:
    with pytest.raises(UnknownOptionError, match=name):
        parsed(f"--{name}=1")


def test_nothing_is_taken_that_tensorflow_serving_does_not_know() -> None:
    ours = {*Flags.__dataclass_fields__, *FlagsWithoutEffect.__dataclass_fields__}
    assert ours == {*BOOLEANS, *NUMBERS, *TEXTS, "bind_address"}


def test_flags_without_effect_are_told_when_given_whatever_their_value() -> None:
    _, without_effect = parsed("--port=1", "--enable_profiler=false", "--rest_api_timeout_in_ms=0")
    assert without_effect.given() == ["--rest_api_timeout_in_ms", "--enable_profiler"]


def test_an_empty_file_name_means_no_file() -> None:
    flags, _ = parsed("--monitoring_config_file=", "--ssl_config_file=", "--model_config_file=")
    assert flags == Flags()
