"""``kk report``: what the pages say, and what they leave out."""

import html
import json
import re

import numpy as np
import pytest
from factories import make_workspace
from report_world import EVIL, make_world, setup_of

from kaggle_kit import runs
from kaggle_kit.config import RunConfig
from kaggle_kit.errors import ConfigError, DataError, MissingFileError
from kaggle_kit.report import maps
from kaggle_kit.report.make import make_report
from kaggle_kit.report.pictures import rows_to_show
from kaggle_kit.report.sections import SECTIONS
from kaggle_kit.report.subjects import find_subjects


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("report"), class_names=EVIL)


@pytest.fixture(scope="module")
def pages(world):
    """Page of a run, of a blend, and of two runs: (result, text)."""
    found = {}
    for key, names in {"run": ["run0"], "blend": [], "two": ["run0", "run1"]}.items():
        result = make_report(setup_of(world), names)
        found[key] = result, result.path.read_text(encoding="utf-8")
    return found


def text_of(page, anchor):
    """The text of a section, without markup."""
    part = re.search(rf'<section id="{anchor}".*?</section>', page, re.DOTALL)[0]
    return html.unescape(re.sub(r"<[^>]+>", " ", part))


def test_the_page_of_a_run_tells_its_score_with_its_spread(world, pages):
    result, page = pages["run"]
    (subject,) = find_subjects(setup_of(world), ["run0"])
    assert result.path == world.workspace.root / "report" / "run0.html"
    score = text_of(page, "score")
    assert f"{subject.scored.score:.4f}" in score
    assert str(subject.scored.interval) in score
    folds = list(subject.scored.fold_scores.values())
    assert f"{np.mean(folds):.4f} ± {np.std(folds, ddof=1):.4f}" in score


def test_every_section_is_there_or_left_out_with_a_word(pages):
    for key in ("run", "blend"):
        result, page = pages[key]
        left_out = {line.split(":")[0] for line in result.left_out}
        for anchor, heading, _ in SECTIONS:
            assert (f'<section id="{anchor}"' in page) != (heading in left_out), heading


def test_a_blend_shows_weights_and_verdict_and_a_run_its_curves(pages):
    _, blend = pages["blend"]
    assert "PASSED" in text_of(blend, "verdict") or "NOT PROVEN" in text_of(blend, "verdict")
    assert "run1" in text_of(blend, "weights")
    assert "cross-fitted" in text_of(blend, "weights")
    _, run = pages["run"]
    assert "mix" in text_of(run, "verdict")
    assert "<svg" in run[run.index('id="curves"') :]
    assert "views hflip" in text_of(run, "folds")


def test_names_are_shown_and_never_markup(pages):
    for _, page in pages.values():
        assert html.escape(EVIL[0], quote=False) in page or EVIL[0].replace("<", "\\u003c").replace(">", "\\u003e") in page
        for evil in (EVIL[0], EVIL[1], EVIL[4]):
            assert evil not in page
        assert page.count("<script>") == page.count("</script>") - page.count('<script type="application/json"')


def test_cells_hold_the_images_that_are_in_them(world, pages):
    (subject,) = find_subjects(setup_of(world), ["run0"])
    scored = subject.scored
    data = json.loads(re.search(r'id="confusion-data">(.*?)</script>', pages["run"][1], re.DOTALL)[1])
    assert data["classes"] == list(scored.classes)
    wrong = {key: rows for key, rows in data["cells"].items() if len(set(key.split("-"))) == 2}
    assert sum(map(len, wrong.values())) == (scored.labels != scored.truth).sum()
    where = {row_id: row for row, row_id in enumerate(scored.ids)}
    for key, rows in data["cells"].items():
        for row_id, src, *_ in rows:
            row = where[row_id]
            assert key == f"{scored.truth[row]}-{scored.labels[row]}"
            assert src.startswith("data:image/webp")
    assert sum(data["counts"].values()) == len(scored)


def test_two_runs_are_compared_row_by_row(world, pages):
    _, page = pages["two"]
    first, second = (one.scored for one in find_subjects(setup_of(world), ["run0", "run1"]))
    gap = np.mean(second.labels == second.truth) - np.mean(first.labels == first.truth)
    assert f"{gap:.4f}" in text_of(page, "differences")
    only = int(((first.labels == first.truth) & (second.take(order(first, second)).labels != first.truth)).sum())
    assert f" {only} " in text_of(page, "agreement")
    assert "seed" in text_of(page, "settings")


def order(first, second):
    where = {row_id: row for row, row_id in enumerate(second.ids)}
    return np.array([where[row_id] for row_id in first.ids])


def test_pages_ask_for_nothing_from_outside(pages):
    for _, page in pages.values():
        assert not re.search(r'(?:src|href)="(?!data:image/|#)', page)


def test_what_is_not_there_is_named(world):
    with pytest.raises(MissingFileError, match=r"no run or blend 'rum0', but runs run0, run1 and blends mix"):
        make_report(setup_of(world), ["rum0"])
    with pytest.raises(ConfigError, match="--gradcam: run0 has no out-of-fold rows nothing"):
        make_report(setup_of(world), ["run0"], gradcam="nothing")


def test_runs_of_other_metrics_are_not_compared(world, tmp_path):
    other = make_workspace(tmp_path, class_names=EVIL, metric="log_loss")
    mine, theirs = find_subjects(setup_of(world), ["run0"])[0], find_subjects(setup_of(other), ["run0"])[0]
    from kaggle_kit.report.compare import on_common_rows

    with pytest.raises(DataError, match="judged by accuracy"):
        on_common_rows([mine, theirs])


@pytest.mark.parametrize("form", ["labels", "positive"])
def test_other_tasks_leave_out_what_does_not_apply(tmp_path, form):
    made = make_world(tmp_path, form=form, n_runs=1, n_classes=4 if form == "labels" else 2)
    result = make_report(setup_of(made), ["run0"])
    page = result.path.read_text()
    assert ("Confusion" in {line.split(":")[0] for line in result.left_out}) == (form == "labels")
    assert "missed" in text_of(page, "classes")
    assert "expected calibration error" in text_of(page, "calibration")


def test_153_classes_stay_readable_and_pictures_bounded(tmp_path):
    made = make_world(tmp_path, n_classes=153, n_train=800, n_runs=1, n_test=160)
    result = make_report(setup_of(made), ["run0"])
    page = result.path.read_text()
    assert "The 20 most confused of 153 classes" in text_of(page, "confusion")
    assert page.count('scope="row"') == 20
    assert 'id="heat" src="data:image/png' in page
    (subject,) = find_subjects(setup_of(made), ["run0"])
    assert len(rows_to_show(subject)) <= 900
    assert result.n_bytes < 5_000_000


def test_a_missing_image_costs_its_picture_only(tmp_path):
    made = make_world(tmp_path, n_runs=1)
    (subject,) = find_subjects(setup_of(made), ["run0"])
    right, _ = subject.scored.sureness
    gone = subject.scored.ids[int(np.flatnonzero(~right)[0])]
    subject.paths[gone].write_bytes(b"no image")
    page = make_report(setup_of(made), ["run0"]).path.read_text()
    assert gone in page
    assert "no image" in page


def test_a_probe_has_no_curves(tmp_path):
    made = make_world(tmp_path, n_runs=1)
    for fold in range(3):
        path = made.workspace.fold_dir("run0", fold) / runs.HISTORY
        path.write_text("\n".join(line for line in path.read_text().split("\n") if not line.startswith(("0", "2"))))
    left_out = make_report(setup_of(made), ["run0"]).left_out
    assert any(line.startswith("Learning curves: a linear probe") for line in left_out)
    assert isinstance(made.config.run, RunConfig)


def test_the_map_is_laid_out_once_and_puts_like_beside_like(world, monkeypatch):
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(size=(30, 8)), rng.normal(size=(30, 8)) + 20]).astype(np.float32)
    points = maps.lay_out(features)
    near = np.linalg.norm(points[:30] - points[:30].mean(0), axis=1).max()
    assert np.linalg.norm(points[:30].mean(0) - points[30:].mean(0)) > near
    (subject,) = find_subjects(setup_of(world), ["run0"])
    before = maps.map_of(world.workspace, subject)
    monkeypatch.setattr(maps, "lay_out", lambda _features: pytest.fail("laid out again"))
    np.testing.assert_array_equal(maps.map_of(world.workspace, subject).points, before.points)
    assert "log probabilities" in before.text  # these models cannot be loaded


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "other shape"])
def test_a_damaged_map_is_laid_out_again(damage, tmp_path):
    path, points = tmp_path / "map.npy", np.zeros((5, 2), np.float32)
    maps._write(path, points)
    np.testing.assert_array_equal(maps._read(path, 5), points)
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    else:
        np.save(path, np.full((5, 2), "x") if damage == "text" else points[:4])
    assert maps._read(path, 5) is None
