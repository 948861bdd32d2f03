"""The notebooks run from top to bottom as they are, with less training; and what is committed is what they put out."""

import re
from pathlib import Path

import nbformat
import pytest
from execute import NOTEBOOKS, machine_paths, run, texts

LARGEST = 700_000  # bytes
STORIES = ("10_plant_pathology", "11_plantnet", "12_sushi", "13_scenes", "14_flowers")
"""Notebooks that tell a project's story on pictures that they draw."""
SMALLER = {
    "01_quickstart": {"N_FOLDS": 2, "EPOCHS": 2},
    "02_kaggle_inference": {"N_FOLDS": 2, "EPOCHS": 2},
    "03_kaggle_training": {"N_FOLDS": 2, "EPOCHS": 2, "FIRST_SESSION": 1},
    **{name: {"N_FOLDS": 2, "EPOCHS": 1} for name in STORIES},
}
"""Values for the parameters' cell of each notebook."""
FACTS = {
    "01_quickstart": [r"PASSED", r"grader</td>\s*<td>passed</td>"],
    "02_kaggle_inference": [
        r"check passed: True",
        r"same file: True",
        r"form: test images +360 test images",
        r"passed: submission.csv, 360 rows, \d",
        r"passed: submission.csv, 200 rows, 1 of them without a prediction",
        r"fold0.safetensors is damaged",
        r"left out: run \S+ fold 0 \(damaged\); 1 image that cannot be read",
    ],
    "03_kaggle_training": [
        r"training begins",
        r"folds, stopped: the time limit is reached",
        r"going on from digits/session2",
        r"(\d) of \1 folds, finished",
        r"check passed: True",
    ],
    **{name: [r"PASSED", r"grader</td>\s*<td>passed</td>"] for name in STORIES},
}
FACTS["11_plantnet"] += [r"FAILED\n- foreign: .* alphabetical list of classes"]
"""What stands in the output, however long it was trained."""

notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def said(notebook: nbformat.NotebookNode) -> str:
    return "\n".join(texts(notebook))


def share_right(text: str) -> float:
    """What the notebook says of the private answers; in a story also what the grader's check gives by another metric."""
    said_so = r"(\d\.\d+) (?:of \d+ (?:private|hidden) answers are right|on [\d,]+ rows of answers\.csv)"
    return min(float(share) for share in re.findall(said_so, text))


@notebooks
def test_the_committed_outputs_tell_the_story(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert path.stat().st_size < LARGEST
    assert machine_paths(notebook) == []
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))  # in one go, from the top
    assert not [output for cell in code for output in cell.outputs if output.get("name") == "stderr"]
    text = said(notebook)
    for fact in FACTS[path.stem]:
        assert re.search(fact, text), fact
    assert share_right(text) > (0.85 if path.stem in STORIES else 0.97)


@notebooks
def test_the_notebook_runs(path, tmp_path):
    notebook = run(path, tmp_path, **SMALLER[path.stem])
    nbformat.validate(notebook)
    assert machine_paths(notebook) == []
    text = said(notebook)
    for fact in FACTS[path.stem]:
        assert re.search(fact, text), fact
    assert share_right(text) > 0.6
    assert len(list(tmp_path.iterdir())) == 1  # all in a folder of its own


def test_a_parameter_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="EPOCH = …"):
        run(NOTEBOOKS[0], tmp_path, EPOCH=1)


def test_paths_of_this_machine_are_found():
    def paths(text: str) -> list[str]:
        return machine_paths(nbformat.v4.new_notebook(cells=[cell(text)]))

    def cell(text: str) -> nbformat.NotebookNode:
        return nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("stream", text=text)])

    assert paths(f"wrote {Path.cwd() / 'x.csv'}")
    assert paths("in 'C:\\Users'")
    assert not paths("digits/work, below /kaggle/input, folds 5/5, https://example.org/a/b")
