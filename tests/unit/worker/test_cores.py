"""How many processes the setting means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker import cores
from worker.cores import available_cores, process_count

PERIOD = 100_000


@pytest.fixture
def six_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(6)), raising=False)


@pytest.mark.usefixtures("six_cores")
@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 6),
        ({"pod/own": "max 100000"}, 6),
        ({"pod/own": f"{2 * PERIOD} {PERIOD}"}, 2),
        ({"pod/own": f"{int(2.9 * PERIOD)} {PERIOD}"}, 2),
        ({"pod/own": f"{PERIOD // 10} {PERIOD}"}, 1),
        ({"pod/own": f"{20 * PERIOD} {PERIOD}"}, 6),
        ({"pod/own": "max 100000", "pod": f"{3 * PERIOD} {PERIOD}"}, 3),
        ({"": f"{4 * PERIOD} {PERIOD}"}, 4),
        ({"other": f"{PERIOD} {PERIOD}"}, 6),
        ({"pod/own": "what is this"}, 6),
    ],
)
def test_no_more_cores_than_the_containers_around_it_allow(
    tmp_path: Path, limits: dict[str, str], expected: int
) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "self"
    for folder, limit in {"pod/own": "", **limits}.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "cpu.max").write_text(limit)
    own.write_text("4:memory:/elsewhere\n0::/pod/own\n")
    assert available_cores(root, own) == expected


@pytest.mark.usefixtures("six_cores")
def test_without_cgroups_the_cores_count(tmp_path: Path) -> None:
    assert available_cores(tmp_path, tmp_path / "none") == 6


def test_auto_is_one_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available_cores", lambda: 7)
    assert process_count("auto") == 7
    assert process_count("3") == 3


@pytest.mark.parametrize("text", ["0", "-1", "257", "two", "", "1.5", "²"])
def test_what_is_no_number_of_processes_is_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="it can be auto or a number from 1 to 256"):
        process_count(text)
