"""The files that flags name, each a text protobuf as TensorFlow Serving reads it (config/ in its source)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from deploy.local.model_server.exits import Exit, StartError
from deploy.local.model_server.monitoring import DEFAULT_PATH
from deploy.local.model_server.status import StatusError, invalid_argument

M = TypeVar("M", bound=Message)

# tensorflow-serving-api has the classes of neither. Text in, text names only: the numbers go nowhere.
_FILE = """
    name: "option_files.proto"  package: "inferry.option_files"  syntax: "proto3"
    message_type { name: "PrometheusConfig"
        field { name: "enable"             number: 1  label: LABEL_OPTIONAL  type: TYPE_BOOL }
        field { name: "path"               number: 2  label: LABEL_OPTIONAL  type: TYPE_STRING } }
    message_type { name: "MonitoringConfig"
        field { name: "prometheus_config"  number: 1  label: LABEL_OPTIONAL
                type: TYPE_MESSAGE  type_name: ".inferry.option_files.PrometheusConfig" } }
    message_type { name: "SSLConfig"
        field { name: "server_key"         number: 1  label: LABEL_OPTIONAL  type: TYPE_STRING }
        field { name: "server_cert"        number: 2  label: LABEL_OPTIONAL  type: TYPE_STRING }
        field { name: "custom_ca"          number: 3  label: LABEL_OPTIONAL  type: TYPE_STRING }
        field { name: "client_verify"      number: 4  label: LABEL_OPTIONAL  type: TYPE_BOOL } }
"""
_MESSAGES = DescriptorPool()
_MESSAGES.Add(text_format.Parse(_FILE, FileDescriptorProto()))


def read_message(path: Path, message: M) -> M:
    """`message`, filled from a file. Raises OSError, or StatusError (INVALID_ARGUMENT) when the file holds another."""
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        name = message.DESCRIPTOR.name
        raise invalid_argument(f"{path} is not a {name} in text form: {error}") from error


def read_option(flag: str, path: Path, message: M) -> M:
    """As `read_message`, for the file that a flag names. Raises StartError."""
    try:
        return read_message(path, message)
    except OSError as error:
        raise StartError(Exit.CONFIG, f"cannot read {flag} {path}: {error.strerror}.") from error
    except StatusError as error:
        raise StartError(Exit.CONFIG, f"the configuration is refused: {error.message}") from error


def monitoring_path(path: Path) -> str | None:
    """Where a `--monitoring_config_file` wants the metrics, or None where it does not. Raises StartError."""
    config = read_option("--monitoring_config_file", path, _new("MonitoringConfig")).prometheus_config
    return (config.path or DEFAULT_PATH) if config.enable else None


def tls_credentials(path: Path) -> grpc.ServerCredentials:
    """What a `--ssl_config_file` says (model_servers/server.cc, BuildServerCredentials). Raises StartError."""
    config = read_option("--ssl_config_file", path, _new("SSLConfig"))
    if not (config.server_key and config.server_cert):
        raise StartError(Exit.CONFIG, f"{path} needs server_key and server_cert: the PEM texts, not paths to them.")
    if config.client_verify and not config.custom_ca:
        raise StartError(Exit.CONFIG, f"{path} has client_verify, and no custom_ca to verify clients by.")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )


def _new(name: str) -> Any:
    """An empty message. Its class is made from the description above, so no type checker knows its fields."""
    return GetMessageClass(_MESSAGES.FindMessageTypeByName(f"inferry.option_files.{name}"))()
