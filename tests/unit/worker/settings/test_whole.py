from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.readme import settings_table
from worker.errors import ConfigError
from worker.settings import Settings, load


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("INFERRY_")]:
        monkeypatch.delenv(name)


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "worker.toml"
    file.write_text('group = "file"\nmodel = "file"\nserving = "file:1"\n')
    monkeypatch.setenv("INFERRY_CONFIG", str(file))
    monkeypatch.setenv("INFERRY_GROUP", "environment")
    monkeypatch.setenv("INFERRY_MODEL", "environment")
    settings = load(["--group", "flag"])
    assert (settings.group, settings.model, settings.serving) == ("flag", "environment", "file:1")
    assert settings.input_topic == "reviews"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--session-timeout-seconds", "14"], "transaction-timeout-seconds (15) must be shorter than"),
        (["--output-topic", "reviews"], "three different topics"),
        (["--threshold", "1.5"], "threshold: Input should be less than or equal to 1"),
        (["--window-records", "0"], "window_records: Input should be greater than or equal to 1"),
        (["--kafka-security-protocol", "SASL_SSL"], "needs kafka-sasl-mechanism"),
        (["--kafka-group-protocol", "consumer"], "kafka-group-protocol consumer needs kafka-client librdkafka"),
        (["--vocabulary", "/nowhere/words.txt"], "/nowhere/words.txt does not exist"),
        (["--labels", "only"], "at least two"),
        (["--text-field", "review..body"], "'review..body' is no path to a field"),
        (["--text-field", ""], "'' is no path to a field"),
        (["--text-field", "/a~2b"], "'/a~2b' is no JSON pointer"),
        (["--text-field", "body", "--pass-attributes", "*"], "with text-field, name paths"),
        (["--pass-headers", "tenant,Content-Type"], "pass-headers cannot hold Content-Type"),
        (["--retry-delay-seconds", "9"], "must not be longer"),
        (["--stall-seconds", "20"], "stall-seconds (20) must be longer than twice request-timeout-seconds"),
    ],
)
def test_contradictions_are_refused_in_a_sentence(arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(arguments)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_misspelt_environment_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERRY_BOOTSTRP", "localhost:1")
    with pytest.raises(ConfigError, match="INFERRY_BOOTSTRP"):
        load([])


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PROTOCOL": "SASL_SSL", "MECHANISM": "PLAIN", "USERNAME": "me", "PASSWORD": "hunter2"}.items():
        monkeypatch.setenv(f"INFERRY_KAFKA_{'SECURITY' if name == 'PROTOCOL' else 'SASL'}_{name}", value)
    monkeypatch.setenv("INFERRY_THRESHOLD", "hunter2")
    with pytest.raises(ConfigError) as refused:
        load([])
    assert "hunter2" not in str(refused.value)
    monkeypatch.delenv("INFERRY_THRESHOLD")
    settings = load([])
    assert "hunter2" not in str(settings.redacted())
    assert "hunter2" not in repr(settings)
    assert settings.kafka_sasl_password.get_secret_value() == "hunter2"


def test_from_is_another_name_for_start() -> None:
    assert load(["--from", "earliest"]).start == load(["--from=earliest"]).start == "earliest"


def test_every_setting_is_in_the_table_with_its_meaning() -> None:
    table = settings_table()
    for name, field in Settings.model_fields.items():
        assert f"| `{name.replace('_', '-')}` |" in table
        assert field.description
