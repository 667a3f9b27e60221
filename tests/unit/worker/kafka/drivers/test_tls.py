"""What failed handshakes mean, as each client tells them."""

from __future__ import annotations

import ssl

import pytest
from confluent_kafka import KafkaError

from worker.kafka.drivers.kafka_python.tls import refusal
from worker.kafka.drivers.librdkafka import tls as librdkafka_tls


def ssl_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] …")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "kafka-ssl-certfile and kafka-ssl-keyfile"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "kafka-ssl-certfile"),
        ("TLSV1_ALERT_UNKNOWN_CA", "kafka-ssl-certfile"),
        ("WRONG_VERSION_NUMBER", "kafka-security-protocol"),
        ("RECORD_LAYER_FAILURE", "kafka-security-protocol"),
    ],
)
def test_kafka_python_names_the_setting(reason: str, said: str) -> None:
    assert said in str(refusal(ssl_error(reason)))


@pytest.mark.parametrize(
    "error", [None, OSError("cut"), ssl.SSLEOFError(8, "EOF"), ssl.SSLZeroReturnError(6, "closed"), ssl_error("ODD")]
)
def test_a_connection_that_was_cut_is_an_outage(error: BaseException | None) -> None:
    assert refusal(error) is None


@pytest.mark.parametrize(
    ("code", "text", "said"),
    [
        (KafkaError._SSL, "error:0A000086:SSL routines::certificate verify failed: broker …", "kafka-ssl-cafile"),
        (KafkaError._TRANSPORT, "Receive failed: error:0A:SSL routines::tlsv13 alert certificate required", "certfile"),
        (KafkaError._TRANSPORT, "Receive failed: error:0A:SSL routines::tlsv1 alert unknown ca", "certfile"),
        (KafkaError._TRANSPORT, "Connect to ipv4#127.0.0.1:9 failed: Connection refused", None),
        (KafkaError._TRANSPORT, "Disconnected while requesting ApiVersion: certificate", None),
        (KafkaError._ALL_BROKERS_DOWN, "SSL routines::certificate verify failed", None),
    ],
)
def test_librdkafka_names_the_setting(code: int, text: str, said: str | None) -> None:
    told = librdkafka_tls.refusal(KafkaError(code, text))
    assert told is None if said is None else said in str(told)
