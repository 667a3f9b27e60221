"""Loads and unloads versions, so that what is served follows the file system and the configuration."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from deploy.local.model_server.catalogue import Catalogue, Version
from deploy.local.model_server.config import check_config
from deploy.local.model_server.servable import Servable
from deploy.local.model_server.status import StatusError
from deploy.local.model_server.versions import Load, Standing, State, Unload, aspired_versions, next_action

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Policy:
    """How the manager goes about it; the fields are TensorFlow Serving's flags of these names."""

    file_system_poll_wait_seconds: float = 1.0
    """0 or less: look once, and after each reload."""
    max_num_load_retries: int = 5
    load_retry_interval_seconds: float = 60.0
    allow_version_labels_for_unavailable_models: bool = False


class Manager:
    """Keeps a catalogue up to date: one thread of its own looks, loads and unloads, one step at a time."""

    def __init__(self, catalogue: Catalogue, load: Callable[[Path], Servable], policy: Policy) -> None:
        """`load` makes a servable of a version's folder, and raises StatusError when it cannot."""
        self._catalogue = catalogue
        self._changed = catalogue.changed
        self._load_servable = load
        self._policy = policy
        self._reload_lock = threading.Lock()
        self._models: dict[str, ModelConfig] = {}
        self._complaints: dict[str, str] = {}
        self._look_now = True
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="versions", daemon=True)

    def start(self, config: ModelServerConfig, *, keep_waiting: Callable[[], bool]) -> None:
        """`reload` for the first time: starts the thread too."""
        self._configure(config)
        self._thread.start()
        self._wait_until_served(self._models, keep_waiting)

    def reload(self, config: ModelServerConfig, *, keep_waiting: Callable[[], bool]) -> None:
        """Serves what `config` says from now on; returns when its new models are available, or when `keep_waiting`
        says no. What changes in models that are not new happens soon after. Thread-safe.

        Raises StatusError when the configuration is refused (the old one then goes on) or a new model fails.
        """
        with self._reload_lock:
            self._wait_until_served(self._configure(config), keep_waiting)

    def close(self, grace_seconds: float) -> None:
        """Stops loading and unloading; waits up to `grace_seconds` for the step under way. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(grace_seconds)

    def _configure(self, config: ModelServerConfig) -> set[str]:
        """Checks and takes a configuration; returns the models that are new in it."""
        check_config(config)
        models = {model.name: model for model in config.model_config_list.config}
        with self._changed:
            self._catalogue.set_labels(
                models.values(), allow_unavailable=self._policy.allow_version_labels_for_unavailable_models
            )
            new = set(models) - set(self._models)
            self._models = models
            self._look_now = True
            self._changed.notify_all()
        return new

    def _wait_until_served(self, models: Iterable[str], keep_waiting: Callable[[], bool]) -> None:
        with self._changed:
            for model in models:
                while not self._catalogue.served(model) and keep_waiting() and not self._closing:
                    self._changed.wait(0.2)

    # What follows runs on the manager's own thread.

    def _run(self) -> None:
        next_look = 0.0
        while not self._closing:
            if self._look_now or time.monotonic() >= next_look:
                self._look()
                wait = self._policy.file_system_poll_wait_seconds
                next_look = time.monotonic() + wait if wait > 0 else float("inf")
            with self._changed:
                step = self._next_step()
                if step is None and not self._closing and not self._look_now:
                    due = min([next_look, *(version.retry_at for version in self._retries())])
                    self._changed.wait(min(max(due - time.monotonic(), 0), threading.TIMEOUT_MAX))
            if step is not None:
                step()

    def _look(self) -> None:
        """Brings each version's `aspired` up to date with the file system and the configuration."""
        with self._changed:
            self._look_now = False
            models = dict(self._models)
            gone = set(self._catalogue.versions) - set(models)
        found: dict[str, dict[int, Path]] = {name: {} for name in gone}
        for name, model in models.items():
            try:
                found[name] = aspired_versions(model)
                complaint = "" if found[name] else f"{model.base_path} has no numbered folder that {name} should serve"
            except OSError as error:  # what is loaded stays loaded
                complaint = f"cannot read {model.base_path}, the base path of {name}: {error.strerror}"
            if complaint and self._complaints.get(name) != complaint:
                _log.warning("waiting: %s", complaint)
            self._complaints[name] = complaint
        with self._changed:
            for name, folders in found.items():
                _aspire(name, self._catalogue.versions.setdefault(name, {}), folders)
            self._changed.notify_all()

    def _next_step(self) -> Callable[[], None] | None:
        for versions in self._catalogue.versions.values():
            match next_action([Standing(v.number, v.state, v.aspired) for v in versions.values()]):
                case Unload(number):
                    return partial(self._unload, versions[number])
                case Load(number):
                    return partial(self._load, versions[number])
        due = [version for version in self._retries() if version.retry_at <= time.monotonic()]
        return partial(self._load, due[0]) if due else None

    def _retries(self) -> Iterator[Version]:
        for versions in self._catalogue.versions.values():
            yield from (version for version in versions.values() if version.state == State.LOADING)

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
        """Unlike TensorFlow Serving's, this wait for the next try holds nothing else up."""
        with self._changed:
            version.attempts += 1
            version.error = error
            version.retry_at = time.monotonic() + self._policy.load_retry_interval_seconds
            left = self._policy.max_num_load_retries + 1 - version.attempts
            if left <= 0:
                version.state = State.END
            self._changed.notify_all()
        _log.warning("%s does not load, tries left: %d: %s", version, max(left, 0), error)

    def _unload(self, version: Version) -> None:
        """New requests do not find it any more, those that run finish, then it goes (core/basic_manager.cc)."""
        with self._changed:
            version.state = State.UNLOADING
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closing or not version.requests)
            if version.requests:
                return
            servable, version.servable = version.servable, None
        if servable is not None:
            servable.close()
        with self._changed:
            version.state = State.END
            self._changed.notify_all()
        _log.info("unloaded %s", version)


def _aspire(model: str, versions: dict[int, Version], folders: dict[int, Path]) -> None:
    """The folders are what the model should have now (core/aspired_versions_manager.cc)."""
    for number, version in list(versions.items()):
        if number in folders and version.state == State.END and not version.aspired:
            del versions[number]  # it is back: a new life
            continue
        version.aspired = number in folders
        if not version.aspired and version.state in (State.START, State.LOADING):
            version.state = State.END  # given up before it ever served
    for number, path in folders.items():
        versions.setdefault(number, Version(model, number, path))
