"""Which versions the model server loads and unloads, and in what order."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.model_server_models import tf  # noqa: F401  # imports tensorflow quietly, before the next lines do

from google.protobuf import text_format  # isort: skip
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig  # isort: skip
from deploy.local.model_server.catalogue import Catalogue, Version  # isort: skip
from deploy.local.model_server.status import StatusError  # isort: skip
from deploy.local.model_server.versions import (  # isort: skip
    Load,
    Standing,
    State,
    Unload,
    aspired_versions,
    next_action,
)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("", [12]),
        ("latest {}", [12]),
        ("latest { num_versions: 2 }", [3, 12]),
        ("latest { num_versions: 9 }", [1, 3, 12]),
        ("all {}", [1, 3, 12]),
        ("specific { versions: 3 versions: 1 versions: 5 }", [1, 3]),
        ("specific { versions: 5 }", []),
    ],
)
def test_policies(tmp_path: Path, policy: str, expected: list[int]) -> None:
    for name in ("1", "3", "12", "new", "7.partial", ".5", "99999999999999999999"):
        (tmp_path / name).mkdir()
    model = text_format.Parse(f"base_path: '{tmp_path}' model_version_policy {{ {policy} }}", ModelConfig())
    found = aspired_versions(model)
    assert sorted(found) == expected
    assert all(found[version] == tmp_path / str(version) for version in found)


def test_a_base_path_that_is_not_there_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        aspired_versions(ModelConfig(base_path=str(tmp_path / "none")))


START, LOADING, AVAILABLE, END = State.START, State.LOADING, State.AVAILABLE, State.END


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([], None),
        ([Standing(1, START, aspired=True), Standing(2, START, aspired=True)], Load(2)),
        ([Standing(1, AVAILABLE, aspired=False), Standing(2, START, aspired=True)], Load(2)),
        ([Standing(1, AVAILABLE, aspired=False), Standing(2, LOADING, aspired=True)], None),
        ([Standing(1, AVAILABLE, aspired=False), Standing(2, AVAILABLE, aspired=True)], Unload(1)),
        ([Standing(1, AVAILABLE, aspired=False), Standing(2, END, aspired=True)], None),
        ([Standing(1, AVAILABLE, aspired=False)], Unload(1)),
        (
            [
                Standing(1, AVAILABLE, aspired=False),
                Standing(2, AVAILABLE, aspired=False),
                Standing(3, START, aspired=True),
            ],
            Unload(1),
        ),
        ([Standing(1, END, aspired=False), Standing(2, AVAILABLE, aspired=True)], None),
    ],
)
def test_the_next_step(versions: list[Standing], expected: Load | Unload | None) -> None:
    assert next_action(versions) == expected


@given(st.lists(st.tuples(st.sets(st.integers(1, 6), min_size=1), st.sets(st.integers(1, 6))), max_size=8))
def test_a_model_that_serves_goes_on_serving_through_any_rollout(rounds: list[tuple[set[int], set[int]]]) -> None:
    states: dict[int, State] = {0: AVAILABLE}
    for wanted, broken in rounds:
        states = {version: state for version, state in states.items() if state == AVAILABLE or version in wanted}
        states |= {version: START for version in wanted if states.get(version) != AVAILABLE}
        while step := next_action([Standing(v, state, v in wanted) for v, state in states.items()]):
            loads = isinstance(step, Load) and step.version not in broken
            states[step.version] = AVAILABLE if loads else END
            assert AVAILABLE in states.values()
        serving = {version for version, state in states.items() if state == AVAILABLE}
        assert wanted - broken <= serving


def catalogue(*available: int) -> Catalogue:
    made = Catalogue()
    made.versions["m"] = {n: Version("m", n, Path(str(n)), State.AVAILABLE) for n in available}
    return made


def labelled(**labels: int) -> list[ModelConfig]:
    return [ModelConfig(name="m", version_labels=labels)]


def test_a_label_names_an_available_version_only() -> None:
    served = catalogue(1, 2)
    served.set_labels(labelled(stable=1, canary=2), allow_unavailable=False)
    with pytest.raises(StatusError) as caught:
        served.set_labels(labelled(stable=3), allow_unavailable=False)
    assert caught.value.code == grpc.StatusCode.FAILED_PRECONDITION
    assert served.labels == {"m": {"stable": 1, "canary": 2}}


def test_a_label_that_is_not_in_use_may_name_any_version_where_that_is_allowed() -> None:
    served = catalogue(1)
    served.set_labels(labelled(stable=1, next=9), allow_unavailable=True)
    with pytest.raises(StatusError):
        served.set_labels(labelled(stable=9, next=9), allow_unavailable=True)
    assert served.labels == {"m": {"stable": 1, "next": 9}}
