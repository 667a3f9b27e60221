from __future__ import annotations

from pathlib import Path

import pytest

from producer.__main__ import run


@pytest.mark.parametrize(
    "arguments",
    [
        ["push"],
        ["push", "--dataset", "--text", "x"],
        ["push", "--text", "x", "--rate", "0"],
        ["push", "--typo", "x"],
        ["push", "reviews.parquet"],
        ["results", "--wait-for", "0"],
        ["dead-letters", "list", "--reason", "bad"],
        ["dead-letters", "list", "--since", "yesterday"],
        ["dead-letters", "show", "0"],
        ["dead-letters", "replay", "--max-attempts", "0"],
    ],
)
def test_wrong_usage_ends_with_2_and_a_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("inferry-producer: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["push", "--wire", "xml", "--text", "x"], ["results", "--nope"]])
def test_what_the_parser_refuses_ends_with_2_too(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        run(arguments)
    assert raised.value.code == 2
    assert "Error" in capsys.readouterr().err


def test_a_file_that_is_not_there_ends_with_66(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["push", str(tmp_path / "none.csv")]) == 66
    assert "No such file" in capsys.readouterr().err
