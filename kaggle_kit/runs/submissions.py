"""The table of all submissions: what they scored out of fold, and what Kaggle gave."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from kaggle_kit.runs.blend_record import BlendRecord, blend_record_path, read_blend_record
from kaggle_kit.workspace import Workspace

COLUMNS = (
    "submission",
    "method",
    "metric",
    "in_sample",
    "cross_fitted",
    "public_score",
    "private_score",
    "status",
    "date",
    "message",
)
_OPTIONAL = ("message", "private_score", "in_sample", "metric", "date")


def submissions_table(workspace: Workspace) -> pd.DataFrame:
    """One row a submission, oldest first: the out-of-fold score beside what Kaggle gave.

    ``cross_fitted`` is the score on rows that the blend's weights were not fitted on; scores that are not there are NaN.
    ``frame.attrs["rank_correlation"]`` is that of ``cross_fitted`` and ``public_score``, and ``frame.attrs["n"]`` their number.

    Raises:
        DataError: a record is damaged.
    """
    rows = []
    for path in sorted(workspace.submissions_dir.glob("[!.]*.csv")):
        if blend_record_path(path).is_file():
            record = read_blend_record(path)
            rows.append((record.created or "", _row(path.stem, record)))
    frame = pd.DataFrame([row for _, row in sorted(rows, key=lambda item: item[0])], columns=list(COLUMNS))
    correlation, n = rank_correlation(frame)
    frame.attrs |= {"rank_correlation": correlation, "n": n, "optional": _OPTIONAL}
    if not math.isnan(correlation):
        frame.attrs["note"] = f"rank correlation of the two scores: {correlation:.2f} over {n} submissions"
    return frame


def _row(name: str, record: BlendRecord) -> dict[str, Any]:
    scores, entry = record.scores, record.kaggle
    return {
        "submission": name,
        "method": record.method or "",
        "metric": scores.metric if scores else "",
        "in_sample": scores.in_sample if scores else math.nan,
        "cross_fitted": scores.cross_fitted if scores else math.nan,
        "public_score": _number(entry.get("public_score")),
        "private_score": _number(entry.get("private_score")),
        "status": entry.get("status", "not submitted"),
        "date": entry.get("date", ""),
        "message": entry.get("message", ""),
    }


def rank_correlation(frame: pd.DataFrame) -> tuple[float, int]:
    """Spearman's rank correlation of ``cross_fitted`` and ``public_score``, and of how many submissions.

    NaN for fewer than three submissions with both scores, or when one of the two never varies. Scores of different metrics
    cannot be compared: submissions that were judged by another metric than the newest are left out.
    """
    both = frame.dropna(subset=["cross_fitted", "public_score"])
    if len(both):
        both = both[both["metric"] == both["metric"].iloc[-1]]
    if len(both) < 3 or both["cross_fitted"].nunique() < 2 or both["public_score"].nunique() < 2:
        return math.nan, len(both)
    from scipy.stats import spearmanr

    return float(spearmanr(both["cross_fitted"], both["public_score"]).statistic), len(both)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
