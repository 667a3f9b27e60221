"""How the model server is reached, and what to assume of a model that does not describe itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worker.errors import ConfigError
from worker.serving.versions import NEWEST


@dataclass(frozen=True)
class Options:
    """Everything `client.GrpcModel` is told. Where a model has a card, what is left empty here comes from it."""

    target: str = "localhost:8500"
    """gRPC address, host:port."""
    model: str = "sentiment_classifier"
    signature: str = "serving_default"
    version: str = NEWEST
    """`newest`, a number, or a version label."""
    request_timeout_seconds: float = 10.0
    max_requests: int = 16
    """Predict calls in flight at most; fewer while the server is overloaded."""
    max_request_bytes: int = 64 * 1024 * 1024
    """A larger request is refused before it is sent, as the server would refuse it."""
    poll_seconds: float = 2.0
    """How often to ask which versions are served."""

    input_name: str = ""
    output_name: str = ""
    """Empty: the signature's only one."""
    labels: tuple[str, ...] = ()
    threshold: float | None = None
    max_tokens: int | None = None
    logits: bool = False
    """The outputs are logits, so that one output may lie outside [0, 1]."""
    vocabulary_file: str = ""
    """For a model without a `vocabulary` signature: tfds .subwords or BERT vocab.txt."""
    padding_id: int = 0
    """For a model without a card."""

    tls: bool = False
    """Whether to use TLS; `ca_file` says so, too."""
    ca_file: str = ""
    """PEM file of the authorities that sign the server's certificate. Empty: those that the machine trusts."""
    cert_file: str = ""
    key_file: str = ""
    """PEM files of our own certificate and its key, which may stand in one."""
    server_name: str = ""
    """The name that the server's certificate must hold. Empty: the target's."""
    token_file: str = ""
    """File of a bearer token that goes with each call."""


def read_file(path: str, what: str) -> bytes:
    """The bytes of a file that the settings name. Raises ConfigError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{what} {path} cannot be read: {error.strerror or error}.") from error
