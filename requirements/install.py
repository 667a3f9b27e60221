"""Makes .venv and installs what requirements/all.txt pins, hashes checked, and this project, editable.

Run by the Makefile with whatever Python 3 the machine has; needs nothing but the standard library. pip's several
hundred lines go to .venv/install.log; the terminal gets a bar, and on failure one sentence that says what to do.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 13)  # what tensorflow's pinned version has wheels for
VENV = Path(".venv")
LOCK = Path(__file__).with_name("all.txt")
LOG = VENV / "install.log"
FREE_BYTES = 5 * 1024**3  # tensorflow alone unpacks to 2 GiB, and pip holds every wheel beside it

MISSING_PREREQUISITE, UNAVAILABLE, DISK_FULL = 72, 69, 73  # as deploy/local/errors.py has them
CAUSES = (
    ("No space left on device", DISK_FULL, "the disk is full. Make room and run make again."),
    (
        "Retrying (Retry(|ConnectionError|NewConnectionError|Could not fetch URL|Read timed out|ReadTimeoutError",
        UNAVAILABLE,
        "the package index cannot be reached. Check the network, or point pip at your mirror (pip config set "
        "global.index-url …), and run make again.",
    ),
    (
        "No matching distribution found",
        UNAVAILABLE,
        "the package index lacks a pinned package for this platform (Linux with glibc on x86-64 or arm64, and macOS on arm64 have all).",
    ),
    ("DO NOT MATCH THE HASHES", UNAVAILABLE, "a downloaded package is not the one that was locked. Do not use it; ask whoever runs the mirror."),
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
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--retries", "2", *arguments]
    with LOG.open("a", encoding="utf-8") as log:
        pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        lines = list(_shown(pip, total, log))
    if pip.wait() != 0:
        raise _refusal("\n".join(lines))


def _shown(pip: subprocess.Popen[str], total: int, log) -> Iterator[str]:  # type: ignore[no-untyped-def]  # a TextIO
    started, count = time.monotonic(), 0
    for line in pip.stdout or ():
        log.write(line)
        count += line.startswith(("Collecting ", "Requirement already satisfied"))
        phase = "Installing" if line.startswith("Installing collected") else "Fetching"
        _bar(phase, min(count, total), total, time.monotonic() - started)
        yield line.rstrip()
    if sys.stdout.isatty():
        print("\r\x1b[K", end="")


def _bar(phase: str, count: int, total: int, seconds: float) -> None:
    if sys.stdout.isatty():
        filled = 30 * count // max(total, 1)
        print(f"\r{phase} packages {'█' * filled}{'░' * (30 - filled)} {count}/{total}  {seconds:.0f} s\x1b[K", end="", flush=True)


def _refusal(output: str) -> Refused:
    for pattern, exit_code, sentence in CAUSES:
        if re.search(pattern.replace("(", r"\("), output):
            return Refused(exit_code, f"Cannot install the packages: {sentence} pip's own words are in {LOG}.")
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
