"""Bearer tokens that change while a program runs: from a file that something renews, or from a command."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

COMMAND_SECONDS = 10.0
"""A token's command that takes longer is ended."""
KEPT_SECONDS = 10.0
"""A command's token serves the connections of so long: a start makes several at once."""
ASSUMED_SECONDS = 300.0
"""How long a token is taken to be valid that does not say it."""

_TOKEN = re.compile(r"[\x21-\x7e]+")


class TokenUnavailable(Exception):
    """There is no token now. The sentence names the setting and holds nothing of what was read."""


@dataclass(frozen=True)
class Token:
    """A bearer token and when it ends, in seconds since 1970."""

    value: str = field(repr=False)
    expires_at: float


class TokenSource:
    """Gives the token to use now. Thread-safe.

    A file is read each time; a command is run without a shell, its standard output is the token, and what it writes to
    standard error is dropped, since it may be secret. `setting` is how error messages call where it comes from."""

    def __init__(
        self, setting: str, *, file: str = "", command: str = "", now_seconds: Callable[[], float] = time.time
    ) -> None:
        self._setting = setting
        self._file = file
        self._command = command
        self._now_seconds = now_seconds
        self._lock = Lock()
        self._kept: tuple[float, Token] | None = None
        """A command's last token, and when it was fetched."""

    def token(self) -> Token:
        """Blocks while the command runs. Raises TokenUnavailable."""
        if self._file:
            return self._read_file()
        with self._lock:
            now = self._now_seconds()
            if self._kept is None or not 0 <= now - self._kept[0] < KEPT_SECONDS:
                self._kept = (now, self._run())
            return self._kept[1]

    def check(self) -> None:
        """Whether a token can be had, as far as that shows without running a command. Raises ValueError."""
        try:
            if self._file:
                self._read_file()
            else:
                self._words()
        except TokenUnavailable as error:
            raise ValueError(str(error)) from None

    def _read_file(self) -> Token:
        try:
            return self._parsed(Path(self._file).read_bytes(), self._file)
        except OSError as error:
            raise TokenUnavailable(
                f"{self._setting}: {self._file} cannot be read: {error.strerror or type(error).__name__}"
            ) from None

    def _run(self) -> Token:
        words = self._words()
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TokenUnavailable(f"{self._setting}: {words[0]} took longer than {COMMAND_SECONDS:g} s") from None
        except OSError as error:
            raise TokenUnavailable(f"{self._setting}: {words[0]} cannot be run: {error.strerror}") from None
        if done.returncode != 0:
            raise TokenUnavailable(f"{self._setting}: {words[0]} ended with exit code {done.returncode}")
        return self._parsed(done.stdout, words[0])

    def _words(self) -> list[str]:
        """The command as a list of words. Raises TokenUnavailable where it has none or its program is not there."""
        try:
            words = shlex.split(self._command)
        except ValueError as error:
            raise TokenUnavailable(f"{self._setting} is no command: {error}") from None
        if not words:
            raise TokenUnavailable(f"{self._setting} is no command")
        if shutil.which(words[0]) is None:
            raise TokenUnavailable(f"{self._setting}: there is no program {words[0]}")
        return words

    def _parsed(self, content: bytes, origin: str) -> Token:
        value = content.decode("ascii", "replace").strip()
        if not _TOKEN.fullmatch(value):
            raise TokenUnavailable(f"{self._setting}: {origin} gives no token: one word of printable ASCII is expected")
        return Token(value, _expiry(value) or self._now_seconds() + ASSUMED_SECONDS)


def _expiry(token: str) -> float | None:
    """`exp` of a JSON Web Token (RFC 7519), in seconds since 1970; None for a token that is none. Nothing is verified."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError):
        return None
