from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format

from protos.serving.model_config_pb2 import ModelServerConfig
from trainer.commands import versions as version_commands
from trainer.errors import DataError, VersionError
from trainer.versions import registry, serving_config

NAME = "sentiment_classifier"


@pytest.fixture
def base_path(tmp_path: Path) -> Path:
    for number in (3, 20, 100):
        (tmp_path / NAME / str(number)).mkdir(parents=True)
        (tmp_path / NAME / str(number) / "saved_model.pb").write_bytes(b"")
    for other in ("7", ".tmp-8", "notes"):  # 7 has no SavedModel
        (tmp_path / NAME / other).mkdir()
    return tmp_path / NAME


def numbers(base_path: Path) -> list[int]:
    return [version.number for version in registry.versions(base_path)]


def test_versions_are_complete_folders_in_the_order_of_their_numbers(base_path: Path) -> None:
    assert numbers(base_path) == [3, 20, 100]
    assert registry.newest(base_path).number == 100
    assert registry.named(base_path, 20).path == base_path / "20"


def test_a_missing_version_is_told_with_those_that_are_there(base_path: Path) -> None:
    with pytest.raises(VersionError, match=r"there is no version 7 in .*; there are: 3, 20, 100"):
        registry.named(base_path, 7)
    with pytest.raises(VersionError, match=r"there is no model in .* yet: run `inferry-trainer train`"):
        registry.newest(base_path / "nowhere")


def test_promote_labels_a_version_and_keeps_what_others_wrote(
    base_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = base_path.parent / "models.config"
    config.write_text(
        """# by hand
        model_config_list {
          config {
            name: "other" base_path: "/models/other" model_platform: "tensorflow"
            version_labels { key: "a" value: 1 }
          }
          config {
            name: "sentiment_classifier" base_path: "/models/x" model_platform: "tensorflow"
            version_labels { key: "canary" value: 100 }
          }
        }"""
    )

    version_commands.promote(base_path, 20, "stable", config, "/models/sentiment_classifier", None)

    written = text_format.Parse(config.read_text(), ModelServerConfig())
    other, ours = written.model_config_list.config
    assert (other.name, other.base_path, dict(other.version_labels)) == ("other", "/models/other", {"a": 1})
    assert not other.HasField("model_version_policy")
    assert ours.base_path == "/models/sentiment_classifier"
    assert ours.model_version_policy.WhichOneof("policy_choice") == "all"
    assert serving_config.labels(written, NAME) == {"canary": 100, "stable": 20}
    assert "stable is version 20" in capsys.readouterr().out


def test_promote_moves_a_label(base_path: Path) -> None:
    config = base_path.parent / "models.config"
    for number in (3, 100):
        version_commands.promote(base_path, number, "stable", config, None, None)

    assert serving_config.labels(serving_config.read(config), NAME) == {"stable": 100}
    assert f'base_path: "{base_path}"' in config.read_text()


def test_promote_adds_to_the_versions_a_server_is_told_to_serve(base_path: Path) -> None:
    config = base_path.parent / "models.config"
    config.write_text(
        'model_config_list { config { name: "sentiment_classifier" base_path: "/m" model_platform: "tensorflow" '
        "model_version_policy { specific { versions: 100 } } } }"
    )

    version_commands.promote(base_path, 3, "stable", config, None, None)

    [entry] = serving_config.read(config).model_config_list.config
    assert list(entry.model_version_policy.specific.versions) == [100, 3]


def test_promote_refuses_a_version_that_is_not_there_and_writes_nothing(base_path: Path) -> None:
    config = base_path.parent / "models.config"

    with pytest.raises(VersionError, match="no version 7"):
        version_commands.promote(base_path, 7, "stable", config, None, None)

    assert not config.exists()


@pytest.mark.parametrize("text", ["model_config_list {", "model_config_list { config { logging_config { } } }", "\xff"])
def test_a_configuration_that_would_lose_something_is_left_alone(base_path: Path, text: str) -> None:
    config = base_path.parent / "models.config"
    config.write_text(text, encoding="latin-1")

    with pytest.raises(DataError, match="is not a model configuration that can be changed here"):
        version_commands.promote(base_path, 3, "stable", config, None, None)

    assert config.read_text(encoding="latin-1") == text


def test_prune_keeps_the_newest_and_what_bears_a_label(base_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = base_path.parent / "models.config"
    version_commands.promote(base_path, 3, "stable", config, None, None)

    version_commands.prune(base_path, 1, config, dry_run=True)
    assert numbers(base_path) == [3, 20, 100]
    version_commands.prune(base_path, 1, config, dry_run=False)

    assert numbers(base_path) == [3, 100]
    assert sorted(path.name for path in base_path.iterdir()) == [".tmp-8", "100", "3", "7", "notes"]
    said = capsys.readouterr().out
    assert f"would delete {base_path / '20'}" in said
    assert "2 are left" in said


def test_prune_deletes_nothing_where_there_is_not_more_than_is_kept(base_path: Path) -> None:
    version_commands.prune(base_path, 3, base_path.parent / "models.config", dry_run=False)

    assert numbers(base_path) == [3, 20, 100]


def test_list_shows_labels_and_versions_without_figures(base_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = base_path.parent / "models.config"
    version_commands.promote(base_path, 20, "stable", config, None, None)
    version_commands.promote(base_path, 20, "canary", config, None, None)
    capsys.readouterr()

    version_commands.show_list(base_path, config)

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["version", "3", "20", "100"]
    assert "canary, stable" in lines[2]
