"""The one table from gRPC's statuses to our errors."""

from __future__ import annotations

import grpc
import pytest

from worker.errors import Cause, ModelGone, ServingRejected, ServingUnavailable
from worker.serving.errors import MEANINGS, bad_reply, error_for, meaning_of, no_version


def test_the_table_names_statuses_that_there_are() -> None:
    assert set(MEANINGS) <= {code.name for code in grpc.StatusCode}


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_an_error_is_what_the_table_says_and_keeps_the_status_for_metrics(code: grpc.StatusCode) -> None:
    meaning, error = meaning_of(code.name), error_for(code.name, "because", "Predict")

    assert type(error) is meaning.error
    assert "because" in str(error)
    if isinstance(error, ServingUnavailable):
        assert (error.cause, error.status) == (meaning.cause, code.name)
    else:
        assert not meaning.lowers_limit
        assert not meaning.outage


def test_only_a_server_that_says_it_is_full_is_overloaded() -> None:
    assert [name for name, meaning in MEANINGS.items() if meaning.cause is Cause.OVERLOADED] == ["RESOURCE_EXHAUSTED"]


def test_a_message_above_the_size_limit_is_a_rejection_and_no_overload() -> None:
    details = "Sent message larger than max (5000000 vs. 4194304)"

    assert not meaning_of("RESOURCE_EXHAUSTED", details).lowers_limit
    assert isinstance(error_for("RESOURCE_EXHAUSTED", details, "Predict"), ServingRejected)


def test_a_version_that_is_gone_has_no_status_to_decide_on() -> None:
    assert isinstance(error_for("NOT_FOUND", "Servable not found", "Predict"), ModelGone)


def test_what_no_status_says_has_a_cause_as_well() -> None:
    assert (bad_reply("Predict", "it is NaN").cause, bad_reply("Predict", "").status) == (Cause.BAD_REPLY, "BAD_REPLY")
    assert (no_version("none").cause, no_version("none").status) == (Cause.NO_VERSION, "NOT_FOUND")
