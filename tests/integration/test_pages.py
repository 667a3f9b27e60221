"""The pages in a real browser: the status page of a real worker, and the training report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.faults.proxy import Mode, Proxy
from tests.integration.conftest import MakeWorld
from tests.support.browser import Browser, open_browser
from tests.support.harness import WorkerProcess, review_json, wait_for
from tests.support.model_server import ServerAddress
from tests.support.models import TinyModel
from tests.support.worker_world import delivered, some_reviews, total
from tests.unit.trainer.test_training import figures
from trainer.report import report

pytestmark = pytest.mark.lasts(30)
READABLE, UNREADABLE = 61, 3
EVIL = "<img src=x onerror=alert(1)>"
PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def door(model_server: ServerAddress) -> Iterator[Proxy]:
    """Stands before the shared model server and can be shut."""
    host, port = model_server.grpc_target.split(":")
    proxy = Proxy((host, int(port)))
    yield proxy
    proxy.close()


def test_the_status_page_of_a_worker(
    make_world: MakeWorld, door: Proxy, browser: Browser, tiny_model: TinyModel
) -> None:
    """One worker's life as the page shows it: at work, at rest, holding, gone, and back."""
    world = make_world(serving=door.address)
    world.group = f"{EVIL} {world.group}"
    worker = world.worker(window_records=16).wait_ready()
    url = f"http://127.0.0.1:{worker.port}/"
    browser.look()
    browser.open(url)
    _wait_for_state(browser, "Running")
    world.push([*map(review_json, some_reviews(READABLE)), *[b"\xff"] * UNREADABLE])
    world.assert_each_once()
    wait_for(lambda: delivered(worker) == READABLE, PATIENCE_SECONDS, "its own account of it")
    wait_for(lambda: total(worker, "inferry_lag_records") == 0, PATIENCE_SECONDS, "no lag")
    wait_for(lambda: sum(row[1] for row in browser.rows("labels")) == READABLE, PATIENCE_SECONDS, "the page's figures")
    wait_for(lambda: browser.value("lag") == 0, PATIENCE_SECONDS, "the page's lag")
    _assert_as_metrics(browser, worker, Counter(result.label for result in world.results()))
    _assert_escaped(browser, world.group, worker)
    assert ["vocabulary", tiny_model.card.digest] in browser.rows("model")
    _assert_accessible(browser)
    _assert_readable_everywhere(browser)
    assert browser.console() == []

    door.mode = Mode.REFUSE
    world.push(map(review_json, some_reviews(40)))
    _wait_for_state(browser, "Holding")
    assert browser.text("state-why")
    wait_for(
        lambda: browser.text("state-why") in worker.get("/readyz")[1], PATIENCE_SECONDS, "the reason /readyz gives"
    )
    assert browser.run("return document.title").startswith("Holding")
    wait_for(lambda: browser.run("return document.querySelector('rect.holding')"), PATIENCE_SECONDS, "the strip")
    door.mode = Mode.OPEN
    world.assert_each_once()
    _wait_for_state(browser, "Running")
    assert browser.console() == []

    worker.stop()
    _wait_for_state(browser, "Not reachable")
    assert browser.run("return document.getElementById('main').classList.contains('stale')")
    second = world.worker(metrics_port=worker.port)
    second.wait_ready()
    _wait_for_state(browser, "Running")
    assert not browser.run("return document.getElementById('main').classList.contains('stale')")
    assert [row[1] for row in browser.rows("labels")] == [0, 0], "the second worker has answered nothing yet"
    # The browser itself tells of each call that nobody answered; scripts and policy have nothing to tell.
    assert {said["source"] for said in browser.console()} <= {"network"}
    second.stop()


def _wait_for_state(browser: Browser, name: str) -> None:
    wait_for(lambda: browser.text("state-name") == name, PATIENCE_SECONDS, f"{name} on the page", every_seconds=0.2)


def _assert_as_metrics(browser: Browser, worker: WorkerProcess, labels: Counter[str]) -> None:
    """Every figure of the page is that of /metrics, while nothing happens."""
    metrics = worker.metrics()
    assert {row[0]: row[1] for row in browser.rows("labels")} == labels
    assert all(metrics[f'inferry_results_total{{label="{label}"}}'] == count for label, count in labels.items())
    assert browser.rows("reasons") == [["not-utf8", UNREADABLE]]
    assert browser.value("dead") == total(worker, "inferry_dead_letters_total") == UNREADABLE
    wait_for(  # the model server's versions are asked for at rest, too, which may fail and be tried again
        lambda: browser.value("retried") == total(worker, "inferry_retries_total"), PATIENCE_SECONDS, "the same retries"
    )
    assert browser.value("requests") == metrics["inferry_requests_in_flight"] == 0
    assert f"limit {metrics['inferry_requests_limit']:.0f}; windows 0" in browser.text("requests-note")
    lags = {name for name in metrics if name.startswith("inferry_lag_records{")}
    assert [row[1:] for row in browser.rows("lags")] == [[0, 0]] * len(lags) == [[0, 0]] * 3
    sources = {
        "end to end": ("inferry_end_to_end_latency_seconds", ""),
        "decode (window)": ("inferry_stage_duration_seconds", 'stage="decode"'),
        "encode (window)": ("inferry_stage_duration_seconds", 'stage="encode"'),
        "predict (call)": ("inferry_predict_duration_seconds", 'status="OK"'),
        "deliver (window)": ("inferry_stage_duration_seconds", 'stage="deliver"'),
    }
    rows = {row[0]: row[5:] for row in browser.rows("stages")}
    assert rows.keys() == sources.keys()
    for name, (metric, label) in sources.items():
        *found, count = rows[name]
        assert count == metrics[f"{metric}_count{{{label}}}" if label else f"{metric}_count"] > 0
        for q, value in zip((0.5, 0.95, 0.99), found, strict=True):
            low, high = _bucket_of(metrics, metric, label, q * count)
            assert low <= value <= high, (name, q)


def _bucket_of(metrics: dict[str, float], metric: str, label: str, rank: float) -> tuple[float, float]:
    """The bounds of the bucket in which the observation of this rank lies."""
    series = {name: count for name, count in metrics.items() if name.startswith(f"{metric}_bucket{{") and label in name}
    counts = {float(name.split('le="')[1].split('"')[0]): count for name, count in series.items()}
    bounds = [0.0, *sorted(counts)]
    return next((low, high) for low, high in pairwise(bounds) if counts[high] >= rank)


def _assert_escaped(browser: Browser, group: str, worker: WorkerProcess) -> None:
    """What comes from outside is text, wherever it stands."""
    assert browser.text("title") == f"Inferry worker · {group}"
    assert ["group", group] in browser.rows("settings")
    assert ["serving", "(empty)"] not in browser.rows("settings")
    assert browser.run("return document.querySelectorAll('img, iframe, object').length") == 0
    assert "fine film" not in worker.get("/status.json")[1]


def _assert_accessible(browser: Browser) -> None:
    """Landmarks, heads of tables, names of drawings; one region speaks; the keyboard reaches everything."""
    wait_for(
        lambda: browser.run("return [...document.querySelectorAll('path.a')].every((path) => path.getAttribute('d'))"),
        PATIENCE_SECONDS,
        "lines in every graph",
    )
    assert browser.run(
        "return ['h1', 'main', 'header', 'footer nav'].map((name) => document.querySelectorAll(name).length)"
    ) == [1, 1, 1, 1]
    assert browser.run("return [...document.querySelectorAll('th')].filter((cell) => !cell.scope).length") == 0
    drawings = browser.run(
        "return [...document.querySelectorAll('svg')].map("
        "(svg) => [svg.getAttribute('role'), svg.getAttribute('aria-label')])"
    )
    assert len(drawings) == 5
    assert all(role == "img" and "15 minutes" in label for role, label in drawings)
    assert browser.run("return [...document.querySelectorAll('[aria-live]')].map((e) => e.id)") == ["state"]
    assert browser.run("return document.documentElement.lang") == "en"
    focused = [browser.press_tab() for _ in range(12)]
    assert "settings-title" in focused or "Settings in force" in focused
    assert {"/metrics", "/status.json"} <= set(focused)


def _assert_readable_everywhere(browser: Browser) -> None:
    """On a phone nothing but a table's own box scrolls sideways; dark is dark."""
    for colours in ("light", "dark"):
        browser.look(width=360, colours=colours)
        assert browser.run("return document.documentElement.scrollWidth") <= 360
        background = browser.run("return getComputedStyle(document.body).backgroundColor")
        red = int(background.removeprefix("rgb(").split(",")[0])
        assert (red < 64) == (colours == "dark"), background
    browser.look()


def test_the_training_report(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_bytes(report.html(figures(), np.linspace(0, 1, 200), np.arange(200) > 90))
    browser.look()
    browser.open(page.as_uri())
    assert browser.run("return document.querySelectorAll('svg').length") == 5
    assert "a <b>good</b> one" in browser.run("return document.querySelector('tbody td').textContent")
    colours = {}
    for wanted in ("light", "dark"):
        browser.look(width=360, colours=wanted)
        assert browser.run("return document.documentElement.scrollWidth") <= 360
        colours[wanted] = browser.run(
            "const inked = (shape) => shape.getAttribute('style').includes('--ink');"
            "const axis = [...document.querySelectorAll('svg [style]')].find(inked);"
            "return [getComputedStyle(document.body).color, getComputedStyle(axis).fill, getComputedStyle(axis).stroke]"
        )
    assert colours["light"] != colours["dark"]
    for body, fill, stroke in colours.values():
        assert body in (fill, stroke), "charts have the page's own ink"
    assert browser.console() == []
