"""Many classes from training to the check: with the threshold lowered, twelve are as good as sixty thousand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from kaggle_kit import Project, sparse
from kaggle_kit.choices import BLENDERS
from kaggle_kit.diagnosis import confused_groups
from kaggle_kit.errors import ConfigError, KaggleKitError
from kaggle_kit.metrics import get_metric
from kaggle_kit.runs import read_oof, read_run
from kaggle_kit.sparse import SparseRows
from kaggle_kit.tables import read_predictions

NAMES = [f"plant {number:02}" for number in range(12)]
KEPT = 6
TINY = {
    "model": "test_resnet",
    "pretrained": False,
    "image_size": 32,
    "epochs": 12,
    "batch_size": 6,
    "lr": 1e-2,
    "augment": "none",
    "data.workers": 0,
    "data.crop_pct": 1.0,
}


def picture(kind: int, number: int) -> np.ndarray:
    noise = np.random.default_rng(100 * kind + number).integers(0, 40, (32, 32, 3)).astype(np.uint8)
    noise[:, 8 * (kind // 3) :][:, :8, kind % 3] += 200
    return noise


def make_project(root: Path, sample: str, **options: str) -> Project:
    """A workspace of two runs, predicted with mirrored views."""
    data = root / "plants"
    for kind, name in enumerate(NAMES):
        (data / "train" / name).mkdir(parents=True)
        for number in range(4):
            cv2.imwrite(str(data / "train" / name / f"{kind}_{number}.png"), picture(kind, number))
    (data / "test").mkdir()
    for kind in range(len(NAMES)):
        cv2.imwrite(str(data / "test" / f"t{kind:02}.png"), picture(kind, 9))
    ids = [f"t{kind:02}.png" for kind in range(len(NAMES))]
    pd.DataFrame({"image": ids, "plant": sample}).to_csv(data / "sample_submission.csv", index=False)
    project = Project.init(data, root / "work", **options)
    project.folds(n_folds=2, duplicates="off")
    for seed in (0, 1):
        project.train(**TINY, seed=seed, run=f"run{seed}")
    project.predict(tta="vflip")
    return project


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Project]:
    """The same runs kept whole and sparse."""
    found = {"whole": make_project(tmp_path_factory.mktemp("whole"), NAMES[0])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse, "DENSE_CLASSES", 10)
        patch.setattr(sparse, "KEPT", KEPT)
        found["sparse"] = make_project(tmp_path_factory.mktemp("sparse"), NAMES[0])
    return found


@pytest.fixture(autouse=True)
def _few_is_many(monkeypatch: pytest.MonkeyPatch, both: dict[str, Project]) -> None:
    monkeypatch.setattr(sparse, "DENSE_CLASSES", 10)
    monkeypatch.setattr(sparse, "KEPT", KEPT)


def oof(project: Project, run: str = "run0"):
    return read_oof(read_run(project.workspace, run))


def test_out_of_fold_rows_score_what_whole_ones_score(both: dict[str, Project]) -> None:
    whole, few = oof(both["whole"]), oof(both["sparse"])
    assert isinstance(few.probs, SparseRows)
    assert not isinstance(whole.probs, SparseRows)
    assert few.probs.columns.shape[1] == KEPT
    folds = pd.read_csv(both["whole"].workspace.folds_path("folds"), dtype=str).set_index("id")["label"]
    truth = whole.classes.encode(folds.loc[list(whole.ids)])
    for name in ("accuracy", "f1_macro", "map_5", "top_3"):
        assert get_metric(name)(truth, few.probs) == pytest.approx(get_metric(name)(truth, whole.probs), abs=1e-6)
    np.testing.assert_allclose(np.asarray(few.probs).sum(axis=1), 1, atol=1e-5)
    records = [read_run(project.workspace, "run0").folds[0].record.score for project in both.values()]
    assert records[0] == pytest.approx(records[1], abs=1e-9)


@pytest.mark.parametrize("method", ["mean", "gmean", "weights", "hill-climb", "temperature", "auto"])
def test_a_blend_says_what_that_of_whole_rows_says_and_is_checked(both: dict[str, Project], method: str) -> None:
    whole, few = (project.blend(method=method) for project in both.values())
    assert few.scores.cross_fitted == pytest.approx(whole.scores.cross_fitted, abs=1e-6)
    one, other = (pd.read_csv(blend.path, dtype=str) for blend in (whole, few))
    pd.testing.assert_frame_equal(one, other)
    made = read_predictions(few.path.with_suffix(".probs.parquet"))
    assert isinstance(made.probs, SparseRows)
    assert made.probs.columns.shape[1] <= KEPT
    failed = [check for check in few.report.checks if check.status == "failed"]
    assert not failed
    assert [check.name for check in few.report.checks] == [check.name for check in whole.report.checks]


def test_methods_that_go_class_by_class_say_so(both: dict[str, Project]) -> None:
    for name, blender in BLENDERS.items():
        if blender.by_class:
            with pytest.raises(ConfigError, match="class by class"):
                both["sparse"].blend(method=name)


def test_exchanged_labels_are_found(both: dict[str, Project]) -> None:
    blend = both["sparse"].blend(name="exchanged")
    frame = pd.read_csv(blend.path, dtype=str)
    frame["plant"] = frame["plant"].map(dict(zip(NAMES, NAMES[1:] + NAMES[:1], strict=True)))
    frame.to_csv(blend.path, index=False)
    report = both["sparse"].check(blend.path)
    assert any(check.name == "cells: file" and check.status == "failed" for check in report.checks)


def test_ranked_guesses(tmp_path: Path) -> None:
    project = make_project(tmp_path, " ".join(name.replace(" ", "_") for name in NAMES[:5]), metric="map_5")
    blend = project.blend()
    assert not [check for check in blend.report.checks if check.status == "failed"]


def test_views_of_several_sizes_are_refused_before_anything_is_predicted(both: dict[str, Project]) -> None:
    with pytest.raises(KaggleKitError, match="views of one size"):
        both["sparse"].predict(tta="vflip+larger")


def test_the_page_of_a_run_names_the_worst_classes_and_draws_no_matrix(both: dict[str, Project]) -> None:
    page = both["sparse"].report("run0").path.read_text(encoding="utf-8")
    assert "too many classes for a matrix" in page
    assert "The worst classes" in page or "F1" in page


def test_what_needs_whole_tables_says_so_before_it_computes_anything(both: dict[str, Project], monkeypatch) -> None:
    monkeypatch.setattr(sparse, "MOST_DENSE", 100)
    project = both["sparse"]
    images, out = project.workspace.root.parent / "plants" / "test", project.workspace.root / "said.csv"
    with pytest.raises(KaggleKitError, match="all probabilities of"):
        project.predict_images(images, out=out, run=str(project.workspace.run_dir("run0")))
    with pytest.raises(KaggleKitError, match="needs all pairs"):
        confused_groups(np.zeros(3, dtype=np.int64), np.full((3, 12), 1 / 12), largest=3, least=0.1)
