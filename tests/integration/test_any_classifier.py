"""Any text classifier is served by settings alone: one real SavedModel of each kind, through broker, worker and server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import BertWordPieceTokenizer

from tests.integration.conftest import MakeWorld
from tests.integration.test_worker_start import last_words
from tests.support.classifier_models import (
    VERSION,
    SavedClassifier,
    save_keras_positional,
    save_masked,
    save_text,
    save_tokens,
)
from tests.support.harness import review_json
from tests.support.model_server import ServerHandle, running_model_server
from tests.support.models import BAD, GOOD, LETTERS, PLAIN, tiny_vocabulary
from tests.support.worker_world import some_reviews
from trainer.quiet import tf
from worker.text import Vocabulary

TEXTS = [*some_reviews(60), "good", "zwölf 映画 🎬 a_b"]
MOODS = ("negative", "positive")
TOPICS = ("action", "comedy", "drama")
LENGTH = 32
WITHOUT_SCORE = "unfathomable"
"""The word on which one of the models answers NaN."""


@dataclass(frozen=True)
class Case:
    """A kind of model: how it is exported, what the worker is told of it, and what it is fed offline."""

    save: Callable[[Path], SavedClassifier]
    settings: Mapping[str, object]
    rows: Callable[[Sequence[str]], Sequence[Any]]
    labels: tuple[str, ...] = MOODS
    finish: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]] = lambda outputs: outputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classifiers")


@pytest.fixture(scope="module")
def cases(folder: Path) -> dict[str, Case]:
    vocabulary = tiny_vocabulary()
    subwords_path, pieces_path = folder / "imdb.subwords", folder / "vocab.txt"
    subwords_path.write_bytes(vocabulary.dump())
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *word_pieces()]
    pieces_path.write_text("".join(f"{piece}\n" for piece in pieces))
    with_subwords = {"vocabulary": subwords_path}
    size, padding = vocabulary.size, vocabulary.size
    tokens = rows_of(vocabulary, np.int32)
    return {
        "int64_other_names": Case(
            lambda base: save_tokens(
                base,
                size,
                input_name="ids",
                output_name="probability",
                signature="classify",
                dtype=tf.int64,
                padding_id=padding,
            ),
            {**with_subwords, "signature": "classify", "padding_id": padding},
            rows_of(vocabulary, np.int64),
        ),
        "fixed_length": Case(
            lambda base: save_tokens(base, size, length=LENGTH),
            {**with_subwords, "batch_tokens": 4 * LENGTH},
            rows_of(vocabulary, np.int32, LENGTH),
        ),
        "text": Case(save_text, {}, lambda texts: [np.array(text.encode(), object) for text in texts]),
        "softmax_of_three": Case(
            lambda base: save_tokens(base, size, outputs=3, activation="softmax"),
            {**with_subwords, "labels": ",".join(TOPICS), "all_scores": True},
            tokens,
            TOPICS,
        ),
        "logits_of_three": Case(
            lambda base: save_tokens(base, size, outputs=3, activation="linear"),
            {**with_subwords, "labels": ",".join(TOPICS), "all_scores": True, "logits": True},
            tokens,
            TOPICS,
            softmax,
        ),
        "one_logit": Case(
            lambda base: save_tokens(base, size, activation="linear"),
            {**with_subwords, "logits": True},
            tokens,
            finish=lambda outputs: 1 / (1 + np.exp(-outputs)),
        ),
        "keras_positional": Case(
            lambda base: save_keras_positional(base, vocabulary),
            # Its mean counts padding, so a review's score is its own only in a request of its own.
            {**with_subwords, "batch_rows": 1},
            rows_of(vocabulary, np.float32),
        ),
        "word_pieces": Case(
            lambda base: save_tokens(base, len(pieces)),
            {"vocabulary": pieces_path},
            bert_rows(pieces_path),
        ),
    }


@pytest.fixture(scope="module")
def saved(folder: Path, cases: Mapping[str, Case]) -> dict[str, SavedClassifier]:
    return {name: case.save(folder / name) for name, case in cases.items()}


@pytest.fixture(scope="module")
def server(folder: Path, saved: Mapping[str, SavedClassifier]) -> Iterator[ServerHandle]:
    save_masked(folder / "masked")
    save_text(folder / "without_a_score", without_score=WITHOUT_SCORE)
    served = "".join(
        f"config {{ name: '{name}' base_path: '{folder / name}' model_platform: 'tensorflow' }}\n"
        for name in (*saved, "masked", "without_a_score")
    )
    config = folder / "models.config"
    config.write_text(f"model_config_list {{\n{served}}}\n")
    with running_model_server(None, config_file=config) as handle:
        yield handle


@pytest.mark.parametrize(
    "name",
    [
        "int64_other_names",
        "fixed_length",
        "text",
        "softmax_of_three",
        "logits_of_three",
        "one_logit",
        "keras_positional",
        "word_pieces",
    ],
)
def test_it_gives_each_review_the_models_own_score(
    name: str,
    cases: Mapping[str, Case],
    saved: Mapping[str, SavedClassifier],
    server: ServerHandle,
    make_world: MakeWorld,
) -> None:
    case, world = cases[name], make_world(serving=server.grpc_target)
    world.push(map(review_json, TEXTS))
    worker = world.worker(model=name, threshold=0.5, **case.settings)
    world.assert_each_once()
    assert world.dead_letters() == {}
    assert worker.stop() == 0
    text_of = {source: json.loads(record.value or b"")["text"] for source, record in world.inputs().items()}
    expected = dict(zip(TEXTS, case.finish(np.array(saved[name].outputs(case.rows(TEXTS)))), strict=True))
    results = world.results()
    assert len(results) == len(TEXTS)
    for result in results:
        scores = expected[text_of[result.result_id]]
        best = int(scores[0] >= 0.5) if len(scores) == 1 else int(np.argmax(scores))
        assert result.label == case.labels[best]
        assert result.score == pytest.approx(scores[0] if len(scores) == 1 else scores[best], abs=1e-6)
        if case.settings.get("all_scores"):
            assert result.scores == pytest.approx(dict(zip(case.labels, scores, strict=True)), abs=1e-6)
        assert (result.model_name, result.model_version) == (name, VERSION)
    assert {result.label for result in results} == set(case.labels)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("keras_positional", {}, ["embedding_input", "DT_FLOAT [-1, -1]", "`vocabulary`"]),
        ("word_pieces", {"input_name": "ids"}, ["no input ids", "tokens (DT_INT32 [-1, -1])"]),
        ("int64_other_names", {}, ["no signature serving_default", "classify"]),
        ("softmax_of_three", {}, ["scores do not fit the 2 labels negative, positive", "score (DT_FLOAT [-1, 3])"]),
        ("one_logit", {"labels": "bad,so-so,good"}, ["do not fit the 3 labels", "score (DT_FLOAT [-1, 1])"]),
        ("text", {"output_name": "label"}, ["no output label", "score (DT_FLOAT [-1, 1])"]),
        ("masked", {}, ["not one input but 2", "ids (DT_INT32 [-1, -1]), mask (DT_INT32 [-1, -1])"]),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_what_it_takes_and_gives(
    name: str, settings: Mapping[str, object], said: Sequence[str], server: ServerHandle, make_world: MakeWorld
) -> None:
    world = make_world(serving=server.grpc_target)
    world.push([review_json("a good film")])
    worker = world.worker(model=name, **settings)
    assert worker.wait() == 76
    for words in said:
        assert words in last_words(worker)
    assert world.committed() == {}
    assert world.results() == []


def test_a_review_without_a_score_is_a_dead_letter_and_its_neighbours_are_answered(
    server: ServerHandle, make_world: MakeWorld
) -> None:
    world = make_world(serving=server.grpc_target, partitions=1)
    culprits = [f"an {WITHOUT_SCORE} plot", f"{WITHOUT_SCORE} and much longer than the one before it"]
    texts = [*TEXTS[:20], culprits[0], *TEXTS[20:40], culprits[1], *TEXTS[40:]]
    world.push(map(review_json, texts))
    worker = world.worker(model="without_a_score", batch_rows=16)
    world.assert_each_once()
    world.push([review_json(culprits[0])])  # alone in its window
    world.wait_until_answered()
    world.push([review_json("a good film")])
    world.assert_each_once()
    assert worker.stop() == 0
    dead = world.dead_letters()
    assert {json.loads(record.value or b"")["text"] for record, _ in dead.values()} == set(culprits)
    assert [told.reason for _, told in dead.values()] == ["rejected-by-model"] * 3
    assert len(world.results()) == len(texts) - 1


def test_a_logit_model_without_its_setting_is_refused_with_what_to_set(
    folder: Path, server: ServerHandle, make_world: MakeWorld
) -> None:
    world = make_world(serving=server.grpc_target)
    world.push([review_json("a good film")])
    worker = world.worker(model="one_logit", vocabulary=folder / "imdb.subwords")
    assert worker.wait() == 76
    assert "--logits" in last_words(worker)
    assert world.committed() == {}


def rows_of(vocabulary: Vocabulary, dtype: Any, length: int | None = None) -> Callable[[Sequence[str]], list[Any]]:
    """Ids of each text; cut or filled up with 0 where the model wants one length."""

    def rows(texts: Sequence[str]) -> list[Any]:
        encoded = [vocabulary.encode_ids(text) for text in texts]
        if length is not None:
            encoded = [[*ids[:length], *[0] * (length - len(ids))] for ids in encoded]
        return [np.array(ids, dtype) for ids in encoded]

    return rows


def bert_rows(path: Path) -> Callable[[Sequence[str]], list[Any]]:
    """Ids as the `tokenizers` package's own BERT tokenizer gives them."""
    tokenizer = BertWordPieceTokenizer(str(path))
    return lambda texts: [np.array(tokenizer.encode(text).ids, np.int32) for text in texts]


def word_pieces() -> list[str]:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    begin = dict.fromkeys([*GOOD, *BAD[::2], *PLAIN[::2], *letters, "/", "<", ">", "'", "1", "0"])
    return [*begin, *(f"##{piece}" for piece in dict.fromkeys([*letters, *LETTERS]))]


def softmax(outputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    raised = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
