"""Workers that join and leave under load: nothing is lost, and under exactly-once nothing comes twice."""

from __future__ import annotations

import signal

import pytest

from tests.integration.conftest import MakeWorld, both_clients, deliveries_and_clients
from tests.support.harness import wait_for
from tests.support.worker_world import Load, World, delivered, held_partitions

ALL = {0, 1, 2, 3}
pytestmark = pytest.mark.lasts(15)


@deliveries_and_clients
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_second_worker_joins_and_leaves_under_load(
    make_world: MakeWorld, delivery: str, number: signal.Signals
) -> None:
    join_and_leave(make_world(partitions=len(ALL)), delivery, number)


@pytest.mark.parametrize("kafka_client", ["librdkafka"], indirect=True)
@pytest.mark.parametrize("protocol", ["cooperative", "consumer"])
def test_a_second_worker_joins_and_leaves_under_load_with_incremental_rebalances(
    make_world: MakeWorld, protocol: str
) -> None:
    """A worker that is killed is missed after the broker's 45 s only, under `consumer`: one that leaves has to do."""
    join_and_leave(make_world(partitions=len(ALL)), "exactly-once", signal.SIGTERM, kafka_group_protocol=protocol)


def join_and_leave(world: World, delivery: str, number: signal.Signals, **more: object) -> None:
    settings = {"delivery": delivery, "window_records": 40, "batch_rows": 16, **more}
    with Load(world):
        first = world.worker(**settings, transactional_id=f"{world.group}.0")
        wait_for(lambda: delivered(first) > 100, 60, "results")
        assert held_partitions(first) == ALL
        second = world.worker(**settings, transactional_id=f"{world.group}.1")
        wait_for(lambda: delivered(second) > 100, 60, "the second worker's results")
        wait_for(lambda: len(held_partitions(first)) == 2, 30, "the first worker's smaller share")
        # Each names the lag of its own partitions alone: a series of a partition given away would stand still for ever.
        assert held_partitions(first) | held_partitions(second) == ALL
        assert not held_partitions(first) & held_partitions(second)
        if number is signal.SIGTERM:
            assert second.stop() == 0
        else:
            second.kill()
        wait_for(lambda: held_partitions(first) == ALL, 60, "everything back with the first")
        before = delivered(first)
        wait_for(lambda: delivered(first) > before + 100, 60, "the first worker's results")
    if delivery == "exactly-once":
        world.assert_each_once()
        world.assert_in_order()
    else:
        world.assert_none_lost()
    assert world.dead_letters() == {}
    assert first.stop() == 0


@both_clients
def test_two_workers_under_one_transactional_id_end_with_a_sentence_instead_of_fighting(make_world: MakeWorld) -> None:
    world = make_world(partitions=len(ALL))
    with Load(world):
        workers = [world.worker(window_records=40) for _ in range(2)]
        wait_for(lambda: any(worker.exit_code is not None for worker in workers), 90, "one of them to give up")
        loser = next(worker for worker in workers if worker.exit_code is not None)
        assert loser.exit_code == 5
        assert f"another live process uses the transactional id '{world.group}.0'" in loser.log
        assert "--transactional-id" in loser.log
    world.assert_each_once()


def test_a_worker_without_a_partition_waits_for_one(make_world: MakeWorld) -> None:
    world = make_world(partitions=1)
    with Load(world):
        first = world.worker(window_records=40, transactional_id=f"{world.group}.0")
        wait_for(lambda: delivered(first) > 50, 60, "results")
        second = world.worker(window_records=40, transactional_id=f"{world.group}.1").wait_ready()
        first_was = delivered(first) + delivered(second)
        wait_for(lambda: delivered(first) + delivered(second) > first_was + 50, 60, "more results")
        # While the group rebalances, the one that loses the partition learns it a moment later than the other.
        wait_for(lambda: bool(held_partitions(first)) != bool(held_partitions(second)), 60, "one of them without it")
        busy, idle = (first, second) if held_partitions(first) else (second, first)
        assert idle.ready()
        assert busy.stop() == 0
        wait_for(lambda: held_partitions(idle) == {0}, 60, "its turn")
    world.assert_each_once()
    world.assert_in_order()


@both_clients
def test_a_static_member_is_back_within_its_session_without_a_rebalance(make_world: MakeWorld) -> None:
    world = make_world(partitions=len(ALL))
    settings = {"window_records": 40, "session_timeout_seconds": 20}
    with Load(world):
        stays, restarts = (
            world.worker(**settings, instance_id=f"worker-{n}", transactional_id=f"{world.group}.{n}") for n in (0, 1)
        )
        wait_for(lambda: len(held_partitions(stays)) == 2 == len(held_partitions(restarts)), 60, "a share each")
        held, seen = held_partitions(restarts), stays.log.count("partitions changed")
        assert restarts.stop() == 0
        again = world.worker(**settings, instance_id="worker-1", transactional_id=f"{world.group}.1")
        wait_for(lambda: held_partitions(again) == held, 60, "the same partitions again")
        wait_for(lambda: delivered(again) > 50, 60, "results")
        assert stays.log.count("partitions changed") == seen, "the other worker was not disturbed"
    world.assert_each_once()
    world.assert_in_order()


@deliveries_and_clients
def test_two_workers_under_one_instance_id_end_with_a_sentence_instead_of_fighting(
    make_world: MakeWorld, delivery: str
) -> None:
    world = make_world(partitions=len(ALL))
    settings = {"delivery": delivery, "window_records": 40, "instance_id": "one"}
    with Load(world):
        first = world.worker(**settings, transactional_id=f"{world.group}.0")
        wait_for(lambda: delivered(first) > 50, 60, "results")
        second = world.worker(**settings, transactional_id=f"{world.group}.1")
        wait_for(lambda: first.exit_code is not None, 60, "the first to give up")
        assert first.exit_code == 5
        assert "another live process uses the instance id 'one'" in first.log
        assert "--instance-id" in first.log
        wait_for(lambda: delivered(second) > 50, 60, "the other's results")
    if delivery == "exactly-once":
        world.assert_each_once()
    else:
        world.assert_none_lost()
