"""How the client proves who it is and whom it trusts, from the settings; and what its failed handshakes mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError

from worker.security import KafkaSettings, TokenSource

_ADVICE = (
    # librdkafka has OpenSSL's words and some of its own in one text; the first that fits counts.
    (
        ("hostname mismatch", "ip address mismatch"),
        "Reach the brokers by a name that their certificate holds: see bootstrap and their advertised.listeners",
    ),
    (("certificate has expired",), "Renew the brokers' certificate, and check this machine's clock"),
    (
        ("certificate verify failed",),
        "The certificate has expired, or kafka-ssl-cafile does not hold the authorities that sign the brokers' certificates",
    ),
    (
        ("alert", "bad certificate"),
        "Set kafka-ssl-certfile and kafka-ssl-keyfile to a certificate that the brokers trust",
    ),
    (
        ("wrong version number", "plaintext"),
        "What listens there speaks no TLS: check kafka-security-protocol and the port",
    ),
)


def security_options(kafka: KafkaSettings) -> dict[str, Any]:
    """The client's options. Secrets are read from their files now. Raises ValueError where one cannot be read any more."""
    tokens = kafka.oauth_tokens()
    given = {
        "sasl.mechanism": kafka.kafka_sasl_mechanism,
        "sasl.username": kafka.kafka_sasl_username,
        "sasl.password": kafka.sasl_password(),
        "ssl.ca.location": kafka.kafka_ssl_cafile,
        "ssl.certificate.location": kafka.kafka_ssl_certfile,
        "ssl.key.location": kafka.kafka_ssl_keyfile or kafka.kafka_ssl_certfile,
        "ssl.key.password": kafka.ssl_key_password(),
        "oauth_cb": _asking(tokens) if tokens else None,
    }
    return {
        "security.protocol": kafka.kafka_security_protocol,
        **{name: value for name, value in given.items() if value},
    }


def _asking(tokens: TokenSource) -> Callable[[str], tuple[str, float]]:
    def ask(_config: str) -> tuple[str, float]:
        """The token and when it ends, in seconds since 1970: the client asks again before that."""
        token = tokens.token()
        return token.value, token.expires_at

    return ask


def tls_refusal(error: KafkaError) -> str | None:
    """Why waiting mends nothing, and what does; None for another failure and for a connection that was merely cut."""
    if error.code() != KafkaError._SSL:
        return None
    text = error.str()
    for words, advice in _ADVICE:
        if any(word in text.lower() for word in words):
            return f"{' '.join(text.split())}. {advice}"
    return None
