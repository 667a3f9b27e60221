"""How the suite runs in several processes: what stays together, what starts first, and what all of them share.

`make test` runs `pytest -n …` with pytest-xdist. Most tests wait for brokers and workers, so more processes than cores pay.

- **What stays together.** Tests that share a fixture of their module run in one process, so that the fixture is made once;
  so do those under one mark `together(name)`. Every other test is a unit by itself.
- **What starts first.** Units marked `lasts(seconds)` start first, the longest before the others, so that none of them is
  left over when all else has ended.
- **What is shared.** One broker and one model server serve the whole run, see `tests.support.shared_servers`.

`--shuffle SEED` runs the tests in a random order: modules, and the tests of each.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support.shared_servers import KEY, Borrowed, Owned, Units

ROOT = Path(__file__).parents[2]
BYTECODE = ROOT / ".pytest_cache" / "bytecode"
SHARING = ("module", "package")
"""Scopes of fixtures that keep tests together."""


def keep_bytecode() -> None:
    """Lets this process and those it starts keep compiled modules even where PYTHONDONTWRITEBYTECODE forbids it beside the
    sources: a run starts hundreds of processes, and compiling tensorflow again takes each some seconds."""
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        os.environ.setdefault("PYTHONPYCACHEPREFIX", str(BYTECODE))
        sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"]
        sys.dont_write_bytecode = False


keep_bytecode()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run the tests in a random order")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lasts(seconds): about how long each test so marked takes, where that is long")
    config.addinivalue_line("markers", "together(name): tests of one name run in one process")
    told = getattr(config, "workerinput", None)
    config.stash[KEY] = Owned() if told is None else Borrowed(told["servers"])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist: called in the process that started the run, for each process that runs tests."""
    node.workerinput["servers"] = node.config.stash[KEY].listen()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduler:
    return Scheduler(config, log)


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[KEY].close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seed = config.getoption("shuffle")
    if seed is not None:
        items[:] = shuffled(items, Random(seed))
    servers = config.stash[KEY]
    if isinstance(servers, Borrowed):
        servers.tell({item.nodeid: (unit(item), seconds(item)) for item in items})


def shuffled(items: Iterable[pytest.Item], random: Random) -> list[pytest.Item]:
    """Modules in a random order, and the tests of each."""
    modules: dict[Path, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.path, []).append(item)
    for found in modules.values():
        random.shuffle(found)
    return list(chain.from_iterable(random.sample(list(modules.values()), len(modules))))


def unit(item: pytest.Item) -> str:
    """The name of what a test stays together with; its own id if with nothing."""
    mark = item.get_closest_marker("together")
    if mark is not None:
        return str(mark.args[0])
    definitions = getattr(item, "_fixtureinfo").name2fixturedefs.values()  # noqa: B009  not in pytest's public interface
    shared = [found[-1].baseid for found in definitions if found and found[-1].scope in SHARING]
    return str(min(shared, key=len)) if shared else item.nodeid


def seconds(item: pytest.Item) -> float:
    """About how long a test takes, where that is told."""
    mark = item.get_closest_marker("lasts")
    return float(mark.args[0]) if mark is not None else 0.0


class Scheduler(LoadScopeScheduling):  # type: ignore[misc]  # xdist's types are not exported
    """Hands out units: to a process that has nothing long to do the longest there is, to the others the shortest.

    A process is handed its next unit before it begins with the one before, and nothing is taken back. So what follows a
    long unit waits for it, even where other processes have nothing to do."""

    def _split_scope(self, nodeid: str) -> str:
        return self._units[nodeid][0]

    def _assign_work_unit(self, node: Any) -> None:
        pending = (self._lasts(tests) for tests in self.assigned_work[node].values())
        choose = min if any(pending) else max
        chosen = choose(self.workqueue, key=lambda name: self._lasts(self.workqueue[name]))
        self.workqueue.move_to_end(chosen, last=False)
        super()._assign_work_unit(node)

    def _lasts(self, tests: dict[str, bool]) -> float:
        """How long what is left of a unit takes."""
        return sum(self._units[nodeid][1] for nodeid, completed in tests.items() if not completed)

    @property
    def _units(self) -> Units:
        units: Units = self.config.stash[KEY].units
        return units
