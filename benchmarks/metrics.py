"""How long does it take to score a blend? The package's metrics and scikit-learn's functions, in turns, on one core.

    python benchmarks/metrics.py

Made-up probabilities, right for two rows of three or so; the sizes are those of a tiny competition, of scenes, of flowers and
of a large one. Milliseconds a score, the median of the turns. `difference` is the furthest that the two are apart. Log loss was
computed without scikit-learn before, too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.metrics as sk
from common import RESULTS, describe, hardware, median, print_table, write_results

from kaggle_kit.metrics import get_metric

SIZES = ((60, 3), (2_819, 13), (1_020, 102), (100_000, 6))
TURNS = 7
REFERENCES: dict[str, Callable[[Any, Any], float]] = {
    "accuracy": lambda truth, probs: sk.accuracy_score(truth, probs.argmax(1)),
    "f1_macro": lambda truth, probs: sk.f1_score(truth, probs.argmax(1), average="macro"),
    "mcc": lambda truth, probs: sk.matthews_corrcoef(truth, probs.argmax(1)),
    "quadratic_kappa": lambda truth, probs: sk.cohen_kappa_score(truth, probs.argmax(1), weights="quadratic"),
    "log_loss": lambda truth, probs: sk.log_loss(truth, probs),
    "roc_auc_columns": lambda truth, probs: np.mean(
        [sk.roc_auc_score(truth == column, probs[:, column]) for column in range(probs.shape[1])]
    ),
}


def made(rows: int, classes: int) -> tuple[Any, Any]:
    """Truths (N,) with every class, and probabilities (N, C)."""
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.arange(rows) % classes)
    logits = rng.normal(size=(rows, classes)) + 2.5 * np.eye(classes)[truth]
    probs = np.exp(logits)
    return truth, probs / probs.sum(axis=1, keepdims=True)


def timed(score: Callable[[Any, Any], float], truth: Any, probs: Any) -> tuple[float, float]:
    """Milliseconds, and the score."""
    start = time.perf_counter()
    found = score(truth, probs)
    return 1000 * (time.perf_counter() - start), float(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS / "metrics.json")
    arguments = parser.parse_args()
    facts, rows = hardware(), []
    for size in SIZES:
        truth, probs = made(*size)
        for name, reference in REFERENCES.items():
            turns = [(timed(get_metric(name), truth, probs), timed(reference, truth, probs)) for _ in range(TURNS)]
            ours, theirs = (median(turn[which][0] for turn in turns) for which in (0, 1))
            rows.append(
                {
                    "rows": size[0],
                    "classes": size[1],
                    "metric": name,
                    "ms": round(ours, 3),
                    "scikit-learn, ms": round(theirs, 3),
                    "times as fast": round(theirs / ours, 1),
                    "difference": f"{max(abs(one[1] - other[1]) for one, other in turns):.0e}",
                }
            )
    print_table(rows)
    print(describe(facts))
    write_results(arguments.out, rows, facts)


if __name__ == "__main__":
    main()
