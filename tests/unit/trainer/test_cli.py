from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.models import TinyModel, export_tiny
from trainer.__main__ import run
from trainer.errors import ExitCode

TEXT = "That movie i saw the other day was fantabulous"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return export_tiny(tmp_path_factory.mktemp("models") / "sentiment_classifier", version=12)


def test_tokens_shows_each_subword_of_the_newest_version(tiny: TinyModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tokens", TEXT, "--models", str(tiny.path.parent.parent)]) == ExitCode.OK

    out = capsys.readouterr().out
    ids = tiny.vocabulary.encode_ids(TEXT)
    assert [line.split() for line in out.splitlines()[1 : len(ids) + 1]] == [
        [str(token), repr(subword)] for token, subword in tiny.vocabulary.pieces(TEXT)
    ]
    assert f"ids: {ids}" in out
    assert f"decoded: {TEXT}" in out
    assert tiny.card.digest in out


def test_tokens_are_those_of_the_text_as_the_card_wants_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_tiny(tmp_path / "sentiment_classifier", version=1, normaliser="plain-1")

    assert run(["tokens", "<p>GOOD   Film!</p>", "--models", str(tmp_path)]) == ExitCode.OK

    out = capsys.readouterr().out
    assert "'good_'" in out
    assert "decoded: good film " in out


def test_tokens_of_a_model_of_tomorrow_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_tiny(tmp_path / "sentiment_classifier", version=1, normaliser="plain-9")

    assert run(["tokens", TEXT, "--models", str(tmp_path)]) == ExitCode.DATA

    assert "version 1: The model's card asks for texts that are normalised by `plain-9`" in capsys.readouterr().err


def test_tokens_of_a_vocabulary_file(tiny: TinyModel, capsys: pytest.CaptureFixture[str]) -> None:
    file = tiny.path / "assets.extra" / "vocabulary.subwords"

    assert run(["tokens", "naïve 🎬 [bold]", "--vocabulary", str(file)]) == ExitCode.OK

    assert "decoded: naïve 🎬 [bold]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (
            ["tokens", "x", "--models", "nowhere"],
            ExitCode.USAGE,
            "there is no model in nowhere/sentiment_classifier yet",
        ),
        (["tokens", "x", "--vocabulary", "gone.subwords"], ExitCode.DATA, "cannot read the vocabulary gone.subwords"),
        (["list", "--models", "nowhere"], ExitCode.USAGE, "there is no model in nowhere/sentiment_classifier yet"),
        (["compare", "1", "2", "--models", "nowhere"], ExitCode.USAGE, "there is no version 1 in"),
        (["quality", "7", "--models", "nowhere"], ExitCode.USAGE, "there is no version 7 in"),
        (["promote", "1", "--label", "stable", "--models", "nowhere"], ExitCode.USAGE, "there is no version 1 in"),
        (["import-tokenizer", "gone.pkl"], ExitCode.DATA, "cannot read gone.pkl"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(
    arguments: list[str],
    code: ExitCode,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    assert run(arguments) == code

    said = capsys.readouterr()
    assert said.err.startswith("inferry-trainer: ")
    assert sentence in said.err
    assert "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("least", "most", "sentence"),
    [
        ("0.7", "0.5", "FROM has to be below TO"),
        ("0.5", "1.5", "both between 0 and 1"),
        ("0.7", "0.9", "has to hold the threshold 0.6"),
        ("0.4", "0.55", "has to hold the threshold 0.6"),
    ],
)
def test_a_range_of_uncertain_scores_that_cannot_be_is_refused(
    least: str, most: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["train", "--uncertain", least, most])

    assert ended.value.code == ExitCode.USAGE
    said = capsys.readouterr()
    assert sentence in " ".join((said.out + said.err).replace("│", " ").split())


def test_without_the_extra_it_says_how_to_get_it() -> None:
    hidden = "import sys; sys.modules['tensorflow'] = None; from trainer.__main__ import main; main()"

    ended = subprocess.run(
        [sys.executable, "-c", hidden, "train"], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == ExitCode.CONFIG
    assert ended.stdout == ""
    assert ended.stderr == (
        "inferry-trainer: training needs the trainer extra (tensorflow is not installed): pip install 'inferry[trainer]'\n"
    )


def test_help_does_not_load_tensorflow() -> None:
    check = (
        "import sys\nfrom trainer.__main__ import run\nassert run(['train', '--help']) == 0\n"
        "assert 'tensorflow' not in sys.modules and 'numpy' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=True)
