"""How the client proves who it is and whom it trusts, from the settings; and what its failed handshakes mean."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError

from worker.security import KafkaSettings, TokenSource, TokenUnavailable

RETRY_SECONDS = 30.0
"""After a token could not be had, about when it is asked for again."""

_UNVERIFIED = (
    "the brokers' certificate cannot be verified. Set kafka-ssl-cafile to the authorities that sign it, renew it where it "
    "has expired, and reach the brokers by a name that it holds: see bootstrap and their advertised.listeners"
)
"""librdkafka does not tell these apart."""
_ADVICE = (
    ("certificate verify failed", _UNVERIFIED),
    ("certificate", "the brokers want another certificate of ours. Set kafka-ssl-certfile to one they trust"),
    ("unknown ca", "the brokers do not know who signed the certificate in kafka-ssl-certfile. Use one they trust"),
    ("wrong version number", "what listens there speaks no TLS. Check kafka-security-protocol and the port"),
)


def security_options(kafka: KafkaSettings) -> dict[str, Any]:
    """The client's options. Secrets are read from their files now. Raises Unusable where one cannot be read any more,
    TokenUnavailable where there is none now."""
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
    """What the client calls for a token, and again before it ends. Raises TokenUnavailable where there is none at first."""
    last = tokens.token()

    def ask(_config: str) -> tuple[str, float]:
        nonlocal last
        try:
            last = tokens.token()
        except TokenUnavailable:
            # Raised here it would come out of whatever call the client is in. The old token lasts as long as it lasts, and
            # the client soon asks again.
            return last.value, time.time() + RETRY_SECONDS
        return last.value, last.expires_at

    return ask


def tls_refusal(error: KafkaError) -> str | None:
    """Why waiting mends nothing, and what does; None for another failure and for a connection that was merely cut."""
    text = error.str().lower()
    # An alert to our certificate comes when the handshake is over for us (TLS 1.3), as a failure of the connection.
    if error.code() not in (KafkaError._SSL, KafkaError._TRANSPORT) or "ssl routines" not in text:
        return None
    return next((advice for words, advice in _ADVICE if words in text), None)
