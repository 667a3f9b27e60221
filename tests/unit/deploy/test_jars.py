"""Only jars with their locked digest are used, and each way of not getting them is told in a sentence."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.errors import Damaged, NoNetwork
from deploy.local.jars import KAFKA_VERSION, LOCK_FILE, Jar, ensure_jars, read_lock, write_lock
from deploy.local.ports import free_port

CONTENT = b"not really a jar"
JAR = Jar("org.example", "thing", "1.0", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Maven repository on this machine that stands in for Maven Central; the folder it serves."""
    folder = tmp_path / "repository"
    place = folder / "org/example/thing/1.0"
    place.mkdir(parents=True)
    (place / "thing-1.0.jar").write_bytes(CONTENT)
    (place / "thing-1.0.jar.sha1").write_text(hashlib.sha1(CONTENT).hexdigest(), "utf-8")  # noqa: S324  Maven's own
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Quiet(*args, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    use_repository(tmp_path, monkeypatch, server.server_address[1])
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None: ...


def use_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    settings = tmp_path / "jgo.conf"
    settings.write_text(f"[repositories]\ncentral = http://127.0.0.1:{port}\n", "utf-8")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))


def test_the_lock_names_every_jar_once_with_a_digest_and_no_repository() -> None:
    jars = read_lock()
    assert len({jar.file_name for jar in jars}) == len(jars)
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) for jar in jars)
    kafkas = {jar.version for jar in jars if jar.group == "org.apache.kafka"}
    assert kafkas == {KAFKA_VERSION}
    assert "://" not in LOCK_FILE.read_text("utf-8")


def test_a_lock_that_is_written_reads_the_same(tmp_path: Path) -> None:
    jars = read_lock()
    write_lock(jars, tmp_path / "some.lock")
    assert read_lock(tmp_path / "some.lock") == jars
    assert (tmp_path / "some.lock").read_bytes() == LOCK_FILE.read_bytes()


def test_a_missing_jar_is_downloaded_and_a_present_one_is_not(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "jars"
    assert ensure_jars(folder, [JAR]) == [folder / "thing-1.0.jar"]
    assert (folder / "thing-1.0.jar").read_bytes() == CONTENT
    (repository / "org/example/thing/1.0/thing-1.0.jar").unlink()
    assert ensure_jars(folder, [JAR]) == [folder / "thing-1.0.jar"]
    assert not (folder / ".partial").exists()


def test_a_download_with_another_digest_is_refused_and_not_kept(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "jars"
    with pytest.raises(Damaged, match=r"org\.example:thing:1\.0 came with another SHA-256"):
        ensure_jars(folder, [JAR._replace(sha256="0" * 64)])
    assert list(folder.glob("**/*.jar")) == []


def test_a_jar_that_changed_on_disk_is_refused(tmp_path: Path) -> None:
    (tmp_path / JAR.file_name).write_bytes(CONTENT + b"!")
    with pytest.raises(Damaged, match="Delete the file and start again"):
        ensure_jars(tmp_path, [JAR])


def test_without_a_network_the_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_repository(tmp_path, monkeypatch, free_port())
    with pytest.raises(NoNetwork, match=r"Check the network, or name your mirror"):
        ensure_jars(tmp_path / "jars", [JAR])


def test_a_repository_without_the_jar_is_told_apart_from_nothing(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(NoNetwork, match=r"Cannot download org\.example:thing:2\.0 from central"):
        ensure_jars(tmp_path / "jars", [JAR._replace(version="2.0")])
