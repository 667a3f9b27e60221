"""Which versions are served: loads, unloads, labels, and the way from a request to its version."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import grpc
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from deploy.local.model_server.config import check_config
from deploy.local.model_server.servable import Servable
from deploy.local.model_server.status import StatusError, failed_precondition, invalid_argument, not_found
from deploy.local.model_server.versions import Load, Standing, State, Unload, aspired_versions, next_action

_log = logging.getLogger(__name__)


@dataclass
class Version:
    """One version of a model, from its folder's appearance to its unloading. Changed under the manager's lock."""

    model: str
    number: int
    path: Path
    state: State = State.START
    aspired: bool = True
    error: StatusError | None = None
    servable: Servable | None = field(default=None, repr=False)
    requests: int = 0
    """Requests that run on it now."""
    attempts: int = 0
    retry_at: float = 0.0
    """When to try to load it again, on time.monotonic's clock."""

    def __str__(self) -> str:
        return f"{self.model} version {self.number}"


@dataclass(frozen=True)
class Policy:
    """How the manager goes about it; the fields are TensorFlow Serving's flags of these names."""

    file_system_poll_wait_seconds: float = 1.0
    """0 looks once, and after each reload."""
    max_num_load_retries: int = 5
    load_retry_interval_seconds: float = 60.0
    allow_version_labels_for_unavailable_models: bool = False


class Manager:
    """The served models. Everything public is thread-safe; one thread of its own loads and unloads.

    As in TensorFlow Serving a version stays in the list of states for ever, an unloaded or failed one in state END.
    """

    def __init__(self, load: Callable[[Path], Servable], policy: Policy) -> None:
        """`load` makes a servable of a version's folder, and raises StatusError when it cannot."""
        self._load_servable = load
        self._policy = policy
        self._changed = threading.Condition()
        self._reload_lock = threading.Lock()
        self._models: dict[str, ModelConfig] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._versions: dict[str, dict[int, Version]] = {}
        self._poll_complaints: dict[str, str] = {}
        self._poll_now = True
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="versions", daemon=True)

    def start(self, config: ModelServerConfig) -> None:
        """Takes the first configuration and starts loading; `reload` without a wait. Raises StatusError."""
        self._configure(config)
        self._thread.start()

    def reload(self, config: ModelServerConfig, *, keep_waiting: Callable[[], bool] = lambda: True) -> None:
        """Serves what `config` says from now on; returns when its new models are available.

        Raises StatusError when the configuration is refused (the old one then goes on) or a new model fails.
        """
        with self._reload_lock:
            new = self._configure(config)
            self.wait_until_served(sorted(new), keep_waiting=keep_waiting)

    def wait_until_served(
        self, models: Sequence[str] | None = None, *, keep_waiting: Callable[[], bool] = lambda: True
    ) -> None:
        """Returns when every one of the models has an available version and no version that was not tried yet.

        Raises StatusError (UNKNOWN) when one of them has versions and all of them failed.
        """
        with self._changed:
            names = sorted(self._models) if models is None else models
            for name in names:
                while not self._settled(name) and keep_waiting() and not self._closing:
                    self._changed.wait(0.2)

    @contextmanager
    def acquire(self, spec: ModelSpec) -> Iterator[tuple[int, Servable]]:
        """The version that answers a request, held loaded meanwhile. Raises StatusError (server_core.cc)."""
        with self._changed:
            version = self._find(spec)
            servable = version.servable
            assert servable is not None, "an available version has a servable"  # noqa: S101
            version.requests += 1
        try:
            yield version.number, servable
        finally:
            with self._changed:
                version.requests -= 1
                if not version.requests and version.state != State.AVAILABLE:
                    self._changed.notify_all()

    def states(self, model: str, version: int | None = None) -> list[tuple[int, State, StatusError | None]]:
        """The state of each version ever seen, newest first, or of one. Raises NOT_FOUND when there is none."""
        with self._changed:
            versions = self._versions.get(model, {})
            if version is not None:
                if version not in versions:
                    raise not_found(f"Could not find version {version} of model {model}")
                versions = {version: versions[version]}
            if not versions:
                raise not_found(f"Could not find any versions of model {model}")
            newest_first = sorted(versions.values(), key=lambda version: -version.number)
            return [(v.number, v.state, v.error if v.state == State.END else None) for v in newest_first]

    def available(self) -> dict[str, list[int]]:
        """The versions that serve now, by model."""
        with self._changed:
            return {
                model: sorted(v.number for v in versions.values() if v.state == State.AVAILABLE)
                for model, versions in self._versions.items()
            }

    def close(self, grace_seconds: float) -> None:
        """Stops loading, and waits until no request runs, at most `grace_seconds`. Idempotent."""
        deadline = time.monotonic() + grace_seconds
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            while self._busy() and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(min(left, 0.05))

    # -- the configuration ------------------------------------------------------------------------------------

    def _configure(self, config: ModelServerConfig) -> set[str]:
        """Checks and takes a configuration; returns the models that are new in it."""
        check_config(config)
        models = {model.name: model for model in config.model_config_list.config}
        with self._changed:
            self._labels = {name: self._checked_labels(model) for name, model in models.items()}
            new = set(models) - set(self._models)
            self._models = models
            self._poll_now = True
            self._changed.notify_all()
        return new

    def _checked_labels(self, model: ModelConfig) -> dict[str, int]:
        versions = self._versions.get(model.name, {})
        current = self._labels.get(model.name, {})
        for label, number in model.version_labels.items():
            available = number in versions and versions[number].state == State.AVAILABLE
            unused = current.get(label, number) == number
            if not available and not (self._policy.allow_version_labels_for_unavailable_models and unused):
                raise failed_precondition(
                    f"Request to assign label to version {number} of model {model.name},"
                    " which is not currently available for inference"
                )
        return dict(model.version_labels)

    # -- requests ---------------------------------------------------------------------------------------------

    def _find(self, spec: ModelSpec) -> Version:
        """core/basic_manager.cc: an unset version means the highest one that is available."""
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        versions = self._versions.get(spec.name, {})
        if choice is None:
            available = [v for v in versions.values() if v.state == State.AVAILABLE]
            if not available:
                raise not_found(f"Servable not found for request: Latest({spec.name})")
            return max(available, key=lambda version: version.number)
        number = spec.version.value
        if choice == "version_label":
            labels = self._labels.get(spec.name, {})
            if spec.version_label not in labels:
                raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
            number = labels[spec.version_label]
        version = versions.get(number)
        if version is None or version.state != State.AVAILABLE:
            raise not_found(f"Servable not found for request: Specific({spec.name}, {number})")
        return version

    def _settled(self, model: str) -> bool:
        versions = self._versions.get(model, {}).values()
        wanted = [version for version in versions if version.aspired]
        if not wanted:
            return False
        if all(version.state == State.END for version in wanted):
            causes = ", ".join(
                f"{{{{name: {model} version: {version.number}}} due to error: {version.error}}}" for version in wanted
            )
            raise StatusError(grpc.StatusCode.UNKNOWN, f"1 model(s) did not become available: {{{causes}}}")
        untried = any(version.state in (State.START, State.LOADING) and not version.attempts for version in wanted)
        return not untried and any(version.state == State.AVAILABLE for version in versions)

    def _busy(self) -> bool:
        return any(version.requests for versions in self._versions.values() for version in versions.values())

    # -- the thread that loads and unloads --------------------------------------------------------------------

    def _run(self) -> None:
        next_poll = 0.0
        while not self._closing:
            if self._poll_now or time.monotonic() >= next_poll:
                self._poll()
                wait = self._policy.file_system_poll_wait_seconds
                next_poll = time.monotonic() + wait if wait > 0 else float("inf")
            if self._act():
                continue
            with self._changed:
                if not self._closing and not self._poll_now:
                    due = min([next_poll, *(version.retry_at for version in self._retries())])
                    self._changed.wait(min(max(due - time.monotonic(), 0), 3600))

    def _poll(self) -> None:
        """Brings each version's `aspired` up to date with the file system and the configuration."""
        with self._changed:
            self._poll_now = False
            models = dict(self._models)
        found: dict[str, dict[int, Path]] = {name: {} for name in self._versions if name not in models}
        for name, model in models.items():
            try:
                found[name] = aspired_versions(model)
                complaint = (
                    "" if found[name] else f"no numbered folder under {model.base_path} that {name} should serve"
                )
            except OSError as error:
                complaint = f"could not read the base path {model.base_path} of {name}: {error.strerror}"
            if complaint and self._poll_complaints.get(name) != complaint:
                _log.warning("waiting: %s", complaint)
            self._poll_complaints[name] = complaint
        with self._changed:
            for name, folders in found.items():
                self._aspire(name, folders)
            self._changed.notify_all()

    def _aspire(self, model: str, folders: dict[int, Path]) -> None:
        versions = self._versions.setdefault(model, {})
        for number, version in versions.items():
            gone_and_back = version.state == State.END and not version.aspired and number in folders
            version.aspired = number in folders and not gone_and_back
            if not version.aspired and version.state in (State.START, State.LOADING):
                version.state = State.END  # given up before it ever served; its last error stays
        for number, path in folders.items():
            if number not in versions or not versions[number].aspired:
                versions[number] = Version(model, number, path)

    def _act(self) -> bool:
        """Takes one step, where one is due: returns whether it did."""
        with self._changed:
            step = self._next_step()
        if step is not None:
            step()
        return step is not None

    def _next_step(self) -> Callable[[], None] | None:
        for versions in self._versions.values():
            match next_action([Standing(v.number, v.state, v.aspired) for v in versions.values()]):
                case Unload(number):
                    return partial(self._unload, versions[number])
                case Load(number):
                    return partial(self._load, versions[number])
        due = [version for version in self._retries() if version.retry_at <= time.monotonic()]
        return partial(self._load, due[0]) if due else None

    def _retries(self) -> list[Version]:
        versions = (version for versions in self._versions.values() for version in versions.values())
        return [version for version in versions if version.state == State.LOADING and version.attempts]

    def _load(self, version: Version) -> None:
        started = time.monotonic()
        with self._changed:
            version.state = State.LOADING
            self._changed.notify_all()
        try:
            servable = self._load_servable(version.path)
        except StatusError as error:
            self._load_failed(version, error)
            return
        with self._changed:
            version.servable, version.state, version.error = servable, State.AVAILABLE, None
            self._changed.notify_all()
        _log.info("loaded %s in %.2f s", version, time.monotonic() - started)

    def _load_failed(self, version: Version, error: StatusError) -> None:
        with self._changed:
            version.attempts += 1
            left = self._policy.max_num_load_retries + 1 - version.attempts
            if left > 0:
                version.retry_at = time.monotonic() + self._policy.load_retry_interval_seconds
            else:
                version.state = State.END
            version.error = error
            self._changed.notify_all()
        _log.warning("%s does not load (%s tries left): %s", version, max(left, 0), error)

    def _unload(self, version: Version) -> None:
        """New requests do not find it any more, those that run finish, then it goes (core/basic_manager.cc)."""
        with self._changed:
            version.state = State.UNLOADING
            while version.requests and not self._closing:
                self._changed.wait()
            if self._closing:
                return
            servable, version.servable = version.servable, None
        if servable is not None:
            servable.close()
        with self._changed:
            version.state = State.END
            self._changed.notify_all()
        _log.info("unloaded %s", version)
