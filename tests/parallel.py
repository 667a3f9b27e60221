"""How the suite runs in several processes: what stays together, what starts first, and what all of them share.

`make test` runs `pytest -n …` with pytest-xdist. Most tests wait for brokers and workers, so more processes than cores pay.

- **What stays together.** Tests that share a fixture of their module run in one process, so that the fixture is made once;
  so do those under one `xdist_group`. Every other test is a unit by itself.
- **What starts first.** Units marked `lasts(seconds=…)` start first, the longest before the others, so that none of them
  is left over when all else has ended.
- **What is shared.** One broker and one model server serve the whole run, see `tests.shared_servers`.

`--shuffle SEED` runs the tests in a random order: modules, and the tests of each.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from random import Random

import pytest

from tests.shared_servers import KEY, Borrowed, Owned

ROOT = Path(__file__).parent.parent
BYTECODE = ROOT / ".pytest_cache" / "bytecode"
SHARING = ("module", "package")
"""Scopes of fixtures that keep tests together."""


def keep_bytecode() -> None:
    """Lets this process and those it starts keep compiled modules even where PYTHONDONTWRITEBYTECODE forbids it beside the
    sources: a run starts hundreds of processes, and compiling tensorflow anew takes each some seconds."""
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        os.environ.setdefault("PYTHONPYCACHEPREFIX", str(BYTECODE))
        sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"]
        sys.dont_write_bytecode = False


keep_bytecode()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run the tests in a random order")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "lasts(seconds): about how long a test, or a module's test, takes when it is slow"
    )
    told = getattr(config, "workerinput", None)
    config.stash[KEY] = Owned() if told is None else Borrowed(told["servers"])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """xdist: called in the process that started the run, for each process that runs tests."""
    servers = node.config.stash[KEY]  # type: ignore[attr-defined]
    node.workerinput["servers"] = servers.listen()  # type: ignore[attr-defined]


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[KEY].close()


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seed = config.getoption("shuffle")
    if seed is not None:
        items[:] = shuffled(items, Random(seed))
    told = getattr(config, "workerinput", None)
    if told is None:
        return
    units: dict[str, list[pytest.Item]] = {}
    for item in items:
        units.setdefault(unit(item), []).append(item)
    items[:] = chain.from_iterable(dealt(list(units.values()), told["workercount"]))


def shuffled(items: Iterable[pytest.Item], random: Random) -> list[pytest.Item]:
    """Modules in a random order, and the tests of each."""
    modules: dict[Path, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.path, []).append(item)
    for found in modules.values():
        random.shuffle(found)
    return list(chain.from_iterable(random.sample(list(modules.values()), len(modules))))


def unit(item: pytest.Item) -> str:
    """The name of what a test stays together with, which xdist then calls its group; its own id if with nothing."""
    group = item.get_closest_marker("xdist_group")
    if group is not None:
        return str(group.args[0])
    definitions = getattr(item, "_fixtureinfo").name2fixturedefs.values()  # noqa: B009  not in pytest's public interface
    shared = [found[-1].baseid for found in definitions if found and found[-1].scope in SHARING]
    if not shared:
        return item.nodeid
    name = min(shared, key=len)
    item.add_marker(pytest.mark.xdist_group(name.rpartition("/")[2].removesuffix(".py")))
    return name


def seconds(tests: Sequence[pytest.Item]) -> float:
    """About how long a unit takes, as far as its tests are marked."""
    marks = (test.get_closest_marker("lasts") for test in tests)
    return sum(mark.kwargs["seconds"] for mark in marks if mark is not None)


def dealt(units: Sequence[list[pytest.Item]], processes: int) -> list[list[pytest.Item]]:
    """The order in which units are handed out: the longest first, and after each long one a short one.

    xdist hands a process its next unit before it has begun with the one before, and takes nothing back: what follows a long
    unit waits for it, even where other processes have nothing to do. So a short one follows."""
    by_length = sorted(units, key=seconds, reverse=True)
    long = [each for each in by_length if seconds(each)]
    short = by_length[len(long) :]
    first, then = long[:processes], short[:processes]
    rest = zip_longest(long[processes:], short[processes : len(long)])
    return [*first, *then, *(each for pair in rest for each in pair if each), *short[max(processes, len(long)) :]]
