from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.local.ports import free_port
from producer.__main__ import run
from producer.ask import ask
from producer.errors import BadInput, ConnectionConfigError, Unavailable
from tests.support.model_server import ServerAddress

TEXTS = ("that movie was fantastic", "an awful, boring film - the worst", "é 🎬 <br />")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("INFERRY_SERVING", raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_answers_are_the_models_own_in_order(model_server: ServerAddress, model_base_path: Path) -> None:
    from tests.support.models import TinyModel, tiny_vocabulary
    from trainer.card import card_of

    vocabulary = tiny_vocabulary()
    card = card_of(vocabulary, threshold=0.6, max_tokens=4096)
    model = TinyModel(model_base_path / "1", vocabulary, 1, card)
    answers = ask(TEXTS, ["--serving", model_server.grpc_target])
    assert [answer.text for answer in answers] == list(TEXTS)
    assert [answer.score for answer in answers] == pytest.approx(model.score(TEXTS), abs=1e-6)
    assert [answer.label for answer in answers][:2] == ["positive", "negative"]
    assert all(answer.model_version == 1 and sum(answer.scores.values()) == pytest.approx(1) for answer in answers)


def test_the_command_finds_the_stack_and_prints(
    model_server: ServerAddress, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".inferry").mkdir()
    (tmp_path / ".inferry/stack.json").write_text(json.dumps({"bootstrap": "x:1", "grpc": model_server.grpc_target}))
    assert run(["ask", TEXTS[0], TEXTS[1]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["positive", "negative"]
    assert "sentiment_classifier 1)" in lines[0]
    assert run(["ask", "-o", "json", TEXTS[0]]) == 0
    assert json.loads(capsys.readouterr().out)["label"] == "positive"


def test_what_cannot_be_asked_is_told(model_server: ServerAddress, capsys: pytest.CaptureFixture[str]) -> None:
    serving = ["--serving", model_server.grpc_target]
    with pytest.raises(BadInput, match="empty text"):
        ask([" "], serving)
    with pytest.raises((Unavailable, ConnectionConfigError), match="nobody"):
        ask(["x"], [*serving, "--model", "nobody"])
    nowhere = f"127.0.0.1:{free_port()}"
    assert run(["ask", "x", "--serving", nowhere]) == 69
    err = capsys.readouterr().err
    assert nowhere in err
    assert "inferry-local up" in err
    assert run(["ask"]) == 2
