"""Whether the rule by which `kk auto` adds runs to its blend, or leaves them out again, holds on other rows, too.

    python benchmarks/auto_blend.py WORKSPACE [WORKSPACE ...]      # of finished searches

Each blend begins with all runs of the search and changes by the rule of `kk auto`. "rule": decided on all rows, and scored on
them, as a search does it. "rule, other rows": decided on all folds but one, scored on that one, for each fold in turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, describe, hardware, print_table, write_results

Names = tuple[str, ...]


@dataclass
class Search:
    """The runs of a finished search."""

    root: Path
    blends: dict[frozenset[str], Any] = field(default_factory=dict)

    @cached_property
    def state(self) -> Any:
        from kaggle_kit.auto.journal import Journal
        from kaggle_kit.auto.state import State

        return State.of(Journal(self.root / "auto" / "auto.jsonl").read())

    @property
    def names(self) -> Names:
        return tuple(self.state.tried)

    @cached_property
    def rows(self) -> Any:
        from kaggle_kit.auto.judge import read_rows
        from kaggle_kit.competition import open_setup
        from kaggle_kit.workspace import Workspace

        return read_rows(open_setup(Workspace(self.root.resolve())), self.names)

    def blended(self, names: Names, method: str) -> Any:
        """The cross-fitted probabilities, computed once."""
        if (key := frozenset(names)) not in self.blends:
            self.blends[key] = self.rows.blended([name for name in self.names if name in key], method)
        return self.blends[key]

    def judge_on(self, chosen: Any) -> Callable[[Any, Any], Any]:
        """The judge of `kk auto` on some of the rows."""
        from kaggle_kit.auto.judge import compare

        rows = self.rows
        truth, groups = rows.rows.truth[chosen], rows.groups[chosen]
        return lambda before, after: compare(
            rows.metric, truth, before[chosen], after[chosen], groups, threshold=rows.threshold
        )

    @staticmethod
    def may_be_better(*_: Any) -> bool:
        """No pair is passed over: the rows that count are the judge's."""
        return True

    def decided_on(self, chosen: Any) -> Names:
        """The runs that are left when the rule sees some of the rows."""
        from kaggle_kit.auto.judge import better_changes, one_run_changed

        changes = partial(one_run_changed, others=self.names)
        seen: Any = Seen(self.blended, self.judge_on(chosen), self.may_be_better)
        found = list(better_changes(seen, self.names, self.state.method, changes, lambda: True))
        return found[-1][1] if found else self.names


@dataclass(frozen=True)
class Seen:
    """What :func:`better_changes` asks of rows."""

    blended: Callable[[Names, str], Any]
    judge: Callable[[Any, Any], Any]
    no_worse: Callable[[Any, Any], bool]


def table(search: Search) -> list[dict[str, Any]]:
    """A row for the blend of all runs, for that of the rule, and for the rule judged on rows that it has not seen."""
    from kaggle_kit.scores import log_loss

    rows, everything = search.rows, np.arange(len(search.rows.folds))
    found, unseen, sizes = search.decided_on(everything), search.blended(search.names, search.state.method).copy(), []
    for fold in np.unique(rows.folds):
        at = rows.folds == fold
        names = search.decided_on(np.flatnonzero(~at))
        unseen[at] = search.blended(names, search.state.method)[at]
        sizes.append(len(names))
    blends = {
        "all runs": (len(search.names), search.blended(search.names, search.state.method)),
        "rule": (len(found), search.blended(found, search.state.method)),
        "rule, other rows": ("/".join(str(size) for size in sizes), unseen),
    }
    return [
        {
            "search": search.root.name,
            "blend": f"{name}, {search.state.method}",
            "runs": count,
            "metric": rows.metric.name,
            "score": f"{rows.score(probs):.4f}",
            "log loss": f"{log_loss(rows.rows.truth, probs):.4f}",
        }
        for name, (count, probs) in blends.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspaces", type=Path, nargs="+", help="workspaces of finished searches")
    parser.add_argument("--out", type=Path, default=RESULTS / "auto_blend.json")
    arguments = parser.parse_args()
    facts = hardware()
    rows = [row for root in arguments.workspaces for row in table(Search(root))]
    print_table(rows)
    print(describe(facts))
    write_results(arguments.out, rows, facts)


if __name__ == "__main__":
    main()
