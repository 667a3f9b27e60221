"""How the client proves who it is and whom it trusts, from the settings: for every client of every program."""

from __future__ import annotations

from typing import Any

from kafka.net.sasl.oauth import AbstractTokenProvider

from worker.kafka.drivers.kafka_python.errors import TokenAway
from worker.security import KafkaSettings, TokenSource, TokenUnavailable


def security_options(kafka: KafkaSettings) -> dict[str, Any]:
    """The client's options. Secrets are read from their files now. Raises Unusable where one cannot be read any more."""
    tokens = kafka.oauth_tokens
    return {
        "security_protocol": kafka.kafka_security_protocol,
        "sasl_mechanism": kafka.kafka_sasl_mechanism or None,
        "sasl_plain_username": kafka.kafka_sasl_username or None,
        "sasl_plain_password": kafka.sasl_password() or None,
        "sasl_oauth_token_provider": _TokenProvider(tokens) if tokens else None,
        "ssl_cafile": kafka.kafka_ssl_cafile or None,
        "ssl_certfile": kafka.kafka_ssl_certfile or None,
        "ssl_keyfile": kafka.kafka_ssl_keyfile or None,
        "ssl_password": kafka.ssl_key_password() or None,
    }


class _TokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # kafka-python ships no types
    def __init__(self, tokens: TokenSource) -> None:
        super().__init__()
        self._tokens = tokens

    def token(self) -> str:
        """Asked for at each connection, and again before the broker ends the session (KIP-368). Raises TokenAway."""
        try:
            return self._tokens.token().value
        except TokenUnavailable as error:
            raise TokenAway(str(error)) from error
