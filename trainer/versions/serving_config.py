"""TensorFlow Serving's configuration file: which models and versions are served, and what labels they bear.

A text protobuf, `ModelServerConfig` of tensorflow_serving/config/model_server_config.proto."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from google.protobuf import text_format

from protos.serving.model_config_pb2 import ModelConfig, ModelServerConfig, ServableVersionPolicy
from trainer.errors import DataError, ExportError

PLATFORM = "tensorflow"


def read(path: Path) -> ModelServerConfig:
    """The configuration in a file; an empty one where there is no file.

    Raises DataError where it is not one, or has settings that would be lost in writing it again."""
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), ModelServerConfig())
    except FileNotFoundError:
        return ModelServerConfig()
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise DataError(f"{path} is not a model configuration that can be changed here: {error}") from error


def labels(config: ModelServerConfig, model: str) -> dict[str, int]:
    """The model's labels, and the version of each."""
    found = [each for each in config.model_config_list.config if each.name == model]
    return dict(found[0].version_labels) if found else {}


def with_label(config: ModelServerConfig, model: str, base_path: str, label: str, version: int) -> ModelServerConfig:
    """A copy in which `label` points at `version`, and that version is served.

    `base_path` is the model's folder as the server sees it. Other models and labels stay as they are. By default a server
    serves the newest version alone; a label needs its own to be there too, so the model is set to serve all."""
    changed = ModelServerConfig()
    changed.CopyFrom(config)
    entry = _entry(changed, model)
    entry.base_path = base_path
    entry.model_platform = entry.model_platform or PLATFORM
    entry.version_labels[label] = version
    policy = entry.model_version_policy
    if policy.WhichOneof("policy_choice") == "specific":
        if version not in policy.specific.versions:
            policy.specific.versions.append(version)
    else:
        policy.all.CopyFrom(ServableVersionPolicy.All())
    return changed


def with_labels(config: ModelServerConfig, model: str, labels: Mapping[str, int]) -> ModelServerConfig:
    """A copy in which the model has these labels and no others."""
    changed = ModelServerConfig()
    changed.CopyFrom(config)
    entry = _entry(changed, model)
    entry.version_labels.clear()
    entry.version_labels.update(labels)
    return changed


def _entry(config: ModelServerConfig, model: str) -> ModelConfig:
    for entry in config.model_config_list.config:
        if entry.name == model:
            return entry
    return config.model_config_list.config.add(name=model)


def write(config: ModelServerConfig, path: Path) -> None:
    """Writes the file in one step, so that a server that polls it never reads half. Raises ExportError."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text_format.MessageToString(config), encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error}") from error
