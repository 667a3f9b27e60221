"""What is checked in is what the .proto files give."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from protos import generate


def test_the_generated_modules_are_up_to_date() -> None:
    assert generate.outdated() == []


def test_every_proto_file_has_its_module_and_stub_checked_in() -> None:
    assert len(generate.sources()) >= 5
    for source in generate.sources():
        assert (generate.ROOT / source.with_name(f"{source.stem}_pb2.py")).is_file()
        assert (generate.ROOT / source.with_name(f"{source.stem}_pb2.pyi")).is_file()


def test_a_changed_module_is_noticed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # A copy of the sources whose checked-in modules are missing, but for one that was edited by hand.
    for source in generate.sources():
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / source).write_bytes((generate.ROOT / source).read_bytes())
    edited = tmp_path / "protos/inferry/v1/review_pb2.py"
    edited.write_text("edited by hand")
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])

    assert generate.main() == 1

    assert "protos/inferry/v1/review_pb2.py is not what its .proto file gives" in capsys.readouterr().out
    assert edited.read_text() == "edited by hand"
