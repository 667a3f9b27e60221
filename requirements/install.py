"""Makes .venv and installs what requirements/all.txt pins, hashes checked, and this project, editable.

Run by the Makefile with whatever Python 3 the machine has; needs nothing but the standard library. pip's several
hundred lines go to .venv/install.log; the terminal gets a bar, and on failure one sentence that says what to do.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

OLDEST, NEWEST = (3, 11), (3, 13)  # what tensorflow's pinned version has wheels for
VENV = Path(".venv")
LOCK = Path(__file__).with_name("all.txt")
LOG = VENV / "install.log"
FREE_BYTES = 5 * 1024**3  # tensorflow alone unpacks to 2 GiB, and pip holds every wheel beside it

MISSING_PREREQUISITE, UNAVAILABLE, DISK_FULL = 72, 69, 73  # as deploy/local/errors.py has them


class Cause(NamedTuple):
    """Why pip failed, told by its output."""

    pattern: str
    exit_code: int
    sentence: str


CAUSES = (
    Cause("No space left on device", DISK_FULL, "the disk is full. Make room and run make again."),
    Cause(
        r"Retrying \(Retry\(|ConnectionError|Could not fetch URL|Read ?[Tt]imed? ?[Oo]ut",
        UNAVAILABLE,
        "the package index cannot be reached. Check the network, or point pip at your mirror "
        "(pip config set global.index-url …), and run make again.",
    ),
    Cause(
        "No matching distribution found",
        UNAVAILABLE,
        "the package index lacks a pinned package for this platform. All are there for Linux with glibc on x86-64 "
        "and arm64, and for macOS on arm64.",
    ),
    Cause(
        "DO NOT MATCH THE HASHES",
        UNAVAILABLE,
        "a downloaded package is not the one that was locked. Do not use it; ask whoever runs the mirror why.",
    ),
)


class Refused(Exception):
    """The message is a sentence for a person."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def check_machine() -> None:
    """Raises Refused when this Python or disk will not do."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        found = ".".join(map(str, sys.version_info[:3]))
        wanted = f"{'.'.join(map(str, OLDEST))} to {'.'.join(map(str, NEWEST))}"
        raise Refused(
            MISSING_PREREQUISITE,
            f"Python {wanted} is needed and {sys.executable} is {found}. Install one (for example apt-get install "
            "python3 python3-venv) or name one: make PYTHON=/path/to/python3.",
        )
    free = shutil.disk_usage(".").free
    if not VENV.exists() and free < FREE_BYTES:
        raise Refused(DISK_FULL, f"{free / 1024**3:.1f} GiB are free here and {FREE_BYTES // 1024**3} are needed.")


def make_venv() -> Path:
    """Creates .venv where it is missing; returns its Python."""
    python = VENV / "bin" / "python"
    if python.exists():
        return python
    done = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        raise Refused(
            MISSING_PREREQUISITE,
            f"{sys.executable} cannot make a virtual environment: {(done.stdout + done.stderr).strip()}\n"
            "On Debian and Ubuntu: apt-get install python3-venv.",
        )
    return python


def pip_install(python: Path, arguments: list[str], total: int) -> None:
    """Runs pip with a bar that counts the packages it has come to. Raises Refused."""
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--retries", "2"]
    pip += ["--no-compile"]  # Python compiles what is imported; compiling all of tensorflow takes a minute
    with LOG.open("a", encoding="utf-8") as log:
        running = subprocess.Popen([*pip, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        lines = list(_shown(running.stdout or (), total, log))
    if running.wait() != 0:
        raise _refusal("\n".join(lines))


def _shown(lines: Iterable[str], total: int, log: IO[str]) -> Iterator[str]:
    bar = Bar(total)
    bar.start()
    try:
        for line in lines:
            log.write(line)
            bar.count += line.startswith(("Collecting ", "Requirement already satisfied"))
            bar.phase = "Installing" if line.startswith("Installing collected") else bar.phase
            yield line.rstrip()
    finally:
        bar.stop()


class Bar(threading.Thread):
    """Packages come to so far, and the seconds gone by: redrawn every second, or a line now and then in a log."""

    def __init__(self, total: int) -> None:
        super().__init__(daemon=True)
        self.count, self.phase = 0, "Fetching"
        self._total = total
        self._over = threading.Event()

    def run(self) -> None:
        """Draws until stopped."""
        terminal, started = sys.stdout.isatty(), time.monotonic()
        while not self._over.wait(1 if terminal else 20):
            count = min(self.count, self._total)
            filled = 30 * count // self._total
            shown = f"{'█' * filled}{'░' * (30 - filled)} {count}/{self._total}" if self.phase == "Fetching" else "…"
            line = f"{self.phase} packages {shown} {time.monotonic() - started:.0f} s"
            print(f"\r\x1b[K{line}" if terminal else line, end="" if terminal else "\n", flush=True)
        if terminal:
            print("\r\x1b[K", end="", flush=True)

    def stop(self) -> None:
        """Clears the line."""
        self._over.set()
        self.join()


def _refusal(output: str) -> Refused:
    for cause in CAUSES:
        if re.search(cause.pattern, output):
            return Refused(cause.exit_code, f"Cannot install the packages: {cause.sentence} pip's own words: {LOG}")
    tail = "\n".join(output.splitlines()[-8:])
    return Refused(UNAVAILABLE, f"pip failed; its last lines (all of them are in {LOG}):\n{tail}")


def main() -> int:
    """Returns the exit code."""
    try:
        check_machine()
        python = make_venv()
        pinned = re.findall(r"^[\w.-]+==", LOCK.read_text("utf-8"), flags=re.MULTILINE)
        if not sys.stdout.isatty():
            print(f"Installing {len(pinned)} packages into {VENV}; a few minutes the first time.", flush=True)
        pip_install(python, ["--require-hashes", "-r", str(LOCK)], len(pinned))
        pip_install(python, ["--no-deps", "--no-build-isolation", "-e", "."], 1)
    except Refused as refused:
        print(f"\nmake: {refused}", file=sys.stderr)
        return refused.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
