"""Apache Kafka's jars: downloaded once from their Maven coordinates, held to their locked digests at every start.

`kafka-jars.lock` lists every jar with its SHA-256, one a line: `group:artifact:version sha256:<hex>`. Only listed
jars are ever put on a classpath. `python -m deploy.local.jars` (part of `make lock`) resolves the coordinates
below again and rewrites the list. Repositories are jgo's: Maven Central, and whatever `[repositories]` in jgo's own
settings file adds; an entry named `central` there takes the place of Maven Central.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import track

from deploy.local.errors import Damaged, DiskFull, LocalError, MissingPrerequisite, NoNetwork

KAFKA_VERSION = "4.1.2"
COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3",  # without it Kafka's log lines go nowhere
)
LOCK_FILE = Path(__file__).with_name("kafka-jars.lock")
DOWNLOADS_AT_ONCE = 4


class Jar(NamedTuple):
    """One line of the lock."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """`artifact-version.jar`, unique among the jars of one lock."""
        return f"{self.artifact}-{self.version}.jar"


def read_lock(path: Path = LOCK_FILE) -> list[Jar]:
    """The locked jars, in the order of the file, which is the classpath's order."""
    jars = []
    for line in path.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            coordinate, digest = line.split()
            group, artifact, version = coordinate.split(":")
            jars.append(Jar(group, artifact, version, digest.removeprefix("sha256:")))
    return jars


def ensure_jars(folder: Path, jars: Sequence[Jar] | None = None) -> list[Path]:
    """Downloads what is missing in `folder`, checks every digest, and returns the jars' paths.

    Hashing all of them takes about 50 ms, so it is done each time. Several processes may call this at once.
    Raises NoNetwork, Damaged, DiskFull or MissingPrerequisite (jgo is not installed)."""
    locked = read_lock() if jars is None else list(jars)
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(folder / ".lock"):
        missing = [jar for jar in locked if not (folder / jar.file_name).is_file()]
        if missing:
            _download_all(missing, folder)
        for jar in locked:
            path = folder / jar.file_name
            if _sha256(path) != jar.sha256:
                raise Damaged(
                    f"{path} does not have the SHA-256 that {LOCK_FILE.name} names. "
                    "Delete the file and start again to download it again."
                )
    return [folder / jar.file_name for jar in locked]


def _download_all(missing: Sequence[Jar], folder: Path) -> None:
    """Each jar is downloaded beside its place, checked, and moved there in one step."""
    context = _maven(folder / ".partial")
    try:
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            downloads = pool.map(lambda jar: _download(context, jar, folder), missing)
            for _ in track(downloads, "Downloading Apache Kafka's jars", total=len(missing), transient=True):
                pass
    finally:
        shutil.rmtree(folder / ".partial", ignore_errors=True)


def _download(context: Any, jar: Jar, folder: Path) -> None:
    path = _fetch(context, jar)
    if _sha256(path) != jar.sha256:
        raise Damaged(
            f"{jar.group}:{jar.artifact}:{jar.version} came with another SHA-256 than {LOCK_FILE.name} names. "
            "Ask whoever runs your package mirror why, and do not use the file."
        )
    path.replace(folder / jar.file_name)


def _fetch(context: Any, jar: Jar) -> Path:
    """Downloads one jar with jgo and translates its errors, which are requests' and bare RuntimeErrors."""
    import requests

    try:
        return Path(context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve())
    except (requests.RequestException, RuntimeError) as error:
        raise NoNetwork(
            f"Cannot download {jar.group}:{jar.artifact}:{jar.version} from {', '.join(context.remote_repos)}: "
            f"{type(error).__name__}. Check the network, or name your mirror as `central` under [repositories] in "
            "~/.config/jgo.conf."
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"The disk is full: no room for Kafka's jars in {context.repo_cache.parent}.") from error
        raise


def _maven(cache: Path) -> Any:
    """A jgo context that downloads into `cache`."""
    try:
        from jgo.config import GlobalSettings
        from jgo.constants import MAVEN_CENTRAL_URL
        from jgo.maven import MavenContext
    except ImportError as error:
        raise MissingPrerequisite(
            "The jgo package, which downloads Kafka's jars, is not installed: pip install 'inferry[local]'."
        ) from error
    logging.getLogger("jgo").setLevel(logging.ERROR)
    repositories = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    return MavenContext(repo_cache=cache, remote_repos=repositories, timeout=60)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Holds an advisory lock on `path`; others wait."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def resolve(coordinates: Sequence[str] = COORDINATES) -> list[Jar]:
    """Resolves the coordinates and all they need at run time, downloads each jar and takes its digest.

    One coordinate after the other, and the first to name an artifact decides its version: resolved together,
    one's managed versions would reach into the other's (log4j's would put Kafka's clients at 3.9)."""
    chosen: dict[tuple[str, str], Jar] = {}
    with tempfile.TemporaryDirectory() as cache:
        context = _maven(Path(cache))
        for coordinate in coordinates:
            inputs, transitive = context.resolver.resolve([context.create_dependency(coordinate)])
            for one in [*inputs, *(one for one in transitive if one.scope in ("compile", "runtime"))]:
                name = (one.groupId, one.artifactId)
                if name not in chosen:
                    chosen[name] = Jar(*name, one.version, _sha256(Path(one.artifact.resolve())))
    return sorted(chosen.values())


def write_lock(jars: Sequence[Jar], path: Path = LOCK_FILE) -> None:
    """Rewrites the lock in one step."""
    lines = [
        "# The jars of Apache Kafka and what it needs at run time, with their SHA-256. Made by `make lock`.",
        *(f"{jar.group}:{jar.artifact}:{jar.version} sha256:{jar.sha256}" for jar in jars),
    ]
    temporary = path.with_suffix(".new")
    temporary.write_text("\n".join(lines) + "\n", "utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    try:
        write_lock(resolve())
    except LocalError as problem:
        raise SystemExit(str(problem)) from problem
