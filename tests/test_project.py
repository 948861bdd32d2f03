"""One object for the user: what it prints, that importing it is light, and the README's example as it is written."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories import make_workspace

from kaggle_kit import KaggleKitError, Project, __version__
from kaggle_kit.errors import MissingFileError

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_what_repeats_the_version_agrees_with_it():
    root = Path(__file__).parents[1]
    assert f"\nversion: {__version__}\n" in (root / "CITATION.cff").read_text()
    newest = re.search(r"^## (\S+)", (root / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__


def test_importing_the_package_imports_nothing_heavy():
    script = (
        "import sys, kaggle_kit\nassert not {'numpy', 'pandas', 'torch', 'kaggle_kit.project'} & set(sys.modules)\n"
        "from kaggle_kit import Project\nassert not {'numpy', 'pandas', 'torch'} & set(sys.modules)\n"
        "assert set(kaggle_kit.__all__) == {'KaggleKitError', 'Project', '__version__'}\n"
        "try:\n    kaggle_kit.Projekt\nexcept AttributeError as error:\n    assert 'Projekt' in str(error)\n"
        "else:\n    raise SystemExit('a name that is not there was found')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_folder_without_workspace_is_no_project(tmp_path):
    with pytest.raises(MissingFileError, match="kk init"):
        Project.open(tmp_path)


def test_results_print_as_one_line_and_show_as_small_tables(tmp_path):
    root = make_workspace(tmp_path / "work", n_train=300).workspace.root
    project = Project.open(root)
    blend = project.blend()
    results = [project, project.competition, project.folds(duplicates="off", name="other"), blend, blend.report]
    results += [project.compare("run0", "run1"), project.check(blend.path)]
    for result in results:
        assert "\n" not in repr(result)
        assert len(repr(result)) < 300, repr(result)[:400]
        assert len(result._repr_html_()) < 20_000
        assert result._repr_html_().startswith("<p>")


def test_where_a_person_goes_on_computing_there_are_data_frames(tmp_path):
    project = Project.open(make_workspace(tmp_path / "work").workspace.root)
    assert isinstance(project.runs(), pd.DataFrame)
    oof = project.oof("run0")
    assert isinstance(oof, pd.DataFrame)
    right = (oof["label"] == oof["predicted"]).mean()
    assert 0.7 < right <= 1.0
    project.blend()
    assert len(project.submissions()) == 1


def test_paths_are_looked_for_in_the_workspace_whatever_the_current_folder(tmp_path, monkeypatch):
    root = make_workspace(tmp_path / "work").workspace.root
    monkeypatch.chdir(tmp_path)
    project = Project.open("work")
    path = project.blend().path
    assert project.check(path.relative_to(project.workspace.root)).path == path
    assert root.samefile(project.workspace.root)


def small_competition(folder: Path) -> None:
    """Two kinds of pictures that any features tell apart: 24 to train on, 6 to predict."""
    import cv2

    rng = np.random.default_rng(0)
    for number in range(30):
        kind = ("dark", "light")[number % 2]
        place = folder / ("test" if number >= 24 else f"train/{kind}")
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 100, (40, 40, 3)) + (150 if kind == "light" else 0)
        cv2.imwrite(str(place / f"{number:02d}.png"), pixels.astype(np.uint8))
    ids = [f"{number:02d}" for number in range(24, 30)]
    pd.DataFrame({"id": ids, "label": "dark"}).to_csv(folder / "sample_submission.csv", index=False)


def test_the_example_of_the_readme_runs_as_it_is_written(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (folder,) = re.findall(r'Project\.init\("\.\./([\w-]+)"', example)
    small_competition(tmp_path / folder)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    scope: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), scope)
    assert {"project", "run", "blend"} <= set(scope)
    assert scope["run"].scores == [1.0] * 5
    assert list(pd.read_csv(scope["blend"].path)["label"]) == ["dark", "light"] * 3


def test_the_verdict_on_a_file_outside_is_told_and_nothing_is_written_there(tmp_path):
    made = make_workspace(tmp_path / "work")
    project = Project.open(made.workspace.root)
    outside = tmp_path / "elsewhere" / "mine.csv"
    outside.parent.mkdir()
    outside.write_bytes(project.blend().path.read_bytes())
    assert project.check(outside).checks
    assert [path.name for path in outside.parent.iterdir()] == ["mine.csv"]


def test_a_submission_that_is_a_link_to_itself_is_refused_in_words(tmp_path):
    project = Project.open(make_workspace(tmp_path / "work").workspace.root)
    path = project.workspace.submission_path("loop")
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(path)
    with pytest.raises(KaggleKitError, match="loop"):
        project.check(path)


def test_an_own_metric_is_that_of_the_workspace_wherever_one_stands(tmp_path, monkeypatch):
    made = make_workspace(tmp_path / "work", n_runs=2)
    (tmp_path / "work" / "own.py").write_text("def sevenths(truth, probs):\n    return len(truth) / 7\n")
    (tmp_path / "own.py").write_text("def sevenths(truth, probs):\n    return 0.0\n")  # where one stands
    config = tmp_path / "work" / "kk.yaml"
    config.write_text(config.read_text().replace("metric: accuracy", "metric: own.py:sevenths"))
    for record in (tmp_path / "work" / "runs").glob("*/run.json"):
        record.write_text(record.read_text().replace('"accuracy"', '"own.py:sevenths"'))
    monkeypatch.chdir(tmp_path)
    project = Project.open("work")
    blended = project.blend()
    assert blended.scores.in_sample == blended.scores.n / 7 == 120 / 7
    assert blended.report.verdict == "PASSED"
    assert list(project.runs()["metric"]) == ["own.py:sevenths"] * 2
    assert project.compare("run0", "run1").metric == "own.py:sevenths"
    again = Project.init(
        made.workspace.root / "data", "work", metric="own.py:sevenths", force=True, choose={"label_separator": "none"}
    )
    assert again.config.competition.metric == "own.py:sevenths"
