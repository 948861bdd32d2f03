"""What ``kk`` prints. The only module, beside ``cli``, that writes to the terminal; everything else logs or returns.

Tables and bars come from rich and become plain text when the output is no terminal.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from kaggle_kit.blending.blend import BlendResult
    from kaggle_kit.check import CheckReport
    from kaggle_kit.competition import Inference
    from kaggle_kit.demo import DemoResult
    from kaggle_kit.images.store import StoreInfo
    from kaggle_kit.inference import RunPrediction
    from kaggle_kit.kaggle_api import PushResult, SubmissionStatus
    from kaggle_kit.kernel import KernelBuild, KernelTest
    from kaggle_kit.launch import Plan
    from kaggle_kit.tables import FoldTable
    from kaggle_kit.training import RunSummary
    from kaggle_kit.tune import TuneBlendResult, TuneResult

_PLAIN_WIDTH = 120
_MAX_ROWS = 60
_LINE_SECONDS = 10.0
_STATUS_STYLES = {"passed": "green", "failed": "bold red", "warning": "yellow", "inconclusive": "cyan"}

Progress = Callable[[int, int], None]
"""``progress(done, total)``."""


@lru_cache(maxsize=1)
def console() -> Console:
    """The terminal, or plain text of a fixed width when the output goes to a file or a pipe."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)


def set_up_logging() -> None:
    """Send the package's log lines to the terminal as plain text, warnings marked as such."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    logger = logging.getLogger("kaggle_kit")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        return prefix + record.getMessage()


def line(text: str = "") -> None:
    """One line of text."""
    console().print(text, markup=False, soft_wrap=True)


def lines(texts: Sequence[str]) -> None:
    """Several lines of text."""
    for text in texts:
        line(text)


def error(text: str) -> None:
    """What went wrong, on the error stream."""
    sys.stdout.flush()
    sys.stderr.write(f"error: {text}\n")


def table(frame: pd.DataFrame, *, title: str = "") -> None:
    """A data frame; numbers to the right, long ones cut with a word on how many rows there are."""
    if frame.empty:
        line("none yet")
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title or None, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for name in frame.columns:
        numeric = frame[name].dtype.kind in "iuf"
        shown.add_column(Text(str(name)), justify="right" if numeric else "left", overflow="fold")
    for row in frame.head(_MAX_ROWS).itertuples(index=False):
        shown.add_row(*(Text(_cell(value)) for value in row))
    console().print(shown)
    if len(frame) > _MAX_ROWS:
        line(f"… and {len(frame) - _MAX_ROWS} more rows")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4f}"
    return str(value)


def bar(what: str) -> Progress:
    """A callable that draws a progress bar with rate and time left; without a terminal, a line every few seconds."""
    return _Bar(what) if sys.stderr.isatty() else _Lines(what)


class _Bar:
    def __init__(self, what: str) -> None:
        self.what = what
        self.display: Any = None

    def __call__(self, done: int, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self.display is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.display = Progress(*columns, console=Console(stderr=True), transient=True)
            self.task = self.display.add_task(self.what, total=total)
            self.display.start()
        self.display.update(self.task, completed=done, total=total)
        if done >= total:
            self.display.stop()
            self.display = None


class _Lines:
    """A line every few seconds; nothing for what is done sooner."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last >= _LINE_SECONDS:
            sys.stderr.write(f"{self.what}: {done}/{total}\n")
            self.last = now


def inference(result: Inference) -> None:
    """What ``kk init`` concluded, and the questions that it settled by a default."""
    for finding in result.findings:
        line(f"- {finding}")
    if result.questions:
        line("\nOpen to another reading (a default was taken):")
        for question in result.questions:
            line(str(question))
    line("\nwrote kk.yaml. Next: kk folds")


def folds(made: FoldTable, name: str) -> None:
    """The balance of a fold table, and what is to know about it."""
    from kaggle_kit.folds import balance_table, summary

    table(balance_table(made).reset_index())
    for text in summary(made):
        line(text)
    line(f"wrote folds/{name}.csv and folds/{name}.json. Next: kk train --fold all")


def training(summary: RunSummary) -> None:
    """The folds of a run with mean and spread; a run that was stopped says how to go on."""
    if summary.results:
        table(summary.table())
    line(summary.describe())
    if summary.stopped:
        line(f"stopped early: {summary.stopped}. The checkpoint is kept; the same command goes on from there.")
    line("Next: kk predict")


def predictions(results: Sequence[RunPrediction]) -> None:
    """What ``kk predict`` wrote."""
    for result in results:
        already = f"; already there: fold {_numbers(result.current)}" if result.current else ""
        line(
            f"{result.run}: predicted {result.n_test} test images and {result.n_control} control images "
            f"with the models of fold {_numbers(result.predicted) or 'none'}{already}"
        )
    line("Next: kk blend")


def written(path: Path, rows: int) -> None:
    """A file that is ready."""
    line(f"wrote {path} ({rows} rows)")


def blend(result: BlendResult) -> None:
    """The runs of a blend, its scores, and whether the submission is sound."""
    import pandas as pd

    rows = [
        {
            "run": run.name,
            "folds": f"{len(run.folds)}/{run.n_splits}",
            "views": run.views,
            f"oof {result.scores.metric}": run.score,
            "weight": "" if run.weight is None else f"{run.weight:.3f}",
        }
        for run in result.runs
    ]
    table(pd.DataFrame(rows))
    for note in result.notes:
        line(f"note: {note}")
    scores = result.scores
    line(f"{result.description}")
    line(f"out-of-fold {scores.metric} of the blend on {scores.n} rows: {scores.in_sample:.5f} where its weights were fitted,")
    line(f"  {scores.cross_fitted:.5f} cross-fitted (each row blended by weights found without its fold)")
    report(result.report)


def report(result: CheckReport) -> None:
    """The verdict table of ``kk check``."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("check", "verdict", "evidence"):
        shown.add_column(heading, overflow="fold")
    for check in result.checks:
        evidence = f"{check.evidence} → {check.remedy}" if check.remedy else check.evidence
        shown.add_row(Text(check.name), Text(check.status, style=_STATUS_STYLES[check.status]), Text(evidence))
    console().print(shown)
    line(f"{result.path}: {'PASSED' if result.passed else 'FAILED'}")


def stores(found: Sequence[StoreInfo]) -> None:
    """The stores of decoded images."""
    import pandas as pd

    if not found:
        line("no stores yet; `kk train` builds one when it pays")
        return
    rows = [
        {
            "store": store.directory.name,
            "size": f"{store.size[0]}x{store.size[1]}",
            "kept as": store.codec,
            "images": store.images,
            "MB": round(store.bytes / 1e6, 1),
        }
        for store in found
    ]
    table(pd.DataFrame(rows))


def plan(found: Plan) -> None:
    """What a run will take."""
    line(found.describe())


def tuning(result: TuneResult) -> None:
    """The trials of a search, and what to do with the best one."""
    table(result.table())
    line(result.describe())
    if result.best_path is not None:
        line(f"Next: kk train --fold all --config {result.best_path}; plots: {result.page}")


def tuned_blend(result: TuneBlendResult) -> None:
    """A tuned blend beside the plain ones."""
    table(result.table)
    line(result.describe())
    blend(result.blend)


def kernel(built: KernelBuild) -> None:
    """What ``kk kernel build`` wrote."""
    import pandas as pd

    table(pd.DataFrame([{"file": name, "MB": round(size / 1e6, 2)} for name, size in built.sizes.items()]))
    for note in built.notes:
        line(f"note: {note}")
    line(f"wrote {built.dataset} (dataset {built.dataset_ref}) and {built.notebook} (kernel {built.kernel_ref})")
    line(f"Next: kk kernel test {built.folder}")


def kernel_test(result: KernelTest) -> None:
    """What the kernel printed in each session, then the verdict."""
    for session in result.sessions:
        line(f"--- {session.name}: {session.seconds:.0f} s, peak memory {session.peak_bytes / 1e9:.1f} GB")
        lines(session.lines)
        if session.error:
            line(f"ended early: {session.error}")
    line(f"network: {result.isolation}")
    report(result.report)


def submissions(found: pd.DataFrame) -> None:
    """Submissions with their out-of-fold and public scores, and whether the one foretells the other."""
    table(found)
    if found.attrs.get("n", 0) > 2:
        line(f"rank correlation of the two scores: {found.attrs['rank_correlation']:.2f} over {found.attrs['n']} submissions")


def status(now: object) -> None:
    """What Kaggle says at the moment."""
    line(f"Kaggle: {getattr(now, 'status', now)}")


def pushed(results: Sequence[PushResult]) -> None:
    """What became of dataset and notebook."""
    for result in results:
        how = "uploaded" if result.uploaded else "was there already"
        line(f"{result.kind} {result.ref}: {how}, {result.status} {result.failure}".rstrip())
        line(f"  {result.url}")


def submitted(result: SubmissionStatus) -> None:
    """Kaggle's verdict on a submission."""
    how = "submitted" if result.uploaded else "these bytes were submitted before"
    score = "" if result.public_score is None else f", public score {result.public_score}"
    line(f"{how}: {result.status}{score} {result.error}".rstrip())


def demo(result: DemoResult) -> None:
    """How the demo came out."""
    steps = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in result.seconds.items())
    line(f"\nThe submission scores {result.score:.4f} on the private answers: {result.submission}")
    line(f"time: {steps}")


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
