"""The quality report: its figures by hand, the kept page from the kept figures, the same files each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.models import ROOT, TinyModel, export_tiny
from trainer import data
from trainer.__main__ import run
from trainer.commands import quality as quality_command
from trainer.commands import train as train_command
from trainer.data import Example, Reviews
from trainer.errors import ExitCode
from trainer.evaluation import Confusion
from trainer.options import Training
from trainer.quality import measuring as quality
from trainer.quality import page as quality_page
from trainer.quality.figures import Report, Unsure
from trainer.quality.measuring import Answers
from trainer.quality.perturbations import PERTURBATIONS, Perturbation
from trainer.scoring import Scorer
from trainer.versions.registry import Version

REVIEWS = [
    Example("a fantastic film, really. The best actor! It is a good plot", True),
    Example("awful. What a terrible, boring movie. I hated the plot of it", False),
    Example("the movie is bad and the actor is really awful in that scene", False),
]
SENTENCES = [Example("good fun", True), Example("dull and poor", False)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return export_tiny(tmp_path_factory.mktemp("models") / "sentiment_classifier", version=3, max_tokens=64)


@pytest.fixture(scope="module")
def scorer(tiny: TinyModel) -> Scorer:
    return Scorer(Version(tiny.version, tiny.path))


def test_the_kept_page_is_what_the_kept_figures_say() -> None:
    figures = (ROOT / "trainer" / quality_command.JSON_FILE).read_bytes()
    page = (ROOT / "trainer" / quality_command.PAGE_FILE).read_text()

    report = Report.parse(figures)

    assert report.dump() == figures
    assert quality_page.markdown(report) == page, "`make quality` writes both again"


def test_the_kept_report_has_every_change_there_is() -> None:
    report = Report.parse((ROOT / "trainer" / quality_command.JSON_FILE).read_bytes())

    assert [each.name for each in report.moved] == [each.name for each in PERTURBATIONS]
    assert report.held_out


def test_the_figures_of_a_part_by_hand() -> None:
    part = quality.part(np.array([0.9, 0.55, 0.55, 0.1]), np.array([True, True, False, False]), 0.6)

    half, served = part.at
    assert (half.threshold, half.accuracy, half.confusion) == (0.5, 0.75, Confusion(2, 1, 1, 0))
    assert (served.threshold, served.accuracy, served.confusion) == (0.6, 0.75, Confusion(1, 0, 2, 1))
    assert part.auc == pytest.approx(3.5 / 4)


def test_a_threshold_of_a_half_is_told_once() -> None:
    part = quality.part(np.array([0.9, 0.1]), np.array([True, False]), 0.5)

    assert [each.threshold for each in part.at] == [0.5]


def test_what_is_uncertain_by_hand() -> None:
    scores, positive = np.array([0.9, 0.4, 0.55, 0.7, 0.1]), np.array([True, False, False, True, True])

    found = quality.unsure(scores, positive, 0.4, 0.7)

    assert (found.share, found.accuracy) == (pytest.approx(2 / 5), pytest.approx(2 / 3))
    assert quality.unsure(scores, positive, 0.0, 1.0) == Unsure(0.0, 1.0, 1.0, 1.0)


def test_the_curve_goes_through_the_served_threshold(scorer: Scorer) -> None:
    found = quality.domain(scorer, "x", REVIEWS)

    assert [each.threshold for each in found.curve] == list(quality.THRESHOLDS)
    assert found.all.at[-1] in found.curve
    labelled = [each.confusion.true_positive + each.confusion.false_positive for each in found.curve]
    assert labelled == sorted(labelled, reverse=True)


def test_how_far_scores_move_by_hand(tiny: TinyModel) -> None:
    before = Answers(np.array([0.7, 0.2, 0.55]), np.array([10, 20, 30]))
    after = Answers(np.array([0.5, 0.2, 0.65]), np.array([10, 40, 64]))

    found = quality.moved("x", before, after, np.array([True, False, False]), tiny.card)

    assert (found.reviews, found.tokens_factor, found.truncated) == (3, pytest.approx(1.9), pytest.approx(1 / 3))
    assert found.mean_move == pytest.approx(0.1)
    assert found.mean_shift == pytest.approx(-0.1 / 3)
    assert found.p95_move == pytest.approx(0.19)  # between the two largest, 0.1 and 0.2, nine tenths of the way
    assert found.flipped == pytest.approx(2 / 3)
    assert (found.accuracy_before, found.accuracy_after) == (1.0, pytest.approx(1 / 3))
    assert (found.accuracy_at_half_before, found.accuracy_at_half_after) == pytest.approx((2 / 3, 2 / 3))


def test_a_change_counts_only_the_reviews_it_changes(scorer: Scorer) -> None:
    praise = Perturbation("hated becomes loved", lambda text: text.replace("hated", "loved"))
    nothing = Perturbation("nothing", str)
    begun: list[str] = []

    [found] = quality.moves(scorer, REVIEWS, [nothing, praise], begun.append)

    assert begun == ["nothing", "hated becomes loved"]
    assert found.name == "hated becomes loved"
    assert found.reviews == 1
    assert found.mean_move == found.mean_shift > 0


def test_each_review_is_in_one_range_of_lengths(scorer: Scorer) -> None:
    found = quality.domain(scorer, "x", REVIEWS)

    assert sum(each.reviews for each in found.lengths) == found.all.reviews == 3
    assert all(before[1] is not None and before[1] + 1 == after[0] for before, after in _neighbours())


def _neighbours() -> list[tuple[tuple[int, int | None], tuple[int, int | None]]]:
    return list(zip(quality.LENGTHS, quality.LENGTHS[1:], strict=False))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", "dead letter `empty`"),
        (" \n", "dead letter `empty`"),
        ("good", "positive"),
        ("bad", "negative"),
        ("good " * quality.MAX_BYTES, "dead letter `too-large`"),
    ],
    ids=["empty", "white space", "good", "bad", "too large"],
)
def test_the_answer_is_the_one_the_worker_would_give(scorer: Scorer, text: str, answer: str) -> None:
    assert quality.special(scorer, "x", text).answer == answer


def test_a_second_run_writes_the_same_files_and_says_what_it_does_not_know(
    tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "load", lambda *_: Reviews([], [], REVIEWS, "three reviews"))
    monkeypatch.setattr(data, "package_rows", lambda _: iter(SENTENCES))
    models = str(tiny.path.parent.parent)
    written = []
    for arguments in (["3"], []):
        assert run(["quality", *arguments, "--models", models, "--output", str(tmp_path)]) == ExitCode.OK
        written.append([(tmp_path / name).read_bytes() for name in ("quality.json", "QUALITY.md")])

    assert written[0] == written[1]
    assert b"perhaps: this version does not say" in written[0][1]


def test_a_model_is_trained_where_there_is_none_but_not_for_a_version_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "load", lambda *_: Reviews([], [], REVIEWS, "three reviews"))
    monkeypatch.setattr(data, "package_rows", lambda _: iter(SENTENCES))
    asked: list[Training] = []

    def train(base_path: Path, options: Training) -> None:
        asked.append(options)
        export_tiny(base_path, version=1)

    monkeypatch.setattr(train_command, "show", train)
    arguments = ["--data", "package", "--models", str(tmp_path), "--output", str(tmp_path)]

    assert run(["quality", "1", *arguments]) == ExitCode.USAGE
    assert asked == []
    assert run(["quality", *arguments]) == ExitCode.OK
    assert run(["quality", *arguments]) == ExitCode.OK
    assert asked == [Training(data="package")]


def test_a_folder_that_is_not_there_is_said_in_a_sentence(
    tiny: TinyModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data, "load", lambda *_: Reviews([], [], REVIEWS, "three reviews"))
    monkeypatch.setattr(data, "package_rows", lambda _: iter(SENTENCES))
    models = str(tiny.path.parent.parent)

    assert run(["quality", "--models", models, "--output", "nowhere"]) == ExitCode.CANNOT_CREATE

    assert "cannot write the report nowhere/quality.json" in capsys.readouterr().err
