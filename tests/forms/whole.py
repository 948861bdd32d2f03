"""The whole way of one competition of the suite: from its folder to a graded submission, and through its kernel."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import graders
import pandas as pd
from form import Form
from pictures import Folder

from kaggle_kit import Project
from kaggle_kit.competition.setup import Setup, open_setup
from kaggle_kit.errors import DataError
from kaggle_kit.kernel.bundle import write_manifest
from kaggle_kit.kernel.dataset import choose_recipe, write_inference
from kaggle_kit.kernel.runtime import run_inference_kernel
from kaggle_kit.kernel.sandbox.inputs import visible_images, write_hidden_rows

TINY = {
    "model": "test_resnet",
    "pretrained": False,
    "image_size": 32,
    "epochs": 8,
    "batch_size": 8,
    "lr": 3e-3,
    "augment": "none",
    "data.workers": 0,
    "data.crop_pct": 1.0,
}


@dataclass(frozen=True)
class Outcome:
    """What became of a competition.

    Attributes:
        concluded: what `kk init` said, in a few words.
        check: the verdict of `kk check`.
        score: by the page's formula; nan where nothing was sent.
        kernel: largest difference of the kernel's submission to that written at home, as text; "same" where there is none.
    """

    concluded: str
    check: str
    score: float
    kernel: str


def run(form: Form, root: Path) -> Outcome:
    """Lay the competition out in ``root`` and go the whole way."""
    shutil.rmtree(root, ignore_errors=True)
    folder = Folder(root / form.slug)
    folder.root.mkdir(parents=True)
    answers = form.write(folder)
    given = dict(text.split("=", 1) for text in form.typed)
    if form.refused:
        try:
            Project.init(folder.root, root / "work")
        except DataError as error:
            return Outcome(f"refused: {str(error).split(':')[-1].strip()[:80]}", "", float("nan"), "")
        raise AssertionError(f"{form.slug} is no classification, and was taken for one")
    project = Project.init(folder.root, root / "work", **given)
    section = project.config.competition
    project.folds(n_folds=2, duplicates="off")
    project.train(**TINY)
    project.predict()
    blend = project.blend(tune_thresholds=section.submission.form == "labels")
    assert blend.path is not None
    assert blend.report is not None
    sent = graders.read(blend.path, answers, form.rows_per_id)
    kernel = _kernel(project, root, blend.path, folder.root)
    source = section.containers[-1].kind if section.containers else section.train.layout
    words = f"{source}, {section.task} of {len(section.classes)}, {section.submission.form}, {section.metric}"
    if section.train.group_column:
        words += f", groups by {section.train.group_column}"
    return Outcome(words, blend.report.verdict, form.grade(sent, answers), kernel)


def _kernel(project: Project, root: Path, submission: Path, data: Path) -> str:
    """Run the kernel of the blend on the competition as Kaggle mounts it; compare its submission."""
    setup = open_setup(project.workspace)
    recipe, _ = choose_recipe(project.workspace, setup.competition, runs=(), blend=None, force=True)
    dataset = root / "input" / "dataset"
    dataset.mkdir(parents=True)
    write_inference(dataset, setup, recipe, half=False)
    write_manifest(dataset, "inference", ())
    shutil.copytree(data, root / "input" / data.name)
    (root / "working").mkdir()
    made = run_inference_kernel(root / "input", root / "working")
    assert made.passed, str(made)
    _hidden(setup, root, submission)
    one, other = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in (submission, made.submission))
    if one.equals(other):
        return "same"
    furthest = float((one.iloc[:, 1:].astype(float) - other.iloc[:, 1:].astype(float)).abs().to_numpy().max())
    assert furthest < 1e-3, f"the kernel's submission is another: {furthest}"
    return f"within {furthest:.0e}"


def _hidden(setup: Setup, root: Path, submission: Path) -> None:
    """Run the kernel on other rows, where the test set is a table of pixels: each is answered as its original."""
    visible = visible_images(setup.competition, setup.data_dir, None)
    config = setup.config.competition
    shutil.copytree(root / "input" / "dataset", root / "hidden" / "dataset")
    source = (setup.workspace.root / config.data_dir).resolve()
    hidden = write_hidden_rows(root / "hidden" / "competition", visible, config, source)
    if hidden is None:
        return
    (root / "elsewhere").mkdir()
    made = run_inference_kernel(root / "hidden", root / "elsewhere")
    assert made.passed, str(made)
    one, other = (pd.read_csv(path, dtype=str).set_index(config.submission.id_column) for path in (submission, made.submission))
    assert list(other.index) == [image.id for image in hidden]
    expected = one.loc[[str(image.origin) for image in hidden]]
    assert expected.iloc[:, 0].tolist() == other.iloc[:, 0].tolist()
