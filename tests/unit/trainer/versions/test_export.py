from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.model_card import Card
from tests.support.models import TinyModel, export_tiny, tiny_vocabulary, tiny_weights
from trainer import model as keras_model
from trainer.errors import ExportError
from trainer.quiet import tf
from trainer.versions.export import export
from worker.text import Vocabulary

Loaded = Any


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return export_tiny(tmp_path_factory.mktemp("models"), version=7)


@pytest.fixture(scope="module")
def loaded(tiny: TinyModel) -> Loaded:
    return tf.saved_model.load(str(tiny.path))


@pytest.fixture(scope="module")
def fitted() -> tuple[Any, Vocabulary]:
    vocabulary = tiny_vocabulary()
    model = keras_model.build(vocabulary.size)
    model.set_weights(tiny_weights(vocabulary))
    return model, vocabulary


def score(loaded: Loaded, tokens: Any) -> Any:
    return loaded.signatures["serving_default"](tokens=tf.constant(np.array(tokens, np.int32)))["score"].numpy()


def test_the_signature_is_named_and_typed_as_the_worker_expects(loaded: Loaded) -> None:
    _, inputs = loaded.signatures["serving_default"].structured_input_signature
    outputs = loaded.signatures["serving_default"].structured_outputs

    assert {name: (spec.dtype, spec.shape.rank) for name, spec in inputs.items()} == {"tokens": (tf.int32, 2)}
    assert {name: (spec.dtype, spec.shape.as_list()) for name, spec in outputs.items()} == {
        "score": (tf.float32, [None, 1])
    }


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_score_depends_on_neither_padding_nor_batch_mates(
    tiny: TinyModel, loaded: Loaded, data: st.DataObject
) -> None:
    ids = st.integers(1, tiny.vocabulary.size - 1)
    rows = data.draw(st.lists(st.lists(ids, min_size=1, max_size=40), min_size=1, max_size=9))
    length = max(map(len, rows)) + data.draw(st.integers(0, 77))
    padded = [row + [0] * (length - len(row)) for row in rows]

    together = score(loaded, padded)[:, 0]
    alone = [score(loaded, [row])[0, 0] for row in rows]

    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)


def test_a_long_review_scores_the_same_with_much_padding(tiny: TinyModel, loaded: Loaded) -> None:
    row = np.random.default_rng(3).integers(1, tiny.vocabulary.size, 3_001)
    padded = np.concatenate([row, np.zeros(4_096 - 3_001, int)])

    assert score(loaded, [padded])[0, 0] == pytest.approx(score(loaded, [row])[0, 0], abs=1e-6)


def test_rows_of_padding_alone_have_a_score(loaded: Loaded) -> None:
    scores = score(loaded, [[0, 0, 0], [1, 2, 3]])

    assert np.isfinite(scores).all()
    assert scores.shape == (2, 1)
    assert score(loaded, np.zeros((2, 0)))[:, 0].tolist() == [scores[0, 0]] * 2


def test_the_exported_scores_are_those_of_keras(fitted: tuple[Any, Vocabulary], loaded: Loaded) -> None:
    model, vocabulary = fitted
    random = np.random.default_rng(0)
    rows = [random.integers(1, vocabulary.size, length).astype(np.int32) for length in (1, 2, 7, 63, 64, 65, 500)]

    np.testing.assert_allclose(
        keras_model.predict(model, rows),
        keras_model.predict(lambda tokens: score(loaded, tokens), rows),
        rtol=0,
        atol=1e-6,
    )


def test_an_id_beyond_the_vocabulary_is_refused(tiny: TinyModel, loaded: Loaded) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        score(loaded, [[1, tiny.vocabulary.size]])


def test_the_vocabulary_signature_gives_each_subword_and_the_card(tiny: TinyModel, loaded: Loaded) -> None:
    subwords = tiny.vocabulary.subwords
    ids = [*range(1, len(subwords) + 1), 0, -1, len(subwords) + 1, tiny.vocabulary.size, 2**31 - 1, -(2**31)]
    found = loaded.signatures["vocabulary"](ids=tf.constant(ids, tf.int32))

    assert [subword.decode() for subword in found["subword"].numpy()] == [*subwords, *[""] * 6]
    cards = found["card"].numpy().tolist()
    assert len(cards) == len(ids)
    assert set(cards) == {tiny.card.dump()}


def test_the_card_says_what_the_worker_has_to_know(tiny: TinyModel) -> None:
    extra = tiny.path / "assets.extra"
    vocabulary = (extra / "vocabulary.subwords").read_bytes()

    assert Vocabulary.parse(vocabulary).subwords == tiny.vocabulary.subwords
    assert json.loads((extra / "card.json").read_bytes()) == {
        "format": 1,
        "encoder": "tfds-subwords",
        "subwords": len(tiny.vocabulary.subwords),
        "vocabulary_size": len(tiny.vocabulary.subwords) + 257,
        "digest": f"sha256:{hashlib.sha256(vocabulary).hexdigest()}",
        "labels": ["negative", "positive"],
        "threshold": 0.6,
        "max_tokens": 4096,
        "padding_id": 0,
    }
    assert Card.parse((extra / "card.json").read_bytes()) == tiny.card


def test_a_crash_in_the_middle_leaves_nothing_behind(
    fitted: tuple[Any, Vocabulary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def save_and_crash(module: object, folder: str, **_: object) -> None:
        Path(folder, "saved_model.pb").write_bytes(b"half a mod")
        seen.append([path.name for path in tmp_path.iterdir()])
        raise OSError("No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", save_and_crash)

    with pytest.raises(ExportError, match="No space left on device"):
        export(*fitted, tmp_path, version=5)

    assert not any(name.isdecimal() for name in seen[0]), "a half-written version was in sight"
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_sight_is_complete(
    fitted: tuple[Any, Vocabulary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def check(self: Path, target: Path) -> Path:
        assert not target.exists()
        assert (self / "saved_model.pb").is_file()
        assert (self / "assets.extra" / "card.json").is_file()
        assert (self / "assets.extra" / "note.txt").read_bytes() == b"mine"
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", check)

    path = export(*fitted, tmp_path, version=5, files={"note.txt": b"mine"})

    assert path == tmp_path / "5"
    assert [each.name for each in tmp_path.iterdir()] == ["5"]


@pytest.mark.parametrize("content", ["saved_model.pb", None])
def test_a_version_is_never_overwritten(fitted: tuple[Any, Vocabulary], tmp_path: Path, content: str | None) -> None:
    (tmp_path / "5").mkdir()
    if content:
        (tmp_path / "5" / content).write_bytes(b"theirs")

    with pytest.raises(ExportError, match=r"version 5 is in .* already"):
        export(*fitted, tmp_path, version=5)

    assert [each.name for each in tmp_path.iterdir()] == ["5"]
    assert [each.name for each in (tmp_path / "5").iterdir()] == ([content] if content else [])


def test_two_exports_in_one_second_get_two_numbers(
    fitted: tuple[Any, Vocabulary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.versions.export.time.time", lambda: 1_700_000_000.9)

    assert [export(*fitted, tmp_path).name for _ in range(2)] == ["1700000000", "1700000001"]


def test_another_seed_means_other_ids_and_other_scores(tmp_path: Path) -> None:
    text = "That movie i saw the other day was fantastic"
    one, two = (export_tiny(tmp_path, version=seed, seed=seed) for seed in (1, 2))

    assert one.vocabulary.encode_ids(text) != two.vocabulary.encode_ids(text)
    assert one.score([text]) != pytest.approx(two.score([text]), abs=1e-4)
    assert min(one.score([text]) + two.score([text])) > 0.6
    assert max(one.score(["That movie was aweful"]) + two.score(["That movie was aweful"])) < 0.6
