"""How a parallel run deals out its tests, and how its processes share their servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.parallel import Scheduler, shuffled, unit
from tests.support.shared_servers import KEY, Borrowed, Owned

UNITS = {"world": 90.0, "training": 60.0, "short": 0.0, "shorter": 0.0}
TESTS = {f"{name}::{n}": (name, seconds / 2) for name, seconds in UNITS.items() for n in range(2)}


@pytest.fixture
def owned() -> Iterator[Owned]:
    owned = Owned()
    yield owned
    owned.close()


class Process:
    """A process that runs tests, as the scheduler knows it."""

    shutting_down = False
    gateway = SimpleNamespace(id="gw")

    def __init__(self) -> None:
        self.given: list[str] = []

    def shutdown(self) -> None:
        """Nothing is left to hand out."""

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += [list(TESTS)[index] for index in indices]


@pytest.fixture
def handed_out(owned: Owned) -> tuple[Process, Process]:
    """Two processes that have just been handed their first units."""
    owned.units = dict(TESTS)
    option = SimpleNamespace(loadscopereorder=True)
    config: Any = SimpleNamespace(stash={KEY: owned}, option=option, getvalue=lambda _name: ["popen", "popen"])
    scheduler, processes = Scheduler(config), (Process(), Process())
    for process in processes:
        scheduler.add_node(process)
        scheduler.add_node_collection(process, list(TESTS))
    scheduler.schedule()
    return processes


def units(process: Process) -> list[str]:
    return list(dict.fromkeys(test.split("::")[0] for test in process.given))


def test_the_longest_start_first_and_what_follows_them_is_short(handed_out: tuple[Process, Process]) -> None:
    one, other = handed_out
    assert (units(one), units(other)) == (["world", "short"], ["training", "shorter"])


def test_a_unit_stays_together(handed_out: tuple[Process, Process]) -> None:
    one, _ = handed_out
    assert one.given == ["world::0", "world::1", "short::0", "short::1"]


@pytest.fixture(scope="module")
def of_the_module() -> None:
    """Keeps together what uses it."""


def test_a_test_by_itself_is_a_unit(request: pytest.FixtureRequest) -> None:
    assert unit(request.node) == request.node.nodeid


def test_tests_that_share_a_fixture_of_their_module_are_a_unit(
    request: pytest.FixtureRequest, of_the_module: None
) -> None:
    assert request.node.nodeid.startswith(unit(request.node))
    assert unit(request.node).endswith("test_parallel.py")


@pytest.mark.together("a name")
def test_tests_of_one_name_are_a_unit(request: pytest.FixtureRequest, of_the_module: None) -> None:
    assert unit(request.node) == "a name"


def test_a_random_order_loses_no_test_and_is_the_seeds(request: pytest.FixtureRequest) -> None:
    items = request.session.items
    found = shuffled(items, Random(1))
    assert sorted(map(id, found)) == sorted(map(id, items))
    assert [item.nodeid for item in found] == [item.nodeid for item in shuffled(items, Random(1))]


def test_whoever_asks_gets_the_one_server(owned: Owned, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[str] = []

    def start(self: Owned, folder: str) -> list[str]:
        started.append(folder)
        return [folder, "1234"]

    monkeypatch.setattr(Owned, "_start_broker", start)
    address = owned.listen()
    assert owned.listen() == address
    asking = (Borrowed(address), Borrowed(address), owned)
    found = {each.broker(tmp_path / str(n)).bootstrap for n, each in enumerate(asking)}
    assert found == {"127.0.0.1:1234"}
    assert started == [str(tmp_path / "0")]


def test_a_server_that_does_not_start_is_told_to_whoever_asked(
    owned: Owned, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(self: Owned, folder: str) -> list[str]:
        raise OSError("no room")

    monkeypatch.setattr(Owned, "_start_broker", fail)
    with pytest.raises(RuntimeError, match="broker: OSError: no room"):
        Borrowed(owned.listen()).broker(tmp_path)


def test_a_server_that_does_not_start_at_once_is_tried_again(
    owned: Owned, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The failure of a shared fixture lasts as long as its process does."""
    started: list[str] = []

    def start(self: Owned, folder: str) -> list[str]:
        started.append(folder)
        if len(started) == 1:
            raise OSError("too slow")
        return [folder, "1234"]

    monkeypatch.setattr(Owned, "_start_broker", start)
    assert owned.broker(tmp_path).bootstrap == owned.broker(tmp_path).bootstrap == "127.0.0.1:1234"
    assert len(started) == 2
    assert "did not start and is tried again: too slow" in capsys.readouterr().err


def test_what_stays_together_is_told_to_the_owner(owned: Owned) -> None:
    Borrowed(owned.listen()).tell({"test": ("unit", 3.0)})
    assert owned.units == {"test": ("unit", 3.0)}
