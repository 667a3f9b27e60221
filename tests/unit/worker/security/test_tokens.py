"""Tokens from files and commands."""

from __future__ import annotations

import base64
import json
import shlex
import sys
from pathlib import Path

import pytest

from worker.security import TokenSource, TokenUnavailable
from worker.security.tokens import ASSUMED_SECONDS, KEPT_SECONDS


def jwt(**claims: object) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({}, claims)]
    return ".".join([*parts, "signature"])


def python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    source = TokenSource("the-setting", file=str(path), now_seconds=lambda: 1000.0)
    path.write_text("opaque\n")
    assert source.token().value == "opaque"
    assert source.token().expires_at == 1000 + ASSUMED_SECONDS
    path.write_text(jwt(exp=4242))
    assert source.token().expires_at == 4242


def test_a_commands_token_serves_the_connections_of_one_start(tmp_path: Path) -> None:
    now = 1000.0
    log = tmp_path / "runs"
    source = TokenSource(
        "the-setting",
        command=python(f"open({str(log)!r}, 'a').write('x'); print('t' + str(len(open({str(log)!r}).read())))"),
        now_seconds=lambda: now,
    )
    assert [source.token().value for _ in range(3)] == ["t1"] * 3
    now += KEPT_SECONDS
    assert source.token().value == "t2"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit('canary')", "ended with exit code 1"),
        ("print('canary canary')", "gives no token"),
        ("print('')", "gives no token"),
        ("print('canary\\x01auth=x')", "gives no token"),
    ],
)
def test_a_command_that_gives_none_is_told_without_what_it_said(code: str, said: str) -> None:
    with pytest.raises(TokenUnavailable, match=f"^the-setting: .* {said}") as raised:
        TokenSource("the-setting", command=python(code)).token()
    assert "canary" not in str(raised.value)


def test_a_token_never_shows(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("canary")
    assert "canary" not in repr(TokenSource("the-setting", file=str(path)).token())
