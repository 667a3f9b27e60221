from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from trainer import blog_tokenizer
from trainer.__main__ import run
from trainer.errors import DataError, ExitCode
from trainer.quiet import tfds

SUBWORDS = ["the_", "movie_", "aw", "ful_", "e\u0301", "\\&undsc"]


@pytest.fixture(scope="module")
def encoder() -> Any:
    return tfds.deprecated.text.SubwordTextEncoder(SUBWORDS)


class Evil:
    """What it does when it is unpickled, is done at once."""

    def __init__(self, call: Any, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_vocabulary_of_a_pickled_encoder(encoder: Any, protocol: int) -> None:
    encoder.encode("the awful movie_ at 8")  # its cache is in the pickle, too

    vocabulary = blog_tokenizer.read(pickle.dumps(encoder, protocol))

    assert list(vocabulary.subwords) == SUBWORDS
    assert vocabulary.encode_ids("the awful movie") == encoder.encode("the awful movie")


def test_the_name_it_had_until_2020() -> None:
    module = b"tensorflow_datasets.core.features.text.subword_text_encoder"
    pickled = b"\x80\x02c" + module + b"\nSubwordTextEncoder\n)\x81}X\x09\x00\x00\x00_subwords]X\x02\x00\x00\x00a_asb."

    assert blog_tokenizer.read(pickled).subwords == ("a_",)


@pytest.mark.parametrize(
    ("evil", "name"),
    [
        (Evil(os.system, "touch harm"), "posix.system"),
        (Evil(eval, "open('harm', 'w')"), "builtins.eval"),
        (Evil(getattr, "x", "join"), "builtins.getattr"),
        (Evil(os.mkdir, "harm"), "posix.mkdir"),
        (collections.OrderedDict(a=1), "collections.OrderedDict"),
        ({"harmless": Evil(exec, "open('harm', 'w')")}, "builtins.exec"),
    ],
)
def test_anything_else_is_refused_by_name_and_not_run(
    evil: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(DataError, match=f"asks for {name}, which is no part of"):
        blog_tokenizer.read(pickle.dumps(evil))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "data", [b"", b"not a pickle", pickle.dumps([1, 2, 3]), pickle.dumps({"_subwords": ["a"]}), b"\x80\x04\x95"]
)
def test_what_is_no_pickled_encoder(data: bytes) -> None:
    with pytest.raises(DataError):
        blog_tokenizer.read(data)


def test_an_encoder_cut_short(encoder: Any) -> None:
    with pytest.raises(DataError, match="not a pickle that can be read"):
        blog_tokenizer.read(pickle.dumps(encoder)[:-100])


def test_the_command_writes_a_vocabulary_file_once(
    encoder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pickled = tmp_path / "tokenizer.pkl"
    pickled.write_bytes(pickle.dumps(encoder))

    assert run(["import-tokenizer", str(pickled)]) == ExitCode.OK
    encoder.save_to_file(str(tmp_path / "tfds"))

    assert (tmp_path / "tokenizer.subwords").read_bytes() == (tmp_path / "tfds.subwords").read_bytes()
    assert run(["import-tokenizer", str(pickled)]) == ExitCode.CANNOT_CREATE
    assert "cannot write" in capsys.readouterr().err


def test_the_command_says_what_it_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pickled = tmp_path / "tokenizer.pkl"
    pickled.write_bytes(pickle.dumps(Evil(os.system, "true")))

    assert run(["import-tokenizer", str(pickled)]) == ExitCode.DATA

    said = capsys.readouterr().err
    assert f"{pickled}: the pickle asks for posix.system" in said
    assert "Traceback" not in said
    assert not (tmp_path / "tokenizer.subwords").exists()
