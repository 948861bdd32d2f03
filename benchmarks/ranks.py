"""Do cheap scores choose whom to fine-tune? Heads on frozen features against the same networks fine-tuned, on the same rows.

    python benchmarks/ranks.py FOLDER [FOLDER ...] --work DIR [--sizes 64,96,128] [--epochs 2] [--only "tf_efficientnet_lite*"]

Candidates are the backbones whose weights are here, at each size. `kk auto` judges them by heads on frozen features, over all
folds; here fold 0 is fine-tuned, too, as `kk auto` does it. Both scores are of the rows of fold 0, and the probe's of all rows
stands beside them. Told are the rank correlation, the share of pairs of candidates that both put into the same order, and what
choosing by the probe loses to the best choice. What is finished is kept in ``--work``, and a call that was stopped goes on.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

from common import RESULTS, describe, hardware, print_table, say, write_results

PROBE = ("data.crop_pct=1.0", "model.head.joined=[-2, -3]", "augment=none")
TUNED = (
    *("data.crop_pct=1.0", "model.head.joined=[-2, -3]", "augment=medium", "lr=0.0001", "batch_size=16"),
    *("model.freeze_bn=true", "keep=last", "validate_every=0"),
)
"""Entries of `kk auto`: of its first heads, and of a fine-tuned run."""
METRICS = ("accuracy", "log_loss")


def project_of(data: Path, work: Path) -> Any:
    """The workspace of a data set, with five folds."""
    from kaggle_kit import Project

    root = work / data.name
    if not (root / "kk.yaml").is_file():
        Project.init(data, root)
    project = Project.open(root)
    if not project.workspace.folds_path("folds").is_file():
        project.folds(n_folds=5)
    return project


def trained(project: Any, run: str, entries: tuple[str, ...], strategy: str, fold: str) -> float:
    """Train what is not there yet; returns the seconds of this call."""
    start = time.perf_counter()
    summary = project.train(*entries, strategy=strategy, fold=fold, run=run, events="lines")
    if summary.stopped:
        raise SystemExit(f"stopped ({summary.stopped}); the same command goes on")
    return time.perf_counter() - start


def scores_of(project: Any, run: str, *, fold: int | None = None) -> dict[str, float]:
    """Accuracy and log loss of a run's out-of-fold rows, or of those of one fold."""
    from kaggle_kit.metrics import METRICS as KNOWN
    from kaggle_kit.runs import OOF, read_oof, read_run
    from kaggle_kit.tables import read_folds, read_predictions

    found, folds = read_run(project.workspace, run), read_folds(project.workspace.folds_path("folds"))
    table = read_oof(found) if fold is None else read_predictions(found.folds[fold].path / OOF)
    truth = folds.truth(folds.rows_of(table.ids))
    return {name: float(KNOWN[name](truth, table.probs)) for name in METRICS}


def measure(project: Any, name: str, sizes: list[int], epochs: int, only: str) -> list[dict[str, Any]]:
    """A row a candidate: its scores by both, and what they took here."""
    from kaggle_kit.models.backbones import local_backbones

    rows = []
    for backbone, size in itertools.product(local_backbones([only] if only else []), sizes):
        entries = (f"model={backbone.name}", f"image_size={size}")
        runs = {kind: f"{kind}-{backbone.name}-{size}" for kind in ("probe", "tuned")}
        seconds = trained(project, runs["probe"], (*entries, *PROBE), "probe", "all")
        more = trained(project, runs["tuned"], (*entries, *TUNED, f"epochs={epochs}"), "probe-then-finetune", "0")
        row: dict[str, Any] = {"data": name, "backbone": backbone.name, "size": size}
        row |= {f"probe, all rows, {key}": value for key, value in scores_of(project, runs["probe"]).items()}
        row |= {f"probe, {key}": value for key, value in scores_of(project, runs["probe"], fold=0).items()}
        row |= {f"tuned, {key}": value for key, value in scores_of(project, runs["tuned"], fold=0).items()}
        rows.append({**row, "probe s": round(seconds), "tuned s": round(more)})
        say(", ".join(f"{key} {value:.4f}" if isinstance(value, float) else str(value) for key, value in rows[-1].items()))
    return rows


def agreement(rows: list[dict[str, Any]], cheap: str, metric: str) -> dict[str, Any]:
    """How far the order of candidates by ``cheap`` is that of the fine-tuned runs."""
    from scipy.stats import spearmanr

    sign = 1 if metric == "accuracy" else -1
    probes, tuned = ([sign * row[f"{kind}, {metric}"] for row in rows] for kind in (cheap, "tuned"))
    pairs = [(a - b) * (c - d) for (a, c), (b, d) in itertools.combinations(zip(probes, tuned, strict=True), 2)]
    chosen = max(range(len(rows)), key=probes.__getitem__)
    return {
        "data": rows[0]["data"],
        "metric": metric,
        "chosen by": cheap,
        "candidates": len(rows),
        "rank correlation": round(float(spearmanr(probes, tuned).statistic), 2),
        "pairs in the same order": round(sum(product > 0 for product in pairs) / len(pairs), 2),
        "chosen": f"{rows[chosen]['backbone']} at {rows[chosen]['size']}",
        "best less chosen, fine-tuned": f"{max(tuned) - tuned[chosen]:.4f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, help="folders of competitions")
    parser.add_argument("--work", type=Path, required=True, help="folder for the workspaces")
    parser.add_argument("--sizes", default="64,96,128", help="sides of images in pixels")
    parser.add_argument("--epochs", type=int, default=2, help="of fine-tuning")
    parser.add_argument("--only", default="", help="a shell pattern of backbones")
    parser.add_argument("--out", type=Path, default=RESULTS / "ranks.json")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    facts, rows, table = hardware(), [], []
    for data in arguments.data:
        found = measure(project_of(data, arguments.work), data.name, sizes, arguments.epochs, arguments.only)
        rows += found
        table += [agreement(found, cheap, metric) for metric in METRICS for cheap in ("probe", "probe, all rows")]
    print_table([{key: f"{value:.4f}" if isinstance(value, float) else value for key, value in row.items()} for row in rows])
    print_table(table)
    say(describe(facts))
    write_results(arguments.out, table, facts, candidates=rows, epochs=arguments.epochs)


if __name__ == "__main__":
    main()
