"""Settings of a connection that cannot be right, refused before anything connects, by worker and producer alike."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from producer.connection import Connection
from producer.errors import ConnectionConfigError
from tests.support.certificates import Authority, Issued
from worker.errors import ConfigError, ExitCode
from worker.kafka.drivers.kafka_python.security import security_options
from worker.security import KafkaSettings
from worker.settings import Settings, load

Refusal = Callable[[dict[str, str]], str]
CANARY = "canary-7Qx"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def client(authority: Authority) -> Issued:
    return authority.issue("client")


@pytest.fixture(scope="module")
def locked(authority: Authority) -> Issued:
    """Its key is encrypted with the canary."""
    return authority.issue("locked", password=CANARY)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.environ", {})


@pytest.fixture(params=["worker", "producer"])
def refusal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Refusal:
    """The sentence that settings are refused with, from their names without `kafka_`. Both programs name the same settings,
    each in its own way; what is returned has them as flags."""

    def by_worker(settings: dict[str, str]) -> str:
        with pytest.raises(ConfigError) as refused:
            load([word for name, value in settings.items() for word in (f"--kafka-{name.replace('_', '-')}", value)])
        assert refused.value.exit_code == ExitCode.CONFIG == 78
        return str(refused.value)

    def by_producer(settings: dict[str, str]) -> str:
        for name, value in settings.items():
            monkeypatch.setenv(f"INFERRY_KAFKA_{name.upper()}", value)
        with pytest.raises(ConnectionConfigError) as refused:
            Connection.find()
        assert refused.value.exit_code == 78
        sentence = str(refused.value)
        for name in sorted(KafkaSettings.model_fields, key=len, reverse=True):
            sentence = sentence.replace(f"INFERRY_{name.upper()}", name.replace("_", "-"))
        return sentence

    return by_worker if request.param == "worker" else by_producer


PASSWORD = {"sasl_username": "me", "sasl_password": CANARY}
PLAIN = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", **PASSWORD}
TOKEN = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "OAUTHBEARER"}


def without(settings: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in settings.items() if key != name}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (PASSWORD, "kafka-sasl-username, kafka-sasl-password would be ignored .* PLAINTEXT: set .* SASL_SSL"),
        (PASSWORD | {"security_protocol": "SSL"}, "kafka-sasl-password would be ignored .* SSL: set .* SASL_SSL"),
        ({"sasl_mechanism": "PLAIN"}, "kafka-sasl-mechanism would be ignored"),
        ({"oauth_token_command": f"echo {CANARY}"}, "kafka-oauth-token-command would be ignored"),
        ({"ssl_cafile": "/ca"}, "kafka-ssl-cafile would be ignored .* PLAINTEXT: set .* SSL, or"),
        (PLAIN | {"ssl_certfile": "/c"}, "kafka-ssl-certfile would be ignored .* SASL_PLAINTEXT: set .* SASL_SSL, or"),
        ({"ssl_key_password": CANARY}, "kafka-ssl-key-password would be ignored"),
        (without(PLAIN, "sasl_mechanism"), "SASL_PLAINTEXT needs kafka-sasl-mechanism: PLAIN, SCRAM"),
        (PLAIN | {"sasl_mechanism": "bogus"}, "kafka-sasl-mechanism 'bogus' is not known; there are PLAIN"),
        (without(PLAIN, "sasl_username"), "PLAIN needs kafka-sasl-username"),
        (without(PLAIN, "sasl_password"), "PLAIN needs kafka-sasl-password or kafka-sasl-password-file"),
        (PLAIN | {"sasl_password_file": "/p"}, "kafka-sasl-password-file and kafka-sasl-password are both set"),
        (PLAIN | {"oauth_token_file": "/t"}, "kafka-oauth-token-file would be ignored with .*PLAIN: leave"),
        (TOKEN, "needs one of kafka-oauth-token-file and kafka-oauth-token-command"),
        (TOKEN | {"oauth_token_file": "/t", "oauth_token_command": "echo"}, "needs one of"),
        (TOKEN | PASSWORD, "kafka-sasl-username, kafka-sasl-password would be ignored with .*OAUTHBEARER"),
        (TOKEN | {"oauth_token_file": "/nowhere"}, "kafka-oauth-token-file: /nowhere cannot be read: No such file"),
        (
            TOKEN | {"oauth_token_command": f"no-such {CANARY}"},
            "kafka-oauth-token-command: there is no program no-such",
        ),
        ({"security_protocol": "SSL", "ssl_cafile": "/nowhere"}, "kafka-ssl-cafile: /nowhere cannot be read: No such"),
        ({"security_protocol": "SSL", "ssl_cafile": "/"}, "kafka-ssl-cafile: / cannot be read: Is a directory"),
        ({"security_protocol": "SSL", "ssl_keyfile": "/k"}, "kafka-ssl-keyfile needs kafka-ssl-certfile"),
        (
            without(PLAIN, "sasl_password") | {"sasl_password_file": "/nowhere"},
            "password-file: /nowhere cannot be read",
        ),
        ({"security_protocol": "TLS"}, "kafka.security.protocol: Input should be 'PLAINTEXT'"),
    ],
)
def test_what_cannot_work_or_would_be_ignored_is_refused(refusal: Refusal, settings: dict[str, str], said: str) -> None:
    sentence = refusal(settings)
    assert re.search(said, sentence)
    assert CANARY not in sentence
    assert "\n" not in sentence


def test_files_that_hold_something_else_are_refused(
    refusal: Refusal, client: Issued, locked: Issued, authority: Authority, tmp_path: Path
) -> None:
    other = authority.issue("other")
    odd, damaged = tmp_path / "odd", tmp_path / "damaged"
    odd.write_text(CANARY)
    damaged.write_text(f"-----BEGIN CERTIFICATE-----\n{CANARY}\n-----END CERTIFICATE-----\n")

    def refused(**files: object) -> str:
        sentence = refusal(
            {"security_protocol": "SSL", "ssl_certfile": "", "ssl_keyfile": "", "ssl_key_password": ""}
            | {f"ssl_{name}": str(value) for name, value in files.items()}
        )
        assert CANARY not in sentence
        return sentence

    assert f"kafka-ssl-certfile needs kafka-ssl-keyfile: {client.certificate}" in refused(certfile=client.certificate)
    assert f"kafka-ssl-certfile: {odd} holds no certificate in PEM form" in refused(certfile=odd, keyfile=client.key)
    assert f"kafka-ssl-keyfile: {odd} holds no private key in" in refused(certfile=client.certificate, keyfile=odd)
    mixed = refused(certfile=client.certificate, keyfile=other.key)
    assert f"kafka-ssl-keyfile: the key in {other.key} does not belong to the certificate" in mixed
    unopened = {"certfile": locked.certificate, "keyfile": locked.key}
    assert "is encrypted; set kafka-ssl-key-password" in refused(**unopened)
    assert "kafka-ssl-key-password does not open the key" in refused(**(unopened | {"key_password": "guessed"}))
    assert f"kafka-ssl-cafile: {odd} holds no certificate" in refused(cafile=odd)
    assert f"kafka-ssl-cafile: {damaged} holds a damaged certificate" in refused(cafile=damaged)


def test_an_encrypted_key_opens_with_its_password_from_a_file(
    locked: Issued, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(CANARY + "\n")
    files = {"cafile": authority.certificate, "certfile": locked.certificate, "keyfile": locked.key}
    words = [word for name, path in files.items() for word in (f"--kafka-ssl-{name}", str(path))]
    words += ["--kafka-ssl-key-password-file", str(tmp_path / "password")]
    settings = load(["--kafka-security-protocol", "SSL", *words])
    assert security_options(settings)["ssl_password"] == CANARY
    assert CANARY not in str(settings.redacted()) + repr(settings)


def test_a_certificate_may_hold_its_key(client: Issued) -> None:
    together = client.together()
    load(["--kafka-security-protocol", "SSL", "--kafka-ssl-certfile", str(together)])


def test_a_folder_of_secrets_holds_a_file_for_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "INFERRY_KAFKA_SASL_PASSWORD").write_text(CANARY + "\n")
    monkeypatch.setenv("INFERRY_SECRETS_DIR", str(tmp_path))
    for name, value in {k: v for k, v in PLAIN.items() if k != "sasl_password"}.items():
        monkeypatch.setenv(f"INFERRY_KAFKA_{name.upper()}", value)
    for settings in (load([]), Connection.find()):
        assert settings.sasl_password() == CANARY


@pytest.mark.parametrize("read", [lambda: load([]), Connection.find])
def test_a_folder_of_secrets_that_is_not_there_is_told(
    read: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERRY_SECRETS_DIR", "/nowhere")
    with pytest.raises((ConfigError, ConnectionConfigError), match=r"/nowhere \(INFERRY_SECRETS_DIR\) does not exist"):
        read()


def test_a_refusal_that_nobody_catches_holds_no_secret() -> None:
    with pytest.raises(ValidationError) as raised:
        Settings(kafka_sasl_password=CANARY)
    assert CANARY not in f"{raised.value} {raised.value!r}"


def test_every_client_of_a_program_has_its_tokens_from_one_source() -> None:
    settings = KafkaSettings(
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_mechanism="OAUTHBEARER",
        kafka_oauth_token_command=shlex.join([sys.executable, "-c", "print('token')"]),
    )

    assert settings.oauth_tokens is settings.oauth_tokens
