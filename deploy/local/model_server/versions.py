"""Which versions a model should have, from its base path and its version policy
(sources/storage_path/file_system_storage_path_source.cc), and what to do next to get there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

_VERSION = re.compile(r"[0-9]+")
_MAX_VERSION = 2**63 - 1


class State(IntEnum):
    """A version's life, with the numbers of `ModelVersionStatus.State`."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class Standing:
    """Where one version stands: its state, and whether its model should have it (`aspired`)."""

    version: int
    state: State
    aspired: bool


@dataclass(frozen=True)
class Load:
    """Load this version next."""

    version: int


@dataclass(frozen=True)
class Unload:
    """Unload this version next."""

    version: int


def aspired_versions(model: ModelConfig) -> dict[int, Path]:
    """The versions that the model's policy wants of those in its base path, with their folders.

    Raises OSError when the base path cannot be read: what is loaded then stays loaded.
    """
    found = {}
    for child in sorted(Path(model.base_path).iterdir()):
        if _VERSION.fullmatch(child.name) and int(child.name) <= _MAX_VERSION:
            found[int(child.name)] = child
    policy = model.model_version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return found
        case "specific":
            return {version: found[version] for version in policy.specific.versions if version in found}
        case _:
            newest = sorted(found, reverse=True)[: max(policy.latest.num_versions, 1)]
            return {version: found[version] for version in newest}


def next_action(versions: Sequence[Standing]) -> Load | Unload | None:
    """What to do next with one model's versions (core/availability_preserving_policy.cc): load the newest wanted
    version first, and unload the last unwanted one only when a wanted one serves or none is wanted at all."""
    aspired = [standing for standing in versions if standing.aspired]
    unwanted = [s.version for s in versions if not s.aspired and s.state == State.AVAILABLE]
    serving = any(standing.state == State.AVAILABLE for standing in aspired)
    if unwanted and (not aspired or serving or len(unwanted) > 1):
        return Unload(min(unwanted))
    new = [standing.version for standing in aspired if standing.state == State.START]
    return Load(max(new)) if new else None
