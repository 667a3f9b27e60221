"""What failed handshakes mean, as a sentence that names the setting to look at."""

from __future__ import annotations

from confluent_kafka import KafkaError

from worker.kafka.drivers.tls_advice import NO_TLS, OUR_CERTIFICATE, UNKNOWN_AUTHORITY

_UNVERIFIED = (
    "the brokers' certificate cannot be verified. Set kafka-ssl-cafile to the authorities that sign it, renew it where it "
    "has expired, and reach the brokers by a name that it holds: see bootstrap and their advertised.listeners"
)
"""librdkafka does not tell these apart."""
_ADVICE = (
    ("certificate verify failed", _UNVERIFIED),
    ("certificate", OUR_CERTIFICATE),
    ("unknown ca", UNKNOWN_AUTHORITY),
    ("wrong version number", NO_TLS),
)


def refusal(error: KafkaError) -> str | None:
    """Why waiting mends nothing, and what does; None for another failure and for a connection that was merely cut."""
    text = error.str().lower()
    # An alert to our certificate comes when the handshake is over for us (TLS 1.3), as a failure of the connection.
    if error.code() not in (KafkaError._SSL, KafkaError._TRANSPORT) or "ssl routines" not in text:
        return None
    return next((advice for words, advice in _ADVICE if words in text), None)
