"""What is served: every version's state, the labels, and the way from a request to its version."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from deploy.local.model_server.servable import Servable
from deploy.local.model_server.status import StatusError, failed_precondition, invalid_argument, not_found
from deploy.local.model_server.versions import State


@dataclass
class Version:
    """One version of a model, from its folder's appearance to its unloading. Changed under the catalogue's lock."""

    model: str
    number: int
    path: Path
    state: State = State.START
    aspired: bool = True
    """Whether the model should have it, by its folders and its policy."""
    error: StatusError | None = None
    """Why it did not load the last time."""
    servable: Servable | None = field(default=None, repr=False)
    requests: int = 0
    """Requests that run on it now."""
    attempts: int = 0
    """How often it failed to load."""
    retry_at: float = 0.0
    """When to try to load it again, on time.monotonic's clock."""

    def __str__(self) -> str:
        return f"{self.model} version {self.number}"


class Catalogue:
    """Every version ever seen, by model and number, and the labels. The methods are thread-safe.

    As in TensorFlow Serving a version stays listed for ever, an unloaded or failed one in state END.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        """Held to look at or change `versions` and `labels`; notified after each change."""
        self.versions: dict[str, dict[int, Version]] = {}
        self.labels: dict[str, dict[str, int]] = {}

    @contextmanager
    def acquire(self, spec: ModelSpec) -> Iterator[tuple[int, Servable]]:
        """The version that answers a request, with its number; it stays loaded meanwhile. Raises StatusError."""
        with self.changed:
            version, servable = self._find(spec)
            version.requests += 1
        try:
            yield version.number, servable
        finally:
            with self.changed:
                version.requests -= 1
                if not version.requests and version.state != State.AVAILABLE:
                    self.changed.notify_all()

    def states(self, model: str, number: int | None = None) -> list[tuple[int, State, StatusError | None]]:
        """The state of each version ever seen, newest first, or of one. Raises NOT_FOUND when there is none."""
        with self.changed:
            versions = self.versions.get(model, {})
            if number is not None:
                if number not in versions:
                    raise not_found(f"Could not find version {number} of model {model}")
                versions = {number: versions[number]}
            if not versions:
                raise not_found(f"Could not find any versions of model {model}")
            newest_first = sorted(versions.values(), key=lambda version: -version.number)
            return [(v.number, v.state, v.error if v.state == State.END else None) for v in newest_first]

    def available(self) -> dict[str, list[int]]:
        """The versions that serve now, by model."""
        with self.changed:
            return {
                model: sorted(v.number for v in versions.values() if v.state == State.AVAILABLE)
                for model, versions in self.versions.items()
            }

    def set_labels(self, models: Iterable[ModelConfig], *, allow_unavailable: bool) -> None:
        """Takes the labels of these models, and of no others, if each names an available version; with
        `allow_unavailable`, a label that is not in use may name any (model_servers/server_core.cc).

        Raises FAILED_PRECONDITION, and then changes nothing.
        """
        with self.changed:
            for model in models:
                for label, number in model.version_labels.items():
                    unused = self.labels.get(model.name, {}).get(label, number) == number
                    if not (self._is_available(model.name, number) or (allow_unavailable and unused)):
                        raise failed_precondition(
                            f"Request to assign label to version {number} of model {model.name},"
                            " which is not currently available for inference"
                        )
            self.labels = {model.name: dict(model.version_labels) for model in models}

    def served(self, model: str) -> bool:
        """Whether a version of the model is available and every other one was tried at least once.

        Raises StatusError (UNKNOWN) when every version that it should have failed for good.
        """
        with self.changed:
            versions = self.versions.get(model, {}).values()
            wanted = [version for version in versions if version.aspired]
            if wanted and all(version.state == State.END for version in wanted):
                causes = ", ".join(f"{{{{name: {model} version: {v.number}}} due to error: {v.error}}}" for v in wanted)
                raise StatusError(grpc.StatusCode.UNKNOWN, f"1 model(s) did not become available: {{{causes}}}")
            untried = any(v.state in (State.START, State.LOADING) and not v.attempts for v in wanted)
            return not untried and any(version.state == State.AVAILABLE for version in wanted)

    def _is_available(self, model: str, number: int) -> bool:
        version = self.versions.get(model, {}).get(number)
        return version is not None and version.state == State.AVAILABLE

    def _find(self, spec: ModelSpec) -> tuple[Version, Servable]:
        """core/basic_manager.cc and model_servers/server_core.cc: no version means the highest available one."""
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        number = self._number(spec)
        versions = self.versions.get(spec.name, {}).values()
        found = [v for v in versions if v.state == State.AVAILABLE and number in (None, v.number)]
        if not found:
            wanted = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
            raise not_found(f"Servable not found for request: {wanted}")
        version = max(found, key=lambda version: version.number)
        if version.servable is None:
            raise AssertionError(f"{version} is available without a servable")
        return version, version.servable

    def _number(self, spec: ModelSpec) -> int | None:
        match spec.WhichOneof("version_choice"):
            case "version":
                return int(spec.version.value)
            case "version_label":
                labels = self.labels.get(spec.name, {})
                if spec.version_label not in labels:
                    raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
                return labels[spec.version_label]
            case _:
                return None
