"""Every setting of the worker, read once at start: flag > environment > folder of secrets > file > default.

Environment names are `INFERRY_` and the field in capitals; flags are the field with dashes; the file is TOML with the
field names as keys, named by `--config` or `INFERRY_CONFIG`. Anything contradictory is refused before anything starts.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    CliApp,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from worker.errors import ConfigError
from worker.security.kafka import SECRETS_DIR, SecretsFolderMissing
from worker.settings.model import ModelSettings
from worker.settings.running import RunningSettings
from worker.settings.topics import TopicSettings
from worker.settings.windows import WindowSettings


# pydantic takes the fields of the last base first: --help, `config` and the README tell them from right to left.
class Settings(RunningSettings, WindowSettings, ModelSettings, TopicSettings):
    """The worker's settings; those of the connection to Kafka come first. Frozen; `load` makes it."""

    model_config = SettingsConfigDict(
        env_prefix="INFERRY_",
        frozen=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
    )

    @model_validator(mode="after")
    def _check_time(self) -> Settings:
        silent_seconds = 2 * self.request_timeout_seconds + self.retry_delay_seconds
        if self.stall_seconds <= silent_seconds:
            raise ValueError(
                f"stall-seconds ({self.stall_seconds:g}) must be longer than twice request-timeout-seconds and "
                f"retry-delay-seconds ({silent_seconds:g}): a model server that hangs is noticed after one call and one "
                "probe, and must not turn /livez red before"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """First named wins; the command line's source is put before these by `load`."""
        inherited = super().settings_customise_sources(settings_cls, *sources, **named)
        return (*inherited, TomlConfigSettingsSource(settings_cls, os.environ.get("INFERRY_CONFIG")))

    def redacted(self) -> dict[str, Any]:
        """Field names and values fit to print: secrets are shown as asterisks."""
        return self.model_dump(mode="json")


def load(arguments: Sequence[str]) -> Settings:
    """Reads the settings once, from `arguments` (the command line without the program's name), environment and file.

    Raises ConfigError with one line for each setting that is wrong. An unknown flag, or `--help`, ends the process as
    argparse does (exit code 2 or 0)."""
    unknown = sorted(
        name
        for name in os.environ
        if name.startswith("INFERRY_")
        and name not in ("INFERRY_CONFIG", SECRETS_DIR)
        and name.removeprefix("INFERRY_").lower() not in Settings.model_fields
    )
    if unknown:
        raise ConfigError(f"no such setting: {', '.join(unknown)}. `inferry-worker config` lists all there are")
    named_file = os.environ.get("INFERRY_CONFIG")
    if named_file and not Path(named_file).is_file():
        raise ConfigError(f"the settings file {named_file} (INFERRY_CONFIG) does not exist")
    arguments = [
        "--start" + a.removeprefix("--from") if a == "--from" or a.startswith("--from=") else a for a in arguments
    ]
    try:
        return CliApp.run(Settings, cli_args=arguments)
    except ValidationError as error:
        raise ConfigError(
            "; ".join(_sentence(e) for e in error.errors(include_url=False, include_input=False))
        ) from None
    except (SettingsError, tomllib.TOMLDecodeError, SecretsFolderMissing) as error:
        raise ConfigError(str(error)) from None


def _sentence(error: ErrorDetails) -> str:
    """One line for a person from one of pydantic's errors; values are left out, they may be secret."""
    where = ".".join(str(part) for part in error["loc"])
    what = error["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
