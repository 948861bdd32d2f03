"""The blend of a search: which runs are in it, how they are blended, and with which views they are predicted.

Before the predictions of a run of the blend are changed, the journal says so: after an end in between they are
made again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kaggle_kit.auto.desk import Desk, Ended
from kaggle_kit.auto.ideas import Candidate, views_of
from kaggle_kit.auto.judge import Judgement, Rows, better_changes, compare, one_run_changed, read_rows
from kaggle_kit.auto.steps import Step
from kaggle_kit.errors import ConfigError, KaggleKitError
from kaggle_kit.runs import read_oof, read_run
from kaggle_kit.runs.scored import Scored
from kaggle_kit.runs.scored import score as scored_rows
from kaggle_kit.units import format_duration

_SHARE_TO_RECONSIDER = 0.05  # of all time, at most, each time a run has joined
_NO_TIME = 6.0  # seconds that are no time to predict in
_METHODS = ("mean", "weights")  # ways to blend that are tried with each run that joins
_OF_GRADES = "grades"  # one more where the metric counts how far a class is off
_OF_PROBABILITIES = "temperature"  # one more where the metric looks at probabilities: smoothed labels make runs too unsure


class Blend:
    """The blend as it is, and what changes it."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.state = desk, desk.state

    @property
    def views(self) -> str:
        """With which a run is predicted at first."""
        return "hflip" if self.state.mirrors else "none"

    def mirror(self, run: str) -> None:
        """Find out, once, whether mirrored images mean the same, by a run of the blend; it keeps them if that is better so.

        Raises:
            Ended: there is no time for it.
        """
        # It takes less time than the run did, which has computed more.
        if (
            self.state.mirrors is not None
            or not self.desk.has_tests
            or self.state.tried[run].seconds + self.desk.tail > self.desk.left
        ):
            return
        kept, method = self.state.kept, self.state.method
        plain, before = self.scored(run, "none"), self._rows(kept).blended(kept, method)
        step = Step("predict", options={"run": run, "tta": "hflip"})
        self.desk.note("changes", run=run)
        try:
            self.predicted(step)
        except KaggleKitError as error:
            raise Ended(f"mirrored images could not be looked at: {error}") from error
        found = compare(self.desk.setup.metric, plain.truth, plain.probs, self.scored(run, "hflip").probs, plain.groups)
        rows = self._rows(kept)
        mirrors = not found.difference < -found.error
        better = mirrors and rows.judge(before, rows.blended(kept, method)).better
        said = "mean the same" if mirrors else "mean something else"
        self.desk.say(f"mirrored images {said} here: {found.difference:+.4f} with them, standard error {found.error:.4f}")
        if not better:
            self.predicted(Step("predict", options={"run": run, "tta": "none"}))
        facts = {"mirrors": mirrors, "better": better, "difference": found.difference, "error": found.error}
        self.desk.note("mirrors", **facts, run=run, command=step.text)
        if better:
            self.write(kept, method)

    def review(self, candidate: Candidate) -> None:
        """Let views be chosen for a run of the blend, and keep them if they make the blend better."""
        run, kept, method = str(candidate.step.options["run"]), self.state.kept, self.state.method
        before, began = self._rows(kept).blended(kept, method), self.desk.now()
        self.desk.note("changes", run=run)
        self.predicted(candidate.step)
        times = {
            "estimate": candidate.seconds if math.isfinite(candidate.seconds) else None,
            "seconds": self.desk.now() - began,
        }
        rows = self._rows(kept)
        after = rows.blended(kept, method)
        found = rows.judge(before, after)
        gain = found.gain if found.better else 0.0
        if not found.better and not np.array_equal(before, after):
            self.predicted(self.prediction(run))
        facts = {"better": found.better, "difference": found.difference, "error": found.error, "gain": gain, "why": found.why}
        self.desk.note("viewed", run=candidate.run, of=run, **facts, **times, command=candidate.step.text)
        self.desk.say(f"{candidate.run}: {found.before:.4f} -> {found.after:.4f}, {found.why}")
        if found.better:
            self.write(kept, method)

    def prediction(self, run: str) -> Step:
        """The command by which the blend has a run."""
        plain = "none" if run == self.state.plain else self.views
        tta = "auto" if self.state.viewed.get(views_of(run)) else plain
        return Step("predict", options={"run": run, "tta": tta})

    def predicted(self, step: Step) -> Step:
        """Predict in the time that is left; without test images there is nothing to predict.

        Raises:
            Ended: the time is over.
        """
        if not self.desk.has_tests:
            return step
        over = Ended(f"the time is over; {step.options['run']} was not predicted in full")
        limit, began = max(1.0, self.desk.left), self.desk.now()
        try:
            outcomes = step.run(self.desk.project, time_limit=limit)
        except ConfigError:
            if self.desk.now() - began > 0.5 * limit or limit < _NO_TIME:
                raise over from None
            raise
        if any(outcome.left_out for outcome in outcomes):
            raise over
        return step

    def restore(self) -> None:
        """Predict again with a run of the blend whose predictions were about to be changed."""
        if self.state.changing in self.state.tried:
            self.predicted(self.prediction(self.state.changing))
            self.desk.note("restored", run=self.state.changing)

    def join(self, run: str) -> bool:
        """Blend the run with the others in each way, and write the submission if the best is better than what there is."""
        kept = self.state.kept
        rows = self._rows((*kept, run))
        if not kept:
            self.write((run,), "mean")
            return True
        before = best = rows.blended(kept, self.state.method)
        chosen = None
        for names, method in [*(((*kept, run), method) for method in self._methods), ((run,), "mean")]:
            probs = rows.blended(names, method)
            if rows.judge(best, probs).better:
                best, chosen = probs, (names, method)
        after = best if chosen is not None else rows.blended((*kept, run))
        self._tell(run, rows.judge(before, after), better=chosen is not None)
        if chosen is not None:
            self.write(*chosen)
        return chosen is not None

    def reconsider(self) -> None:
        """Add what was left out and is worth having beside the runs of today, and leave out what is worth nothing there."""
        kept, method = self.state.kept, self.state.method
        names, rows = kept, self._rows(tuple(dict.fromkeys((*kept, *self._changes(kept)))))
        until = self.desk.now() + _SHARE_TO_RECONSIDER * min(self.desk.options.limit, self.desk.session)
        in_time = lambda: self.desk.left >= self.desk.tail and self.desk.now() <= until  # noqa: E731
        for run, names, found in better_changes(rows, kept, method, self._changes, in_time):
            if run in names:
                self._tell(run, found, better=True)
            else:
                self.desk.note("dropped", run=run, **found.facts, why=found.why)
                self.desk.say(f"{run} is left out again: {found.before:.4f} -> {found.after:.4f}, {found.why}")
        if names != kept:
            self.write(names, method)

    def _changes(self, kept: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Return run -> the blend with it, where it was left out and there is room for it, or without it."""
        most = self.desk.options.max_bytes
        changes = one_run_changed(kept, (run for run in self.state.tried if run in self.state.settled))
        return {
            run: names for run, names in changes.items() if run in kept or most is None or self.desk.bytes_of(names) <= most
        }

    @property
    def _methods(self) -> tuple[str, ...]:
        """Ways to blend that suit the metric."""
        metric, several = self.desk.setup.metric, self.desk.setup.competition.multilabel
        further = ((_OF_GRADES, metric.ordered and not several), (_OF_PROBABILITIES, metric.needs == "probs"))
        return (*_METHODS, *(method for method, suits in further if suits))

    def judge_race(self, candidate: Candidate, score: float, seconds: float | None) -> None:
        """Note what share of the error of fold 0 the run would remove from the blend; and the seconds, where it was all."""
        rows = self._rows((*self.state.kept, candidate.run))
        found = rows.judge(rows.blended(self.state.kept), rows.blended((*self.state.kept, candidate.run)), fold=0)
        facts = {"run": candidate.run, "idea": candidate.idea, "strategy": candidate.strategy}
        times = {"estimate": None if seconds is None else candidate.seconds, "seconds": seconds}
        self.desk.note("raced", **facts, **times, score=score, gain=found.gain, why=found.why, command=candidate.step.text)
        self.desk.say(
            f"{candidate.run} on fold 0: {score:.4f}; the blend would be {found.after:.4f} after {found.before:.4f} there"
        )

    def _tell(self, run: str, found: Judgement, *, better: bool) -> None:
        self.desk.note("judged", run=run, better=better, **found.facts, gain=found.gain if better else 0.0, why=found.why)
        self.desk.say(f"{run} is {'kept' if better else 'left out'}: {found.before:.4f} -> {found.after:.4f}, {found.why}")

    def write(self, names: Sequence[str], method: str) -> None:
        """Blend runs, and write and check the submission.

        Raises:
            Ended: the check failed.
        """
        step = Step("blend", options={"runs": tuple(names), "method": method})
        made = step.run(self.desk.project)
        verdict = "PASSED" if made.report is None else str(made.report.verdict)
        facts = {"runs": names, "method": method, "score": made.scores.cross_fitted, "verdict": verdict}
        self.desk.note("blended", **facts, blend="" if made.path is None else made.path.stem, command=step.text)
        scored = f"{made.scores.metric} {made.scores.cross_fitted:.4f}"
        written = "no test images" if made.path is None else f"check {verdict}: {made.path}"
        self.desk.say(f"{format_duration(self.desk.used)}: {scored}, {written}")
        if verdict == "FAILED":
            raise Ended("the check of the submission failed; `kk check` says what is wrong")

    def _rows(self, names: Sequence[str]) -> Rows:
        return read_rows(self.desk.setup, names)

    def scored(self, run: str, views: str) -> Scored:
        """The out-of-fold rows of a run, with their score."""
        return scored_rows(
            read_oof(read_run(self.desk.setup.workspace, run), tta=views), self.desk.folds(), self.desk.setup.metric
        )
