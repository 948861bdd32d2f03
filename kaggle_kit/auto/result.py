"""What ``kk auto`` ends with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kaggle_kit.auto.state import State
from kaggle_kit.results import Result
from kaggle_kit.units import format_duration

EXIT_CODES = {"PASSED": 0, "NOT PROVEN": 3}


@dataclass(frozen=True, repr=False)
class AutoResult(Result):
    """Where the search stands when it ends.

    Attributes:
        submission: the best one; None before the first, and where there are no test images.
        score: its cross-fitted out-of-fold score, by ``metric``.
        verdict: what its check said.
        seconds: used so far, over all sessions; of ``limit``.
        runs: those that it is a blend of.
        ended: why.
        more: what would come next if there were more time.
        journal, page: files with every step.
    """

    submission: Path | None
    metric: str
    score: float
    verdict: str
    seconds: float
    limit: float
    runs: tuple[str, ...]
    ended: str
    more: tuple[str, ...]
    journal: Path
    page: Path | None
    _state: State

    @property
    def exit_code(self) -> int:
        """What ``kk auto`` ends with: as ``kk check`` of the submission would."""
        return EXIT_CODES.get(self.verdict, 1)

    def table(self) -> pd.DataFrame:
        """Return a row a run that was tried: what it is, its own score, what it took, and whether it is in the blend."""
        rows = [
            {
                "run": one.run,
                f"oof {self.metric}": one.score,
                "time": format_duration(one.seconds),
                "in the blend": "yes" if one.run in self.runs else "no",
            }
            for one in self._state.tried.values()
        ]
        return pd.DataFrame(rows, columns=["run", f"oof {self.metric}", "time", "in the blend"])

    def describe(self) -> str:
        """Return the best submission with its score, why the search ended, and what more time would be used for."""
        if not self.runs:
            return f"no submission yet: {self.ended}"
        what, check = (self.submission, f"; check {self.verdict}") if self.submission else ("no test images", "")
        lines = [
            f"{what}: {self.metric} {self.score:.4f} out of fold, cross-fitted{check}",
            f"{format_duration(self.seconds)} of {format_duration(self.limit)} used; ended since {self.ended}",
        ]
        if self.more:
            lines += ["with more time:", *(f"  {text}" for text in self.more)]
        return "\n".join(lines)
