"""The notebook and its metadata: a few cells that call the package, written as plain JSON (nbformat 4)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaggle_kit import files
from kaggle_kit.errors import ConfigError

TITLE_LENGTHS = (6, 50)
"""Characters that Kaggle allows a title of a dataset and of a notebook."""
MACHINE = "NvidiaTeslaT4"

_FIND = """\
import importlib, json, os, subprocess, sys, time
from pathlib import Path

STARTED = time.monotonic()
INPUT = Path(os.environ.get("KK_INPUT_ROOT", "/kaggle/input"))
WORKING = Path(os.environ.get("KK_WORKING_ROOT", "/kaggle/working"))
BUILD = "@BUILD@"  # the dataset that this notebook was built with

def is_ours(path):
    try:
        about = json.loads(path.read_text())
        return about.get("made_by") == "kaggle_kit kernel" and about.get("kind") == "@KIND@"
    except (ValueError, OSError, AttributeError):
        return False

found = []
for depth in range(1, 6):
    found = found or [path for path in INPUT.glob("*/" * depth + "manifest.json") if is_ours(path)]
if not found:
    raise RuntimeError(f"the dataset @DATASET@ is not attached: no manifest of kaggle_kit below {INPUT} (Add Input)")
dataset = found[0].parent
print("dataset:", dataset)"""

_INSTALL = """\
wheels = json.loads((dataset / "manifest.json").read_text())["wheels"]
for wheel in wheels:
    if not (dataset / wheel).is_file():
        print("MISSING:", wheel, "is not in the dataset; going on without it")
        continue
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--find-links", str(dataset)]
    done = subprocess.run([*pip, str(dataset / wheel)], capture_output=True, text=True)
    print("installed:" if done.returncode == 0 else "NOT INSTALLED:", wheel, *done.stderr.strip().splitlines()[-1:])
if not any(wheel.startswith("kaggle_kit-") and (dataset / wheel).is_file() for wheel in wheels):
    raise RuntimeError("the wheel of kaggle_kit itself is missing, nothing can be done without it: upload the dataset again")
importlib.invalidate_caches()"""

_PREDICT = """\
from kaggle_kit.kernel import run_inference_kernel

seconds = float(os.environ.get("KK_BUDGET_SECONDS", @SECONDS@))  # the session ends after nine hours
result = run_inference_kernel(INPUT, WORKING, build=BUILD, started=STARTED, budget_seconds=seconds, say=print)"""

_TRAIN = """\
from kaggle_kit.kernel import run_training_kernel

seconds = float(os.environ.get("KK_BUDGET_SECONDS", @SECONDS@))  # the session ends after nine hours
result = run_training_kernel(INPUT, WORKING, build=BUILD, started=STARTED, budget_seconds=seconds, say=print)"""

_AUTO = """\
from kaggle_kit import Project
from kaggle_kit.auto import run_auto_kernel

seconds = float(os.environ.get("KK_BUDGET_SECONDS", @SECONDS@))  # the session ends after nine hours
result = run_auto_kernel(Project.open, INPUT, WORKING, build=BUILD, started=STARTED, budget_seconds=seconds, say=print)"""

_VERDICT = "print(result)"

_SHOW = """\
import pandas as pd

pd.read_csv(result.submission, dtype=str, keep_default_na=False).head()"""

INTRODUCTIONS = {
    "inference": (
        "# @TITLE@\n\nPredicts the test set of *@COMPETITION@* that is attached when this notebook runs, also the hidden one, "
        "and writes `submission.csv`. No internet is needed: models and wheels come from the dataset `@DATASET@`. Built by "
        "`kk kernel build`; what the cells call is documented in `kaggle_kit.kernel`."
    ),
    "training": (
        "# @TITLE@\n\nTrains the folds of *@COMPETITION@*, and stops cleanly before the session ends. **To go on in the next "
        "session, attach this notebook's own output (Add Input → Your Work) and run it again**; finished folds are kept, the "
        "others go on from their last checkpoint. Runs lie in `kk/runs` of the output; copy them into the `runs` folder of "
        "your workspace. Built by `kk kernel build --train`."
    ),
    "auto": (
        "# @TITLE@\n\nSearches for the best submission to *@COMPETITION@*, as `kk auto` does, and ends before the session. "
        "**To go on, attach this notebook's own output (Add Input → Your Work) and run it again.** "
        "`submission.csv` is the best so far, for the test images that are attached now; for a hidden test set, copy "
        "`kk/folds`, `kk/runs` and `kk/submissions` of the output into your workspace and build a kernel from there. Built by "
        "`kk kernel build --auto`."
    ),
}

STEPS = {
    "inference": (
        ("## Inputs\nFound wherever Kaggle mounts them.", _FIND),
        ("## Packages\nOnly what the image lacks, from the dataset.", _INSTALL),
        (
            "## Prediction\nEvery file is verified by its sha256. Each GPU is tried first. If time runs short, views are left "
            "out first, then folds; an image that cannot be read gets the shares of the classes in the training data.",
            _PREDICT,
        ),
        ("## Verdict\nForm and contract, as `kk check` judges them.", _VERDICT),
        ("## Submission", _SHOW),
    ),
    "training": (
        ("## Inputs\nFound wherever Kaggle mounts them.", _FIND),
        ("## Packages\nOnly what the image lacks, from the dataset.", _INSTALL),
        ("## Training", _TRAIN),
        ("## Result", _VERDICT),
    ),
    "auto": (
        ("## Inputs\nFound wherever Kaggle mounts them.", _FIND),
        ("## Packages\nOnly what the image lacks, from the dataset.", _INSTALL),
        ("## Search\nEach step is a command; `kk/auto` of the output has the journal and a page.", _AUTO),
        ("## Result", _VERDICT),
    ),
}


def slug_of(title: str) -> str:
    """The last part of the address that Kaggle makes of a title: Latin letters and digits, lower-cased, dashes for the rest."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def checked_title(title: str, what: str) -> str:
    """``title`` when Kaggle would take it.

    Raises:
        ConfigError: too short or long, or nothing of it would be left in the address.
    """
    shortest, longest = TITLE_LENGTHS
    if not shortest <= len(title) <= longest or not shortest <= len(slug_of(title)) <= longest:
        raise ConfigError(
            f"the title of the {what} must have {shortest} to {longest} Latin characters, got {title!r}; set --title."
        )
    return title


def checked_address(name: str, what: str) -> str:
    """Return ``name``, a part of an address at Kaggle, which also goes into the text of a notebook.

    Raises:
        ConfigError: it holds other characters than Kaggle allows in it.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ConfigError(
            f"{what}: expected Latin letters, digits, dashes and dots, as in its address at Kaggle, got {name!r}."
        )
    return name


def write_notebook(path: Path, kind: str, names: Mapping[str, str]) -> None:
    """Write the notebook of ``kind``; ``names`` fill the places such as ``@BUILD@``."""
    cells = [_cell("markdown", INTRODUCTIONS[kind], 0, names)]
    for heading, code in STEPS[kind]:
        cells += [_cell("markdown", heading, len(cells), names), _cell("code", code, len(cells) + 1, names)]
    files.write_json(
        path,
        {
            "cells": cells,
            "metadata": {
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                "language_info": {"name": "python", "version": "3.12"},
            },
            "nbformat": 4,
            "nbformat_minor": 5,
        },
    )


def _cell(kind: str, source: str, position: int, names: Mapping[str, str]) -> dict[str, Any]:
    for name, value in names.items():
        source = source.replace(f"@{name.upper()}@", value)
    cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{position}", "metadata": {}, "source": source}
    return cell if kind == "markdown" else {**cell, "execution_count": None, "outputs": []}


def kernel_metadata(
    *,
    owner: str,
    title: str,
    code_file: str,
    dataset: str,
    competition: str,
    gpu: bool = True,
    kernel_sources: Sequence[str] = (),
) -> dict[str, Any]:
    """``kernel-metadata.json``. The machine is named, since Kaggle's default GPU is one that its image cannot use."""
    return {
        "id": f"{owner}/{slug_of(title)}",
        "title": title,
        "code_file": code_file,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": gpu,
        "enable_internet": False,
        **({"machine_shape": MACHINE} if gpu else {}),
        "dataset_sources": [dataset],
        "competition_sources": [competition],
        "kernel_sources": list(kernel_sources),
        "model_sources": [],
    }


def dataset_metadata(*, owner: str, title: str) -> dict[str, Any]:
    """``dataset-metadata.json``. The wheels have licences of their own, which lie inside them."""
    return {"title": title, "id": f"{owner}/{slug_of(title)}", "licenses": [{"name": "other"}]}
