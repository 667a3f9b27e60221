"""The model server's configuration: TensorFlow Serving's `ModelServerConfig`, from flags, a text file or a request."""

from __future__ import annotations

from pathlib import Path

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from deploy.local.model_server.option_files import read_message
from deploy.local.model_server.status import invalid_argument

_PLATFORM = "tensorflow"


def single_model(name: str, base_path: Path) -> ModelServerConfig:
    """The configuration that `--model_name` and `--model_base_path` stand for."""
    config = ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=str(base_path), model_platform=_PLATFORM)
    return config


def read_config(path: Path) -> ModelServerConfig:
    """The configuration in a `--model_config_file`, a text protobuf.

    Raises OSError when it cannot be read, StatusError (INVALID_ARGUMENT) when it is not one.
    """
    return read_message(path, ModelServerConfig())


def check_config(config: ModelServerConfig) -> None:
    """Raises INVALID_ARGUMENT for what TensorFlow Serving refuses (model_servers/server_core.cc)."""
    if config.WhichOneof("config") != "model_config_list":
        raise invalid_argument(
            "ServerModelConfig type not supported by HandleReloadConfigRequest."
            " Only ModelConfigList is currently supported"
        )
    names: set[str] = set()
    for model in config.model_config_list.config:
        if model.name in names:
            raise invalid_argument(f"Illegal to list model {model.name} multiple times in config list")
        names.add(model.name)
        if not Path(model.base_path).is_absolute():
            raise invalid_argument(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )
        if not model.model_platform:
            raise invalid_argument(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor"
                f" ModelServerConfig::model_platform, model name is {model.name}"
            )
        if model.model_platform != _PLATFORM:
            raise invalid_argument(f"Model {model.name} requests unsupported platform {model.model_platform}")
