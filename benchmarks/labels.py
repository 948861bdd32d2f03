"""Does reviewing the most suspect labels find the wrong ones, and what does training with the review change?

    python benchmarks/labels.py DATA FOLDER [--share 0.05] [--seeds 0 1] [--reviewed 50 100 200] [--image-size 128]

DATA is a competition with a folder for each class. It is laid out in FOLDER again, by links, with a share of its labels made
wrong: the image is put into the folder of another class, half of them of that which a probe on the true labels finds most
likely besides the true one, as people err, and half of any. The folds are made with the wrong labels, as a competitor would.

`kk train --strategy probe` is run on the wrong labels, `kk labels` orders them, and a reviewer who knows the truth looks at
the first N: how many of the planted ones are among them? Then the probe is trained again with the review, and both runs are
scored out of fold: by the labels as given, as reviewed, and on unreviewed rows, all of which `kk labels --effect` says, and by
the true labels, which nobody has in a competition.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import HERE, describe, hardware, print_table, say

PROBE: dict[str, Any] = {"model": "tf_efficientnet_lite0", "strategy": "probe"}
Truth = dict[str, str]


def lay_out(data: Path, target: Path, wrong: dict[str, str]) -> Truth:
    """Link the images of ``data`` into ``target``, those in ``wrong`` into another class's folder; return id -> true class.

    Args:
        wrong: path below ``train`` -> class.
    """
    truth = {}
    for path in sorted((data / "train").glob("*/*")):
        label, name = path.parent.name, f"{path.parent.name}_{path.name}"  # names repeat across classes
        place = target / "train" / wrong.get(f"{label}/{path.name}", label) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path.resolve())
        truth[f"{place.parent.name}/{name}"] = label
    (target / "test").symlink_to((data / "test").resolve())
    (target / "sample_submission.csv").symlink_to((data / "sample_submission.csv").resolve())
    return truth


def start(root: Path, data: Path) -> Any:
    """Make a workspace of ``data`` with folds and a probe called "given"."""
    from kaggle_kit import Project

    project = Project.init(data, root, force=True)
    project.folds()
    project.train(run="given", **PROBE)
    return project


def plant(project: Any, share: float, seed: int) -> dict[str, str]:
    """Choose labels to make wrong, half of them as the probe would; return path below ``train`` -> wrong class."""
    rng = np.random.default_rng(seed)
    oof = project.oof("given")
    names = list(project.competition.classes)
    chosen = rng.choice(len(oof), round(share * len(oof)), replace=False)
    wrong = {}
    for place, row in enumerate(chosen.tolist()):
        cells = oof.iloc[row]
        others = [name for name in names if name != cells["label"]]
        likely = max(others, key=lambda name: cells[f"p_{name}"])
        label, _, name = str(cells["id"]).rpartition("/")[2].partition("_")
        wrong[f"{label}/{name}"] = likely if place % 2 else str(rng.choice(others))
    return wrong


def review_first(project: Any, truth: Truth, count: int) -> tuple[int, int]:
    """Review the first ``count`` suspects as one who knows the truth; write ``labels/first<count>.csv``.

    Returns:
        How many labels were wrong, and how many rows cleanlab takes for wrong in all.
    """
    from kaggle_kit.reviews import Review, make_entry, write_review

    issues = project.labels(table=True, runs="given")
    review, classes = Review(), project.competition.classes
    for one in issues.suspects[:count]:
        true = (truth[one.id],)
        decision = "right" if true == one.labels else "wrong"
        review = review.with_entry(make_entry(one.id, decision, true, one.labels, classes=classes))
    write_review(project.workspace.labels_path(f"first{count}"), review)
    return review.counts["wrong"], issues.n_issues


def true_score(project: Any, run: str, truth: Truth) -> float:
    """Return the out-of-fold accuracy by the true labels."""
    oof = project.oof(run)
    return float(np.mean([truth[row_id] == predicted for row_id, predicted in zip(oof["id"], oof["predicted"], strict=True)]))


def measure(data: Path, folder: Path, share: float, seed: int, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Return a row for each number of reviewed labels."""
    clean = folder / "clean"
    if not (clean / "data").is_dir():
        lay_out(data, clean / "data", {})
    wrong = plant(start(clean / "work", clean / "data"), share, seed)
    place = folder / f"seed{seed}"
    truth = lay_out(data, place / "data", wrong)
    project = start(place / "work", place / "data")
    before, rows = true_score(project, "given", truth), []
    for count in counts:
        found, n_issues = review_first(project, truth, count)
        run = project.train(labels=f"first{count}", run=f"first{count}", **PROBE).run
        effect = {one.run: one for one in project.review_effect(f"first{count}").scores}
        say(f"seed {seed}, first {count}: {found} of {len(wrong)} found; {n_issues} rows likely to be wrong")
        rows.append(
            {
                "seed": seed,
                "reviewed": count,
                "wrong ones found": f"{found} of {len(wrong)}",
                "by given labels": _change(effect["given"].given, effect[run].given),
                "by reviewed labels": _change(effect["given"].reviewed, effect[run].reviewed),
                "on unreviewed rows": _change(effect["given"].unreviewed, effect[run].unreviewed),
                "by true labels": _change(before, true_score(project, run, truth)),
            }
        )
    return rows


def _change(before: float, after: float) -> str:
    return f"{before:.4f} → {after:.4f}"


def main(arguments: Sequence[str]) -> None:
    """Measure, and print the table with the hardware."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=0.05, help="of labels that are made wrong")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--reviewed", type=int, nargs="+", default=[50, 100, 200, 300])
    parser.add_argument("--image-size", type=int, help="of the probe; by default the model's own")
    given = parser.parse_args(arguments)
    PROBE.update({} if given.image_size is None else {"image_size": given.image_size})
    rows = [row for seed in given.seeds for row in measure(given.data, given.folder, given.share, seed, given.reviewed)]
    print_table(rows)
    print(f"\n{describe(hardware())}")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main(sys.argv[1:])
