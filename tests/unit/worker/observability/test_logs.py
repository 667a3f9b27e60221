from __future__ import annotations

import io
import json
import logging
import math

import pytest
import structlog

from tests.unit.conftest import lines
from worker.errors import ConfigError
from worker.observability import logs
from worker.testing import ManualClock


@pytest.mark.parametrize(
    "text",
    [
        "sasl.password=hunter2",
        'required username="me" password="hunter2 x";',
        "{'client_secret': 'hunter2'}",
        "Authorization: Bearer hunter2",
        "https://me:hunter2@registry/x",
        "token = hunter2, more",
    ],
)
def test_secrets_in_sentences_are_hidden(text: str) -> None:
    assert "hunter2" not in logs.redact(text)
    assert "***" in logs.redact(text)


def test_secrets_are_hidden_wherever_they_are(log: io.StringIO) -> None:
    structlog.get_logger().info(
        "connected",
        kafka_password="hunter2",  # noqa: S106  what the test hides
        nested={"sasl_password": "hunter2", "deep": [{"api_key": "hunter2"}]},
    )
    logging.getLogger("kafka.conn").error("cannot log in with password=%s", "hunter2")
    structlog.get_logger().error("failed", exc_info=RuntimeError("password=hunter2"))
    assert len(lines(log)) == 3
    assert "hunter2" not in log.getvalue()


def test_measurements_are_no_secrets(log: io.StringIO) -> None:
    structlog.get_logger().info("encoded", tokens=17, max_tokens=4096)
    assert (lines(log)[0]["tokens"], lines(log)[0]["max_tokens"]) == (17, 4096)
    assert logs.redact("max_tokens: 512 tokens=3") == "max_tokens: 512 tokens=3"


def test_libraries_are_heard_from_warning_on_and_do_not_flood() -> None:
    stream, clock = io.StringIO(), ManualClock()
    logs.configure("debug", "json", stream, clock.monotonic)
    client = logging.getLogger("kafka.client")
    client.info("chatter")
    for node in range(100):
        clock.advance(0.25)
        client.error("node %d is away", node, exc_info=ConnectionRefusedError(111, "Connection refused"))
    said = lines(stream)
    assert [line["level"] for line in said] == ["error", "error", "error"]
    assert said[0]["event"] == "node 0 is away (ConnectionRefusedError(111, 'Connection refused'))"
    assert "39 more like this were left out" in str(said[1]["event"])
    assert "Traceback" not in stream.getvalue()


def test_auto_means_json_away_from_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    pipe, terminal = io.StringIO(), Terminal()
    logs.configure("info", "auto", pipe)
    structlog.get_logger().info("hello", answer=42)
    logs.configure("info", "auto", terminal)
    structlog.get_logger().info("hello", answer=42)
    assert lines(pipe)[0]["answer"] == 42
    assert "hello" in terminal.getvalue()
    with pytest.raises(json.JSONDecodeError):
        json.loads(terminal.getvalue())


def test_the_level_is_kept() -> None:
    stream = io.StringIO()
    logs.configure("warning", "json", stream)
    structlog.get_logger().info("not this")
    structlog.get_logger().warning("this")
    assert [line["event"] for line in lines(stream)] == ["this"]


@pytest.mark.parametrize(("level", "log_format"), [("loud", "json"), ("info", "xml")])
def test_unknown_levels_and_formats_are_refused(level: str, log_format: logs.LogFormat) -> None:
    with pytest.raises(ConfigError, match="not known"):
        logs.configure(level, log_format, io.StringIO())


def test_any_text_can_be_logged(log: io.StringIO) -> None:
    structlog.get_logger().info("odd", text="\ud800 \x00 \U0001f600", raw=b"\xff", number=math.inf)
    assert lines(log)[0]["event"] == "odd"


def test_one_of_several_processes_says_which_in_every_line() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream, process="1")
    structlog.get_logger().info("ours")
    logging.getLogger("kafka").warning("the client's")
    assert [line["process"] for line in lines(stream)] == ["1", "1"]
    logs.configure("info", "json", stream)
    structlog.get_logger().info("a single one")
    assert "process" not in lines(stream)[-1]
