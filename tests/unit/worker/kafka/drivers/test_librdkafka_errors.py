"""The table from librdkafka's errors to ours."""

from __future__ import annotations

import sys

import pytest
from confluent_kafka import KafkaError, KafkaException

from worker.errors import ConfigError
from worker.kafka import driver
from worker.kafka.drivers import make_driver
from worker.kafka.drivers.librdkafka.errors import TABLE, Heard, ours, translated
from worker.settings import Settings
from worker.testing import ManualClock


@pytest.mark.parametrize(("failure", "code"), [(row, code) for row, codes in TABLE for code in codes])
def test_each_row_counts(failure: type[driver.KafkaFailure], code: int) -> None:
    """None is hidden by an earlier one."""
    assert type(ours(KafkaException(KafkaError(code)))) is failure
    assert type(ours(KafkaError(code, fatal=True))) is failure


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE, retriable=True), driver.Unreachable),
        (KafkaError(KafkaError.ILLEGAL_GENERATION, txn_requires_abort=True), driver.KafkaFailure),
        (KafkaError(KafkaError.UNKNOWN), driver.KafkaFailure),
        (KafkaError(KafkaError.UNKNOWN, fatal=True), driver.KafkaFailure),
        (BufferError("Local: Queue full"), driver.KafkaFailure),
    ],
)
def test_what_is_in_no_row_is_away_or_just_a_failure(
    error: KafkaError | Exception, failure: type[driver.KafkaFailure]
) -> None:
    assert type(ours(error)) is failure


def test_the_message_is_one_line_that_begins_with_the_client_s_name_for_it() -> None:
    told = ours(KafkaException(KafkaError(KafkaError._TIMED_OUT, "first\n  second")))
    assert str(told) == "_TIMED_OUT: first second"
    assert told.status == "_TIMED_OUT"


def test_an_error_of_nobody_is_a_bug_and_stays() -> None:
    with pytest.raises(ZeroDivisionError), translated():
        _ = 1 / 0


def test_a_failure_of_ours_stays_as_it_is() -> None:
    failure = driver.TooLarge("by us")
    assert ours(failure) is failure


def test_what_a_client_tells_of_itself_is_kept_where_it_matters() -> None:
    heard = Heard()
    heard(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    assert (heard.refusal, heard.fatal) == (None, None)
    heard(KafkaError(KafkaError._AUTHENTICATION))
    heard(KafkaError(KafkaError.FENCED_INSTANCE_ID, fatal=True))
    heard(KafkaError(KafkaError.UNKNOWN, fatal=True))
    assert isinstance(heard.refusal, driver.CredentialsRefused)
    assert isinstance(heard.fatal, driver.FencedInstance), "the first one is the cause"


def test_without_the_extra_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("worker.kafka.drivers.librdkafka")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(ConfigError, match=r"pip install 'inferry\[librdkafka\]'"):
        make_driver("librdkafka", Settings(), ManualClock())
