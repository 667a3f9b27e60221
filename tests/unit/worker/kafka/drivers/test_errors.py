"""The table from kafka-python's errors to ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from kafka import errors as kafka_errors

from worker.kafka import driver
from worker.kafka.drivers.kafka_python.errors import TABLE, ours, translated
from worker.kafka.drivers.kafka_python.security import security_options
from worker.security import KafkaSettings


@pytest.mark.parametrize(("failure", "theirs"), [(row, error) for row, errors in TABLE for error in errors])
def test_each_row_counts(failure: type[driver.KafkaFailure], theirs: type[Exception]) -> None:
    """None is hidden by an earlier one."""
    assert type(ours(theirs.__new__(theirs))) is failure


@pytest.mark.parametrize(
    ("theirs", "failure"),
    [
        (kafka_errors.TopicAuthorizationFailedError(), driver.Refused),
        (kafka_errors.NodeNotReadyError(), driver.Unreachable),
        (kafka_errors.CoordinatorNotAvailableError(), driver.Unreachable),
        (ConnectionRefusedError(111, "Connection refused"), driver.Unreachable),
        (kafka_errors.IllegalGenerationError(), driver.KafkaFailure),
        (kafka_errors.UnknownError(), driver.KafkaFailure),
    ],
)
def test_what_is_in_no_row_is_away_or_just_a_failure(theirs: Exception, failure: type[driver.KafkaFailure]) -> None:
    assert type(ours(theirs)) is failure


def test_the_message_is_one_line_that_begins_with_the_client_s_name_for_it() -> None:
    told = ours(kafka_errors.KafkaTimeoutError("first\n  second"))
    assert str(told) == "KafkaTimeoutError: first second"
    assert told.status == "KafkaTimeoutError"
    codec = ours(kafka_errors.UnsupportedCodecError("zstd"))
    assert "inferry[compression]" in str(codec)


def test_an_error_of_nobody_is_a_bug_and_stays() -> None:
    with pytest.raises(ZeroDivisionError), translated():
        _ = 1 / 0


def test_a_failure_of_ours_stays_as_it_is() -> None:
    failure = driver.TooLarge("by us")
    assert ours(failure) is failure


def test_a_token_that_cannot_be_had_when_the_client_connects_again_is_an_outage(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("opaque")
    kafka = KafkaSettings(
        kafka_security_protocol="SASL_SSL", kafka_sasl_mechanism="OAUTHBEARER", kafka_oauth_token_file=str(token)
    )
    provider = security_options(kafka)["sasl_oauth_token_provider"]
    assert provider.token() == "opaque"
    token.unlink()

    with (
        pytest.raises(driver.Unreachable, match=r"^TokenAway: kafka-oauth-token-file: .* cannot be read"),
        translated(),
    ):
        provider.token()
