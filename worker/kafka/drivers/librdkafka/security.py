"""How the client proves who it is and whom it trusts, from the settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from worker.security import KafkaSettings, TokenSource, TokenUnavailable

RETRY_SECONDS = 30.0
"""After a token could not be had, about when it is asked for again."""


def security_options(kafka: KafkaSettings) -> dict[str, Any]:
    """The client's options. Secrets are read from their files now. Raises Unusable where one cannot be read any more,
    TokenUnavailable where there is none now."""
    tokens = kafka.oauth_tokens
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
