"""The settings that say where Kafka is and how to get in: the same for the worker and for everything at a terminal."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from worker.security.files import Named, check_pem, secret
from worker.security.tokens import TokenSource

SECRETS_DIR = "INFERRY_SECRETS_DIR"
"""The environment variable that names a folder of secrets, such as a mounted Kubernetes Secret: a file for each setting,
named as its environment variable is."""

PASSWORD_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
OAUTHBEARER = "OAUTHBEARER"
MECHANISMS = (*PASSWORD_MECHANISMS, OAUTHBEARER)


class SecretsFolderMissing(Exception):
    """The folder of secrets that the environment names is not there."""


class KafkaSettings(BaseSettings):
    """Where the brokers are, what is shown to them and what they have to show. Refuses what cannot work, and what the
    protocol would silently ignore."""

    model_config = SettingsConfigDict(env_prefix="INFERRY_", frozen=True, hide_input_in_errors=True)

    bootstrap: str = Field(default="localhost:9092", description="Kafka brokers, host:port, comma-separated.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How to talk to the brokers."
    )
    kafka_sasl_mechanism: str = Field(default="", description="PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.")
    kafka_sasl_username: str = Field(default="", description="SASL user.")
    kafka_sasl_password: SecretStr = Field(default=SecretStr(""), description="SASL password. Never logged.")
    kafka_sasl_password_file: str = Field(default="", description="File that holds the SASL password instead.")
    kafka_oauth_token_file: str = Field(
        default="", description="File that holds the OAUTHBEARER token; read anew for each connection."
    )
    kafka_oauth_token_command: SecretStr = Field(
        default=SecretStr(""),
        description="Command that prints the OAUTHBEARER token instead; run without a shell. Never logged.",
    )
    kafka_ssl_cafile: str = Field(
        default="",
        description="PEM file of the authorities that sign the brokers' certificates. Empty: those that the machine trusts.",
    )
    kafka_ssl_certfile: str = Field(default="", description="PEM file of our own certificate for the brokers.")
    kafka_ssl_keyfile: str = Field(
        default="", description="PEM file of its key. Empty: the certificate's file holds it, too."
    )
    kafka_ssl_key_password: SecretStr = Field(
        default=SecretStr(""), description="Password of the key's file, where it is encrypted. Never logged."
    )
    kafka_ssl_key_password_file: str = Field(default="", description="File that holds the key's password instead.")

    def sasl_password(self) -> str:
        """The SASL password, read from its file now where one is named. Raises ValueError."""
        return secret(self.kafka_sasl_password, Named("kafka-sasl-password-file", self.kafka_sasl_password_file))

    def ssl_key_password(self) -> str:
        """The key's password, read from its file now where one is named. Raises ValueError."""
        return secret(
            self.kafka_ssl_key_password, Named("kafka-ssl-key-password-file", self.kafka_ssl_key_password_file)
        )

    @cached_property
    def oauth_tokens(self) -> TokenSource | None:
        """Where OAUTHBEARER's tokens come from, the same for every client; None for another mechanism."""
        if self.kafka_sasl_mechanism != OAUTHBEARER:
            return None
        if self.kafka_oauth_token_file:
            return TokenSource("kafka-oauth-token-file", file=self.kafka_oauth_token_file)
        return TokenSource("kafka-oauth-token-command", command=self.kafka_oauth_token_command.get_secret_value())

    @model_validator(mode="after")
    def _check_security(self) -> KafkaSettings:
        self._check_sasl()
        self._check_tls()
        return self

    def _check_sasl(self) -> None:
        protocol, mechanism = self.kafka_security_protocol, self.kafka_sasl_mechanism
        if not protocol.startswith("SASL"):
            _refuse_ignored(
                self._set("kafka_sasl_", "kafka_oauth_"), f"with kafka-security-protocol {protocol}", "SASL_SSL"
            )
            return
        if not mechanism:
            raise ValueError(f"kafka-security-protocol {protocol} needs kafka-sasl-mechanism: {', '.join(MECHANISMS)}")
        if mechanism not in MECHANISMS:
            raise ValueError(f"kafka-sasl-mechanism {mechanism!r} is not known; there are {', '.join(MECHANISMS)}")
        if mechanism == OAUTHBEARER:
            self._check_token()
            return
        _refuse_ignored(self._set("kafka_oauth_"), f"with kafka-sasl-mechanism {mechanism}", "")
        if not self.kafka_sasl_username:
            raise ValueError(f"kafka-sasl-mechanism {mechanism} needs kafka-sasl-username")
        if not self.sasl_password():
            raise ValueError(f"kafka-sasl-mechanism {mechanism} needs kafka-sasl-password or kafka-sasl-password-file")

    def _check_token(self) -> None:
        given = self._set("kafka_sasl_username", "kafka_sasl_password")
        _refuse_ignored(given, f"with kafka-sasl-mechanism {OAUTHBEARER}", "")
        sources = self._set("kafka_oauth_")
        if len(sources) != 1:
            raise ValueError(
                f"kafka-sasl-mechanism {OAUTHBEARER} needs one of kafka-oauth-token-file and kafka-oauth-token-command"
            )
        if self.oauth_tokens is not None:
            self.oauth_tokens.check()

    def _check_tls(self) -> None:
        protocol = self.kafka_security_protocol
        if not protocol.endswith("SSL"):
            remedy = "SASL_SSL" if protocol.startswith("SASL") else "SSL"
            _refuse_ignored(self._set("kafka_ssl_"), f"with kafka-security-protocol {protocol}", remedy)
            return
        check_pem(
            authorities=Named("kafka-ssl-cafile", self.kafka_ssl_cafile),
            certificate=Named("kafka-ssl-certfile", self.kafka_ssl_certfile),
            key=Named("kafka-ssl-keyfile", self.kafka_ssl_keyfile),
            password=Named("kafka-ssl-key-password", self.ssl_key_password()),
        )

    def _set(self, *prefixes: str) -> list[str]:
        """The settings with a name that begins so and a value that is not empty, as flags are written."""
        names = [name for name in KafkaSettings.model_fields if name.startswith(prefixes)]
        return [name.replace("_", "-") for name in names if _plain(getattr(self, name))]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """First named wins."""
        folder = os.environ.get(SECRETS_DIR) or None
        if folder and not Path(folder).is_dir():
            raise SecretsFolderMissing(f"the folder of secrets {folder} ({SECRETS_DIR}) does not exist")
        return (init_settings, env_settings, SecretsSettingsSource(settings_cls, folder))


def _plain(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _refuse_ignored(names: list[str], where: str, protocol: str) -> None:
    """Raises ValueError for settings that would be ignored: whoever set them believes that they protect something."""
    if names:
        remedy = f"set kafka-security-protocol {protocol}, or leave them out" if protocol else "leave them out"
        raise ValueError(f"{', '.join(names)} would be ignored {where}: {remedy}")
