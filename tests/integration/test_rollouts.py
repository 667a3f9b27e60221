"""Versions change under load: every result names one version and is that version's own score, each review has one."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice, pairwise
from pathlib import Path
from threading import Event, Thread

import pytest
from kafka import KafkaProducer

from protos.codecs import ResultMessage, decode_result
from tests.integration.conftest import MakeWorld
from tests.support.harness import WorkerProcess, read_committed, review_json, wait_for
from tests.support.model_server import running_model_server
from tests.support.model_server_models import save_broken
from tests.support.models import BAD, GOOD, PLAIN, TinyModel, export_tiny
from tests.support.worker_world import WAIT_SECONDS, World, delivered, total
from worker.records import Record

pytestmark = pytest.mark.lasts(15)

NAME = "sentiment_classifier"
REVIEWS = 50_000
SWITCHES = 13
"""Odd, so that both versions are there in the end, to be run offline."""
CHUNK = 500
KEYS = 97
NOT_FOUND = 'inferry_predict_duration_seconds_count{status="NOT_FOUND"}'
AHEAD = 4_000
"""Reviews that may wait for the worker: enough that it never idles, few enough that every switch comes under load."""


def short_reviews(count: int) -> list[str]:
    pick = random.Random(5)
    return [
        " ".join(pick.choices([*GOOD, *BAD, *PLAIN, "zwölf", "10/10"], k=pick.randint(1, 12))) for _ in range(count)
    ]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / NAME


@pytest.fixture
def versions(base: Path) -> dict[int, TinyModel]:
    """Two versions whose vocabularies give the same ids to other words."""
    return {version: export_tiny(base, version=version, seed=version, threshold=0.5) for version in (1, 2)}


def take_away(base: Path, version: int) -> None:
    (base / str(version)).rename(base / f"away-{version}")


def put_back(base: Path, version: int) -> None:
    (base / f"away-{version}").rename(base / str(version))


def version_in_use(worker: WorkerProcess) -> int | None:
    """By its metrics; None while it has none."""
    found = [name for name, value in worker.metrics().items() if name.startswith("inferry_model_info{") and value]
    return int(found[0].split('version="')[1].split('"')[0]) if found else None


def wait_for_version(worker: WorkerProcess, version: int | None) -> None:
    wait_for(lambda: version_in_use(worker) == version, WAIT_SECONDS, f"version {version}")


def wait_for_more(worker: WorkerProcess, results: int) -> None:
    """Blocks until so many more results are durable."""
    before = delivered(worker)
    wait_for(lambda: delivered(worker) >= before + results, WAIT_SECONDS, f"{results} more results")


@contextmanager
def flowing(world: World, worker: WorkerProcess, texts: Sequence[str], sent: Counter[str]) -> Iterator[None]:
    """Sends reviews, never far ahead of the worker, until the block is left; `sent` counts them."""
    stop = Event()
    endless = cycle(texts)
    producer = KafkaProducer(bootstrap_servers=world.bootstrap, linger_ms=20, batch_size=131_072)

    def send() -> None:
        while not stop.is_set():
            if sent.total() - delivered(worker) > AHEAD:
                stop.wait(0.02)
                continue
            for text in islice(endless, CHUNK):
                producer.send(world.reviews, review_json(text), key=b"key %d" % (sent.total() % KEYS))
                sent["reviews"] += 1

    thread = Thread(target=send, name="producer")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        producer.flush(WAIT_SECONDS)
        producer.close()


@pytest.mark.lasts(40)
@pytest.mark.timeout(900)
def test_versions_switch_under_load_and_every_result_is_its_own_versions_score(
    base: Path, versions: Mapping[int, TinyModel], make_world: MakeWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = short_reviews(5_000)
    take_away(base, 2)
    sent: Counter[str] = Counter()
    with running_model_server(base) as server:
        world = make_world(serving=server.grpc_target)
        worker = world.worker().wait_ready()
        with flowing(world, worker, texts, sent):
            for switch in range(SWITCHES):
                wait_for_more(worker, REVIEWS // (SWITCHES + 1))
                if switch % 2 == 0:
                    put_back(base, 2)
                    wait_for_version(worker, 2)
                else:
                    take_away(base, 2)
                    wait_for_version(worker, 1)
            wait_for(lambda: sent.total() >= REVIEWS, WAIT_SECONDS, f"{REVIEWS} reviews")
        world.assert_each_once()
        refused = worker.metrics().get(NOT_FOUND, 0)
        assert worker.stop() == 0
    assert world.dead_letters() == {}
    records = read_committed(world.bootstrap, world.labels)
    results = [decode_result(record.value, record.headers) for record in records]
    assert len(results) == sent.total() >= REVIEWS
    assert_own_scores(world, versions, results)
    assert_order_by_key(records, results)
    assert version_changes(results) >= 10
    with capsys.disabled():
        print(f"\n{versions_over_time(records, results)}")
        print(f"{version_changes(results)} changes; {refused:g} requests met a version that had just been unloaded")


def assert_own_scores(world: World, versions: Mapping[int, TinyModel], results: Sequence[ResultMessage]) -> None:
    """Each score is, within 1e-6, what the version that the result names gives offline; they mostly differ by far more."""
    text_of = {source: json.loads(record.value or b"")["text"] for source, record in world.inputs().items()}
    texts = sorted(set(text_of.values()))
    offline = {number: dict(zip(texts, model.score(texts), strict=True)) for number, model in versions.items()}
    assert sum(abs(offline[1][text] - offline[2][text]) > 1e-4 for text in texts) > len(texts) / 2
    wrong = [
        result
        for result in results
        if abs(result.score - offline[result.model_version][text_of[result.result_id]]) > 1e-6
    ]
    assert not wrong, f"{len(wrong)} of {len(results)} scores are not their version's, the first {wrong[0]}"


def assert_order_by_key(records: Sequence[Record], results: Sequence[ResultMessage]) -> None:
    offsets_of_key: dict[bytes | None, list[tuple[int, int]]] = defaultdict(list)
    for record, result in zip(records, results, strict=True):
        offsets_of_key[record.key].append((result.source_partition, result.source_offset))
    assert len(offsets_of_key) == KEYS
    assert all(offsets == sorted(offsets) for offsets in offsets_of_key.values())


def version_changes(results: Sequence[ResultMessage]) -> int:
    """How often the version changes from one review of a partition to the next, in the partition where most do."""
    of_partition: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for result in results:
        of_partition[result.source_partition].append((result.source_offset, result.model_version))
    return max(sum(a != b for (_, a), (_, b) in pairwise(sorted(found))) for found in of_partition.values())


def versions_over_time(records: Sequence[Record], results: Sequence[ResultMessage]) -> str:
    """Results of each version in each two seconds of the run."""
    start = min(record.timestamp_ms for record in records)
    count: Counter[tuple[int, int]] = Counter(
        ((record.timestamp_ms - start) // 2_000, result.model_version)
        for record, result in zip(records, results, strict=True)
    )
    slots = range(1 + max(slot for slot, _ in count))
    lines = (f"{2 * slot:>7}  {count[slot, 1]:>9,}  {count[slot, 2]:>9,}" for slot in slots)
    return "\n".join(["seconds  version 1  version 2", *lines])


def test_without_any_version_the_worker_holds_says_so_and_goes_on_once_there_is_one(
    base: Path, versions: Mapping[int, TinyModel], make_world: MakeWorld
) -> None:
    texts = short_reviews(300)
    with running_model_server(base) as server:
        world = make_world(serving=server.grpc_target)
        worker = world.worker().wait_ready()
        world.push(map(review_json, texts))
        world.wait_until_answered()
        for version in versions:
            take_away(base, version)
        wait_for_version(worker, None)
        status, sentence = worker.get("/readyz")
        assert status == 503
        assert "version" in sentence
        world.push(map(review_json, texts))
        wait_for(lambda: worker.get("/readyz")[1].startswith("The worker is holding"), WAIT_SECONDS, "the hold")
        assert f"Of model {NAME} no version is AVAILABLE" in worker.get("/readyz")[1]
        assert worker.get("/livez")[0] == 200
        assert delivered(worker) == len(texts)
        put_back(base, 1)
        wait_for(worker.ready, WAIT_SECONDS, "readiness")
        world.assert_each_once()
        assert world.dead_letters() == {}
        assert Counter(result.model_version for result in world.results()) == {1: 300, 2: 300}
        put_back(base, 2)
        assert_own_scores(world, versions, world.results())
        assert worker.stop() == 0


def test_a_version_that_does_not_load_leaves_the_old_one_in_use(
    base: Path, versions: Mapping[int, TinyModel], make_world: MakeWorld
) -> None:
    with running_model_server(base) as server:
        world = make_world(serving=server.grpc_target)
        worker = world.worker().wait_ready()
        save_broken(base, 3)
        wait_for(lambda: "saved_model.pb" in server.log, WAIT_SECONDS, "the failure")
        world.push(map(review_json, short_reviews(200)))
        world.assert_each_once()
        assert {result.model_version for result in world.results()} == {2}
        assert_own_scores(world, versions, world.results())
        assert worker.ready()
        assert worker.stop() == 0


@contextmanager
def labelled_server(base: Path) -> Iterator[tuple[str, Callable[[Mapping[str, int]], None]]]:
    """A server of all versions, and how to set their labels."""
    config = base.parent / "models.config"

    def label(labels: Mapping[str, int]) -> None:
        told = " ".join(f"version_labels {{ key: '{name}' value: {version} }}" for name, version in labels.items())
        unfinished = config.with_suffix(".new")
        unfinished.write_text(
            f"model_config_list {{ config {{ name: '{NAME}' base_path: '{base}' model_platform: 'tensorflow' "
            f"model_version_policy {{ all {{ }} }} {told} }} }}"
        )
        unfinished.replace(config)

    label({"stable": 1})
    arguments = ["--model_config_file_poll_wait_seconds=0.2", "--allow_version_labels_for_unavailable_models"]
    with running_model_server(None, config_file=config, arguments=arguments) as server:
        yield server.grpc_target, label


def test_a_label_is_followed_wherever_it_points(
    base: Path, versions: Mapping[int, TinyModel], make_world: MakeWorld
) -> None:
    with labelled_server(base) as (target, label):
        world = make_world(serving=target)
        worker = world.worker(version="stable").wait_ready()
        for version in (1, 2, 1):
            label({"stable": version})
            wait_for_version(worker, version)
            world.push(map(review_json, short_reviews(200)))
            world.wait_until_answered()
        world.assert_each_once()
        assert Counter(result.model_version for result in world.results()) == {1: 400, 2: 200}
        assert_own_scores(world, versions, world.results())
        assert worker.stop() == 0


@pytest.mark.parametrize("shadow", ["2", "canary"])
def test_a_shadow_version_is_compared_but_never_published(
    base: Path, versions: Mapping[int, TinyModel], make_world: MakeWorld, shadow: str
) -> None:
    texts = short_reviews(1_000)
    with labelled_server(base) as (target, label):
        label({"stable": 1, "canary": 2})
        world = make_world(serving=target)
        worker = world.worker(version="1", shadow=shadow, window_records=100).wait_ready()
        for chunk in range(0, len(texts), 100):  # one by one: a shadow skips windows that come faster than it scores
            world.push(map(review_json, texts[chunk : chunk + 100]))
            world.wait_until_answered()
        world.assert_each_once()
        assert {result.model_version for result in world.results()} == {1}
        assert_own_scores(world, versions, world.results())
        wait_for(lambda: shadowed(worker) + skipped(worker) > 0, WAIT_SECONDS, "the comparison")
        wait_for(lambda: total(worker, "inferry_shadow_reviews_total") >= 500, WAIT_SECONDS, "half of the reviews")
        first, second = (versions[number].score(texts) for number in (1, 2))
        same = sum((a >= 0.5) == (b >= 0.5) for a, b in zip(first, second, strict=True)) / len(texts)
        assert 0 < same < 1
        told = worker.metrics()  # of one moment: the comparison may still go on
        compared = told["inferry_shadow_reviews_total"]
        agreed = told["inferry_shadow_agreements_total"] / compared
        assert agreed == pytest.approx(same, abs=0 if compared == len(texts) else 0.1)
        difference = sum(abs(a - b) for a, b in zip(first, second, strict=True)) / len(texts)
        observed = told["inferry_shadow_score_difference_sum"] / compared
        assert observed == pytest.approx(difference, rel=1e-3 if compared == len(texts) else 0.3)
        assert worker.stop() == 0


def shadowed(worker: WorkerProcess) -> float:
    return total(worker, "inferry_shadow_reviews_total")


def skipped(worker: WorkerProcess) -> float:
    return total(worker, "inferry_shadow_skipped_windows_total")
