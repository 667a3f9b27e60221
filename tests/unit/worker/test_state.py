"""The worker's state: derived from its phase and from what keeps its components, told once for each change."""

from __future__ import annotations

from threading import Thread

from hypothesis import given
from hypothesis import strategies as st

from worker.state import Component, Phase, WorkerState


class Told:
    """What was told, oldest first."""

    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []

    def __call__(self, state: str, detail: str) -> None:
        self.states.append((state, detail))

    @property
    def last(self) -> tuple[str, str]:
        return self.states[-1]


def running() -> tuple[WorkerState, Told]:
    told = Told()
    state = WorkerState(told)
    state.enter(Phase.RUNNING)
    return state, told


def test_it_starts_runs_drains_and_stops() -> None:
    state, told = running()
    state.enter(Phase.DRAINING)
    state.enter(Phase.STOPPED)
    assert told.states == [("starting", ""), ("running", ""), ("draining", ""), ("stopped", "")]


def test_a_reason_to_hold_holds_until_it_is_taken_back() -> None:
    state, told = running()
    state.hold(Component.KAFKA, "Kafka does not answer.")
    assert told.last == ("holding", "Kafka does not answer.")
    state.release(Component.KAFKA)
    assert told.last == ("running", "")


def test_one_of_two_reasons_taken_back_leaves_the_other() -> None:
    state, told = running()
    state.hold(Component.KAFKA, "Kafka is away.")
    state.hold(Component.MODEL, "No version is served.")
    assert told.last == ("holding", "No version is served. Kafka is away.")
    state.release(Component.MODEL)
    assert told.last == ("holding", "Kafka is away.")


def test_an_outage_that_ends_during_a_drain_leaves_it_draining() -> None:
    state, told = running()
    state.hold(Component.MODEL, "The server is away.")
    state.enter(Phase.DRAINING)
    state.release(Component.MODEL)
    state.hold(Component.KAFKA, "Kafka is away.")
    assert [name for name, _ in told.states] == ["starting", "running", "holding", "draining"]


def test_an_outage_during_the_start_shows_once_the_start_is_over() -> None:
    told = Told()
    state = WorkerState(told)
    state.hold(Component.MODEL, "The server is away.")
    assert told.states == [("starting", "")]
    state.enter(Phase.RUNNING)
    assert told.last == ("holding", "The server is away.")


def test_what_does_not_change_is_not_told_again() -> None:
    state, told = running()
    for _ in range(3):
        state.hold(Component.MODEL, "Away.")
        state.release(Component.KAFKA)
    assert told.states[-1] == ("holding", "Away.")
    assert len(told.states) == 3


@given(st.lists(st.sampled_from([*Phase, *Component, *(-n for n in range(1, 4))])))
def test_the_last_that_was_told_is_always_what_follows_from_all_before(steps: list[Phase | Component | int]) -> None:
    told = Told()
    state = WorkerState(told)
    phase, held = Phase.STARTING, set()
    components = list(Component)
    for step in steps:
        if isinstance(step, Phase):
            state.enter(step)
            phase = max(phase, step)
        elif isinstance(step, Component):
            state.hold(step, "why")
            held.add(step)
        else:
            state.release(components[-step - 1])
            held.discard(components[-step - 1])
        expected = "holding" if phase is Phase.RUNNING and held else phase.name.lower()
        assert told.last[0] == expected


def test_threads_that_hold_and_release_at_once_end_in_the_state_that_is_true() -> None:
    state, told = running()

    def swing(component: Component) -> None:
        for _ in range(2_000):
            state.hold(component, component)
            state.release(component)

    threads = [Thread(target=swing, args=(component,)) for component in Component]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.last == ("running", "")
    assert all(before != after for before, after in zip(told.states, told.states[1:], strict=False))
