"""Workspaces whose pages the tests look at, on disk and in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from factories import Made, make_workspace

from kaggle_kit import runs
from kaggle_kit.blending.blend import blend
from kaggle_kit.competition import Setup

EVIL = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "plain & simple", "$\\frac{1}{2}$", "</script><b>")
HISTORY = """epoch,train_loss,valid_loss,accuracy,lr,seconds,images_per_second,train_accuracy
0,,2.0,0.2,0.001,0,0,
1,1.5,1.0,0.6,0.001,1,9,0.5
2,0.9,0.8,0.7,0.0005,1,9,0.75
"""


def setup_of(made: Made) -> Setup:
    """Return what commands take."""
    return Setup(made.workspace, made.config, made.competition)


def make_world(root: Path, **options: Any) -> Made:
    """Fabricate a workspace with histories and a blend called "mix"."""
    made = make_workspace(root, **{"n_train": 90, "n_test": 30, "views": "hflip", "accuracy": 0.7, **options})
    for name in made.spec.run_names:
        for fold in range(made.folds.n_splits):
            text = HISTORY.replace("accuracy,lr", f"{made.competition.metric},lr")
            (made.workspace.fold_dir(name, fold) / runs.HISTORY).write_text(text)
    blend(setup_of(made), name="mix", method="weights")
    return made
