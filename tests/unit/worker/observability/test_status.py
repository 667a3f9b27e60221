"""The status page: what it says is what /metrics says, and a browser runs nothing but its own script."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
from array import array
from base64 import b64encode
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from tests.support.events import everything_happens
from tests.support.readme import STATUS
from worker.observability import Telemetry
from worker.observability.health import Health
from worker.observability.status import About, StatusPage
from worker.observability.status.document import PARTS, Status, status_page
from worker.observability.status.history import SAMPLE_SECONDS, SAMPLES
from worker.observability.status.page import HEADERS, PAGE
from worker.observability.status.reading import Buckets, quantile
from worker.records import Partition, Reason
from worker.settings import Settings
from worker.testing import ManualClock, served

pytestmark = pytest.mark.usefixtures("log")
PAGES = ("/", "/status.json", "/readme")


class Watched:
    """A worker's telemetry, with its page."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.registry = CollectorRegistry()
        self.telemetry = Telemetry(self.registry, self.clock)
        self.page = self.page_of(Settings())

    def page_of(self, settings: Settings) -> StatusPage:
        return StatusPage(
            self.registry.collect,
            About.of(settings.redacted()),
            live=lambda: self.telemetry.stalled(120),
            ready=self.telemetry.unready,
            clock=self.clock,
        )

    def advance(self, seconds: float) -> None:
        """Lets time pass, with the ticks of the port's thread."""
        for _ in range(round(seconds)):
            self.clock.advance(1)
            self.page.tick()

    def answer(self, latency_seconds: float, reviews: int = 1, dead: int = 0) -> None:
        reasons = {Reason.EMPTY.value: dead} if dead else {}
        self.telemetry.delivered(0.02, {"positive": reviews}, reasons, [latency_seconds] * (reviews + dead))

    @property
    def now(self) -> Status:
        return self.page.status()


@pytest.fixture
def worker() -> Watched:
    return Watched()


# --- what it says ----------------------------------------------------------------------------------------------------


def test_it_tells_what_has_happened(worker: Watched) -> None:
    everything_happens(worker.telemetry)
    told = worker.now
    assert (told.state, told.unready, told.stalled) == ("running", None, None)
    assert told.model is not None
    assert (told.model.name, told.model.version, told.model.digest) == ("fake", "7", "sha256:7")
    assert told.encoder == "words"
    assert told.results == {"negative": 1, "positive": 2}
    assert {reason: count for reason, count in told.dead_letters.items() if count} == {"malformed": 1}
    assert set(told.dead_letters) == {reason.value for reason in Reason}
    assert [(each.what, each.status, each.count) for each in told.retries] == [("predict", "UNAVAILABLE", 1)]
    assert [(each.topic, each.partition, each.records) for each in told.lag] == [("reviews", 0, 3), ("reviews", 1, 0)]
    assert (told.requests.in_flight, told.requests.limit) == (1, 16)
    assert (told.windows_in_flight, told.dropped_windows) == (1, 1)
    assert {name: each.since_start.count for name, each in told.durations.items()} == {
        "end_to_end": 4,
        "decode": 1,
        "encode": 1,
        "predict": 1,  # the call that failed is none
        "deliver": 1,
    }


def test_a_parsed_scrape_reads_as_the_registry_does(worker: Watched) -> None:
    everything_happens(worker.telemetry)
    worker.advance(10)

    def scraped() -> Iterator[object]:
        return iter(text_string_to_metric_families(generate_latest(worker.registry).decode()))

    about = About.of(Settings().redacted())
    parsed = StatusPage(scraped, about, live=lambda: None, ready=lambda: None, clock=worker.clock)  # type: ignore[arg-type]
    ours, theirs = msgspec.to_builtins(worker.now), msgspec.to_builtins(parsed.status())
    for name in ("state", "model", "encoder", "lag", "results", "dead_letters", "retries", "requests", "settings"):
        assert theirs[name] == ours[name], name
    for name, each in ours["durations"].items():
        assert theirs["durations"][name]["since_start"] == each["since_start"]


def test_several_workers_read_as_their_sum_and_as_the_one_in_trouble() -> None:
    workers = [Watched(), Watched()]
    for number, worker in enumerate(workers):
        everything_happens(worker.telemetry)
        worker.telemetry.lag({Partition("reviews", number): 5})
    workers[1].telemetry.state("holding", "the model server is away")
    families = [family for worker in workers for family in worker.registry.collect()]
    about = About.of(Settings().redacted())
    whole = StatusPage(lambda: families, about, live=lambda: None, ready=lambda: None, clock=ManualClock()).status()
    assert whole.state == "holding"
    assert whole.results == {"negative": 2, "positive": 4}
    assert [(each.partition, each.records) for each in whole.lag] == [(0, 5), (1, 5)]
    assert whole.durations["end_to_end"].since_start.count == 8
    assert whole.requests.limit == 32
    assert [(each.status, each.count) for each in whole.retries] == [("UNAVAILABLE", 2)]


def test_state_and_why(worker: Watched) -> None:
    assert worker.now.state == "starting"
    assert worker.now.model is None
    worker.telemetry.serving(served(7))
    worker.telemetry.state("holding", "The model server is away.")
    assert worker.now.state == "holding"
    assert worker.now.unready == "The worker is holding: The model server is away."
    worker.telemetry.state("running")
    worker.telemetry.lag({Partition("reviews", 0): 9})
    worker.advance(130)
    assert (worker.now.state, worker.now.unready) == ("running", None)
    assert "nothing of it was delivered for 130 s" in (worker.now.stalled or "")
    assert worker.now.lag[0].undelivered_seconds == 130


def test_rates_and_quantiles_look_back_a_minute(worker: Watched) -> None:
    worker.advance(30)
    worker.answer(9.0, reviews=60, dead=30)
    young = worker.now
    assert young.window_seconds == 30
    assert young.reviews_per_second == 3
    assert young.dead_letters_per_second == 1
    assert young.durations["end_to_end"].last_minute.count == 90
    worker.advance(100)
    worker.answer(0.06, reviews=120)
    told = worker.now
    assert told.window_seconds == 60
    assert told.reviews_per_second == 2
    assert told.dead_letters_per_second == 0
    latency = told.durations["end_to_end"]
    assert latency.last_minute.count == 120
    assert 0.05 < (latency.last_minute.p99_seconds or 0) <= 0.075
    assert latency.since_start.count == 210
    assert 5 < (latency.since_start.p99_seconds or 0) <= 10
    worker.advance(100)
    assert worker.now.durations["end_to_end"].last_minute == msgspec.structs.replace(
        latency.last_minute, count=0, p50_seconds=None, p95_seconds=None, p99_seconds=None
    )


# --- quantiles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("q", "counts", "expected"),
    [
        (0.5, [0, 0, 0], None),
        (0.5, [10, 10, 10], 0.5),  # halfway from 0 to the first bound
        (0.5, [0, 10, 10], 1.5),
        (0.9, [5, 10, 10], 1.8),
        (0.99, [0, 0, 10], 2.0),  # beyond the highest bound
        (0.5, [10, 20, 20], 1.0),
    ],
)
def test_quantiles_are_promqls(q: float, counts: list[int], expected: float | None) -> None:
    found = quantile(q, (1.0, 2.0), _buckets(counts))
    assert found == pytest.approx(expected) if expected is not None else found is None


@given(st.lists(st.integers(0, 1000), min_size=3, max_size=3), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_grow_with_q_and_stay_inside_the_bounds(added: list[int], one: float, other: float) -> None:
    counts = [sum(added[: index + 1]) for index in range(3)]
    low, high = (quantile(q, (1.0, 2.0), _buckets(counts)) for q in sorted((one, other)))
    if counts[-1] == 0:
        assert low is high is None
    else:
        assert low is not None
        assert high is not None
        assert 0 <= low <= high + 1e-9 <= 2 + 2e-9


def _buckets(counts: list[int]) -> Buckets:
    return array("d", counts)


# --- the last quarter of an hour -------------------------------------------------------------------------------------


def test_the_ring_takes_a_sample_each_five_seconds_and_forgets_the_oldest(worker: Watched) -> None:
    collected = 0
    collect = worker.registry.collect

    def counting() -> Iterator[object]:
        nonlocal collected
        collected += 1
        return iter(collect())

    page = worker.page = StatusPage(
        counting,  # type: ignore[arg-type]
        About({}, {}),
        live=lambda: None,
        ready=lambda: None,
        clock=worker.clock,
    )
    for _ in range(100):  # more ticks than samples: only the first of each five seconds costs anything
        page.tick()
    assert collected == 1
    worker.advance(SAMPLES * SAMPLE_SECONDS * 2)
    assert collected == 1 + 2 * SAMPLES
    told = worker.now.history
    assert len(told.ages_seconds) == SAMPLES
    assert told.ages_seconds[0] == (SAMPLES - 1) * SAMPLE_SECONDS
    assert told.ages_seconds[-1] == 0


def test_the_history_tells_each_step(worker: Watched) -> None:
    worker.telemetry.state("running")
    worker.advance(5)
    worker.answer(0.06, reviews=10, dead=5)
    worker.telemetry.lag({Partition("reviews", 0): 7, Partition("reviews", 1): 1})
    worker.advance(5)
    worker.telemetry.state("holding", "why")
    worker.advance(5)
    told = worker.now.history
    assert told.ages_seconds == [10, 5, 0]
    assert told.states == ["running", "running", "holding"]
    assert told.reviews_per_second == [0, 3, 0]
    assert told.dead_letters_per_second == [0, 1, 0]
    assert told.lag_records == [0, 8, 8]
    assert [latency is None for latency in told.p99_seconds] == [True, False, True]
    assert {len(column) for column in msgspec.structs.astuple(told)} == {3}


# --- the page and its answers ----------------------------------------------------------------------------------------


def ask(port: int, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path)
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.headers.items()}, reply.read()
    finally:
        connection.close()


@pytest.fixture
def port(worker: Watched) -> Iterator[int]:
    health = Health(
        "127.0.0.1", 0, worker.registry, lambda: None, lambda: None, pages=worker.page.routes, tick=worker.page.tick
    )
    yield health.start()
    health.close()


@pytest.mark.parametrize("path", PAGES)
def test_each_page_is_served_with_its_policy_and_to_head_without_a_body(port: int, path: str) -> None:
    status, headers, body = ask(port, path)
    assert status == 200
    assert body
    assert {name.lower(): value for name, value in HEADERS.items()}.items() <= headers.items()
    assert headers["content-length"] == str(len(body))
    assert ask(port, path, "HEAD")[::2] == (200, b"")


def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_else(port: int) -> None:
    _, headers, body = ask(port, "/")
    rules = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    for tag in ("style", "script"):
        [inside] = re.findall(rf"<{tag}>(.*?)</{tag}>", body.decode(), re.DOTALL)
        digest = b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    text = body.decode()
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//|@import|url\(""", text), "nothing comes from elsewhere"
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\son\w+=|\sstyle=", text)


def test_the_page_itself_holds_no_figure_and_no_setting(worker: Watched) -> None:
    evil = worker.page_of(Settings(group="<img src=x onerror=alert(1)>"))
    assert evil.routes["/"]("").body == worker.page.routes["/"]("").body == PAGE
    told = json.loads(evil.routes["/status.json"]("").body)
    assert told["settings"]["group"] == "<img src=x onerror=alert(1)>"
    assert evil.routes["/status.json"]("").content_type == "application/json"


def test_secrets_are_in_no_answer(worker: Watched) -> None:
    settings = Settings(
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_mechanism="PLAIN",
        kafka_sasl_username="reader",
        kafka_sasl_password=SecretStr("hush-hush"),
        serving="https://user:hush-hush@tf-serving:8500",
    )
    page = worker.page_of(settings)
    answers = b"".join(route("").body for route in page.routes.values())
    assert b"hush-hush" not in answers
    assert page.status().settings["kafka_sasl_username"] == "reader"
    assert page.status().settings["kafka_sasl_password"] == "*" * 10
    assert page.status().settings["serving"] == "https://user:***@tf-serving:8500"


def test_no_text_of_a_review_is_in_any_answer(worker: Watched) -> None:
    """Nothing that the page reads takes one: the events carry counts."""
    everything_happens(worker.telemetry)
    told = msgspec.to_builtins(worker.now)
    assert set(told) == set(Status.__struct_fields__)
    assert set(told["results"]) == {"negative", "positive"}


def test_the_readme_is_that_of_the_version_installed(port: int) -> None:
    _, headers, body = ask(port, "/readme")
    assert headers["content-type"].startswith("text/plain")
    assert body.decode().lstrip().startswith("# Inferry")


def test_a_sample_that_fails_leaves_the_probes_answering(log: object) -> None:
    def broken() -> None:
        raise RuntimeError("a bug")

    health = Health("127.0.0.1", 0, CollectorRegistry(), lambda: None, lambda: None, tick=broken)
    port = health.start()
    try:
        for _ in range(2):  # the server's thread ticks between two requests
            assert ask(port, "/livez")[0] == 200
    finally:
        health.close()


def test_every_field_is_documented() -> None:
    assert STATUS.read_text("utf-8") == status_page(), "python -m tests.support.readme writes it again"
    for part in PARTS:
        for name in part.__struct_fields__:
            assert re.search(rf"^\| `{name}` \| .{{2,}} \|$", status_page(), re.MULTILINE), name
    assert set(msgspec.json.schema(Status)["$defs"]) == {part.__name__ for part in PARTS}


def test_several_processes_of_which_none_has_told_its_state_are_starting() -> None:
    page = StatusPage(
        list, About({}, {}), live=lambda: None, ready=lambda: "process 0 is starting", clock=ManualClock()
    )

    assert page.status().state == "starting"
