"""The search: try what is expected to gain most a minute, keep what out-of-fold rows show to be better, end in time.

Each step is a command of :class:`~kaggle_kit.project.Project`; the journal tells it with what it was decided on. Killed at any
moment, the best submission so far stands, and the same call goes on.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from kaggle_kit import files
from kaggle_kit.auto.ideas import FULL, LONGER, VIEWS, Candidate, candidates, outdone, prediction_seconds, views_of
from kaggle_kit.auto.journal import Journal
from kaggle_kit.auto.judge import Judgement, Rows, better_changes, compare, read_rows
from kaggle_kit.auto.page import write_auto_page
from kaggle_kit.auto.race import race
from kaggle_kit.auto.result import AutoResult
from kaggle_kit.auto.scene import find_scene, may_fetch, with_fetched
from kaggle_kit.auto.state import State
from kaggle_kit.auto.steps import Commands, Step
from kaggle_kit.competition import Setup, open_setup
from kaggle_kit.errors import ConfigError, KaggleKitError, TrainingError
from kaggle_kit.fold_names import fold_folders
from kaggle_kit.folds import folds_for
from kaggle_kit.runs import MODEL, RUN_RECORD, read_oof, read_run
from kaggle_kit.runs.scored import Scored
from kaggle_kit.runs.scored import score as scored_rows
from kaggle_kit.tables import FoldTable
from kaggle_kit.units import format_duration

FOLDER, NAME = "auto", "auto"
_MARGIN = 1.1  # a run must fit with so many times the seconds that it is expected to take
_MEASURE_SECONDS = 6.0
_SHARE_TO_RECONSIDER = 0.05  # of all time, at most, each time a run has joined
_TIME_TO_FETCH = 1800.0  # seconds that must be left for a download to pay
_METHODS = ("mean", "weights")  # ways to blend that are tried with each run that joins
_OF_GRADES = "grades"  # one more where the metric counts how far a class is off
_OF_PROBABILITIES = "temperature"  # one more where the metric looks at probabilities: smoothed labels make runs too unsure


@dataclass(frozen=True)
class AutoOptions:
    """How to search.

    Attributes:
        limit: seconds of all sessions together.
        session: seconds of this one at most; None: no limit of its own.
        goal: an entry of GOALS.
        only: shell patterns of backbones; none: all whose weights are here.
        max_bytes: of the models of the blend, all folds together.
        internet: whether weights of further backbones may be downloaded.
        where: options of training that say where: launcher, devices, address.
    """

    limit: float
    goal: str = "balanced"
    only: tuple[str, ...] = ()
    max_bytes: int | None = None
    internet: bool = True
    where: Mapping[str, Any] = field(default_factory=dict)
    session: float | None = None


class _Ended(Exception):
    """The search is over; the text says why."""


def run_auto(
    project: Commands, options: AutoOptions, *, say: Callable[[str], None], now: Callable[[], float] = time.monotonic
) -> AutoResult:
    """Search until the time is over or nothing is left that fits into it.

    Args:
        say: shows a line to who is watching.
        now: a clock in seconds.

    Raises:
        LockedError: another search is at work in the workspace.
        KaggleKitError: the data cannot be used, or no first submission could be made.
    """
    folder = project.workspace.root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with files.folder_lock(folder, patience=0.5):
        return _Search(project, options, say, now).run()


class _Search:
    def __init__(self, project: Commands, options: AutoOptions, say: Callable[[str], None], now: Callable[[], float]) -> None:
        self.project, self.options, self.say, self._now = project, options, say, now
        self.journal = Journal(project.workspace.root / FOLDER / f"{NAME}.jsonl")
        self.entries = self.journal.read()
        self.state = State.of(self.entries)
        self._before, self._start = self.state.used, now()
        self._session = math.inf if options.session is None else options.session
        # Seconds that prediction, judgement and blend need after training.
        self._tail = min(60.0, 0.2 * min(options.limit, self._session))
        self._told = False

    @property
    def used(self) -> float:
        """Seconds so far, over all sessions."""
        return self._before + self._now() - self._start

    @property
    def left(self) -> float:
        """Seconds until the limit, or until this session's."""
        return min(self.options.limit - self.used, self._session - (self._now() - self._start))

    def run(self) -> AutoResult:
        """Search, write the page, and return how it ended."""
        self._note("begun", limit=self.options.limit, goal=self.options.goal, only=self.options.only)
        self.setup = self._with_folds()
        self.n_folds = self._folds().n_splits
        only, internet = self.options.only, self.options.internet
        self.scene = find_scene(self.setup, self.options.goal, only, internet=internet, n_folds=self.n_folds, say=self.say)
        try:
            ended = self._until_over()
        except BaseException:
            with contextlib.suppress(KaggleKitError):  # the time counts all the same
                self._note("interrupted")
            raise
        # With so much more time, runs would have all their epochs again, or as many as fit into that.
        self.scene = replace(self.scene, shorter={})
        self._shorten(self.options.limit)
        unknown = [one.run for one in self._candidates() if not math.isfinite(one.seconds)]
        more = (*self._would_do(self.options.limit), *(f"{run} (not measured yet)" for run in unknown))
        self._note("ended", why=ended, more=more)
        return self._result(ended, more)

    def _until_over(self) -> str:
        try:
            self._mend()
            while True:
                self._try(self._next())
        except _Ended as ended:
            if not self.state.kept and self.state.failed:
                why = "; ".join(f"{run}: {text}" for run, text in self.state.failed.items())
                raise KaggleKitError(f"no submission could be made: {why}") from None
            return str(ended)

    def _mend(self) -> None:
        """Do what an end in the middle has left undone; a run whose folder was deleted is out."""
        for run in [run for run in self.state.tried if not self._is_begun(run)]:
            self._note("gone", run=run)
            self.say(f"the folder of {run} is gone: it is left out")
        self._restore()
        for run in self.state.pending:
            self._join(run)
        if self.state.unblended and self.state.kept:
            self._blend(self.state.kept, self.state.method)
            self._reconsider()

    def _restore(self) -> None:
        """Predict again with a run of the blend whose predictions were about to be changed."""
        if self.state.changing in self.state.tried:
            self._predicted(self._prediction(self.state.changing))
            self._note("restored", run=self.state.changing)

    def _is_begun(self, run: str) -> bool:
        """Whether a run was begun; an end before that may have left its folder."""
        return (self.project.workspace.run_dir(run) / RUN_RECORD).is_file()

    def _with_folds(self) -> Setup:
        setup = open_setup(self.project.workspace)
        if not setup.workspace.folds_path(setup.config.run.folds).is_file():
            step = Step("folds", options={"name": setup.config.run.folds})
            step.run(self.project)
            self._note("folds", command=step.text)
        return setup

    def _folds(self) -> FoldTable:
        return folds_for(self.setup.workspace, self.setup.competition, self.setup.config.run.folds)

    def _next(self) -> Candidate:
        """Return what is expected to gain most a second of what fits.

        Raises:
            _Ended: nothing fits.
        """
        if not self.state.kept:
            first = next(iter(self._candidates()), None)
            if first is None:
                raise _Ended("nothing is left to try")
            return first
        self._mirror(self.state.kept[0])
        self._fetch()
        self._measure()
        self._shorten(self.left)
        if not self._told:
            self._told = True
            expected = self._would_do(self.left)
            self._note("expects", steps=expected)
            self.say("expected in the time left: " + ("; ".join(expected) or "nothing more"))
        fitting = self._fitting()
        if not fitting:
            # No probe of an earlier session tells how long one takes.
            unknown = [one for one in self._candidates() if one.idea == "probe" and math.isnan(one.seconds)]
            if unknown and self.left > 2 * self._tail:
                return unknown[0]
            left = [one for one in self._candidates() if math.isfinite(one.seconds)]
            raise _Ended("nothing more fits into the time left" if left else "nothing is left to try")
        return max(fitting, key=lambda one: one.rate)

    def _candidates(self) -> list[Candidate]:
        """All that could be tried; what is partly done costs what is left of it."""
        found = []
        for one in candidates(self.scene, self.state):
            if outdone(one, self.state) or (one.idea == VIEWS and not self._has_tests):
                continue
            done = self._finished_folds(one.run)
            seconds = one.seconds * (1 - done / self.n_folds) if done < self.n_folds else 0.0
            found.append(replace(one, seconds=max(seconds, prediction_seconds(one, self.state) if done else 0.0)))
        return found

    @property
    def _has_tests(self) -> bool:
        return bool(self.setup.competition.test)

    def _finished_folds(self, run: str) -> int:
        if not self._is_begun(run):
            return 0
        return sum(fold.finished for fold in read_run(self.project.workspace, run).folds)

    def _fitting(self) -> list[Candidate]:
        """What fits into the time; where not all fine-tuned runs do, they race first."""
        fitting = [one for one in self._candidates() if self._fits(one, self.left)]
        tuned = [one for one in fitting if one.tunes]
        others = [one for one in fitting if not one.tunes]
        seconds = (self.left - self._tail) / _MARGIN
        chosen = race(tuned, self.state.raced, folds=self.n_folds, seconds=seconds)
        won = [one for one in chosen if not one.races and self.state.raced.get(one.run, 0.0) > 0]
        # What is cheap takes no time from who has won a race.
        kept_free = min((one.seconds for one in won), default=0.0)
        return [*(one for one in others if one.seconds + kept_free <= seconds), *chosen]

    def _fits(self, candidate: Candidate, seconds: float) -> bool:
        if not math.isfinite(candidate.seconds) or candidate.seconds * _MARGIN + self._tail > seconds:
            return False
        if self.options.max_bytes is None or candidate.idea == VIEWS:
            return True
        own = next((one.n_bytes for one in self.scene.backbones if one.name == candidate.model), 0)
        models = 1 if candidate.idea == FULL else self.n_folds * len(candidate.makes)
        return self._bytes_of(self.state.kept) + own * models <= self.options.max_bytes

    def _bytes_of(self, names: Sequence[str]) -> int:
        """Bytes of the models of runs."""
        runs = [self.project.workspace.run_dir(run) for run in names]
        models = [folder / MODEL for run in runs for folder in fold_folders(run).values()]
        return sum(model.stat().st_size for model in models if model.is_file())

    def _fetch(self) -> None:
        """Fetch weights of further backbones, once, where there is time to use them and a network to get them from."""
        wanted = self.options.internet and self.scene.pretrained and may_fetch(self.setup.config.run)
        if not wanted or self.state.asked_hub or self.left < _TIME_TO_FETCH:
            return
        here = {one.name for one in self.scene.backbones}
        self.scene, why = with_fetched(self.scene, self.options.only, self.say)
        self._note("fetched", models=[one.name for one in self.scene.backbones if one.name not in here], why=why)

    def _measure(self) -> None:
        """Measure how fast each backbone trains here, where there is time to use the answer."""
        for backbone in self.scene.backbones:
            known = (self.state.measured.keys() - self.state.outdated) | self.state.unmeasured
            if backbone.name in known or self.left < 10 * _MEASURE_SECONDS:
                continue
            viewed = self.scene.goal in LONGER and any(self.state.tried[run].model == backbone.name for run in self.state.kept)
            here = any(one.name in self.state.measured for one in self.scene.backbones)
            if here and not viewed and not self._could_tune():
                continue  # it is hardly quicker, and measuring takes longer than its six seconds on a slow machine
            side = self.scene.tuned_side(backbone)
            entries = (f"model={backbone.name}", f"image_size={side}", "model.compile=false")
            try:
                plan = Step("plan", entries, {"seconds": _MEASURE_SECONDS, "tta": self._views}).run(self.project)
            except KaggleKitError as error:
                self._note("not measured", model=backbone.name, why=str(error))
                continue
            self._note("measured", model=backbone.name, side=side, rates=asdict(plan.rates), work=asdict(plan.work))

    def _could_tune(self) -> bool:
        """Whether there is time to fine-tune a backbone that was measured, for an epoch at least."""
        backbones = self.scene.backbones
        shortest = self.scene.shortened(backbones, max(self.scene.epochs(one) for one in backbones))
        return any(one.tunes and self._fits(one, self.left) for one in candidates(shortest, self.state))

    def _shorten(self, seconds: float) -> None:
        """Halve the epochs of fine-tuned runs until one of those from pretrained weights fits, and one from random ones."""
        for pretrained in (True, False):
            backbones = [one for one in self.scene.backbones if one.pretrained == pretrained]
            names = {one.name for one in backbones}
            while any(self.scene.epochs(one) > 1 for one in backbones):
                tuned = [one for one in self._candidates() if one.tunes and one.model in names]
                if not tuned or any(self._fits(one, seconds) or math.isnan(one.seconds) for one in tuned):
                    break
                self.scene = self.scene.shortened(backbones, 2)

    @property
    def _views(self) -> str:
        return "hflip" if self.state.mirrors else "none"

    def _try(self, candidate: Candidate) -> None:
        """Train a run, predict with it, and keep it if that makes the blend better."""
        expected = "" if not math.isfinite(candidate.seconds) else f", about {format_duration(candidate.seconds)}"
        what = f"race of {candidate.idea}" if candidate.races else candidate.idea
        self.say(f"{format_duration(self.used)} used. {what}{expected}: {candidate.step.text}")
        began, of_a_run = self._now(), {VIEWS: self._review, FULL: self._complete}
        goes_on = self._is_begun(candidate.run)
        try:
            if candidate.idea in of_a_run:
                of_a_run[candidate.idea](candidate)
                return
            for step in candidate.before:
                self._prepare(step)
            prepared = self._now()
            after = 0.0 if candidate.races else prediction_seconds(candidate, self.state)
            summary = self._trained(candidate.step, after=after)
        except KaggleKitError as error:
            self._fail(candidate, str(error))
            self._restore()
            return
        if candidate.races:
            self._judge_race(candidate, summary.oof_score, None if goes_on else self._now() - prepared)
        else:
            self._finish(candidate, began)

    def _trained(self, step: Step, *, after: float = 0.0) -> Any:
        """Train a run in the time that is left but for the seconds ``after`` it, which it is predicted in.

        Raises:
            _Ended: somebody stopped it, or the time is over.
            TrainingError: a fold failed.
        """
        run, began = str(step.options["run"]), self._now()
        if not self._is_begun(run):
            self._note("starts", run=run, entries=step.entries)
        summary = step.run(self.project, time_limit=max(1.0, self.left - self._tail - after), **self.options.where)
        if summary.cut_short or summary.stopped:
            self._note("stopped", run=run, seconds=self._now() - began)
        if summary.cut_short:
            raise _Ended(f"it was stopped: {summary.stopped}")
        if summary.stopped:
            raise _Ended(f"the time is over; {run} goes on when there is more")
        if summary.failed:
            raise TrainingError("; ".join(summary.failed.values()))
        return summary

    def _prepare(self, step: Step) -> None:
        """Make what runs learn from, once."""
        if step.text in self.state.prepared:
            return
        self.say(f"first: {step.text}")
        if step.command == "train":
            self._trained(step)
        else:
            step.run(self.project)
        self._note("prepared", command=step.text)

    def _review(self, candidate: Candidate) -> None:
        """Let views be chosen for a run of the blend, and keep them if they make the blend better."""
        run, kept, method = str(candidate.step.options["run"]), self.state.kept, self.state.method
        before, began = self._rows(kept).blended(kept, method), self._now()
        self._note("changes", run=run)
        self._predicted(candidate.step)
        times = {"estimate": candidate.seconds if math.isfinite(candidate.seconds) else None, "seconds": self._now() - began}
        rows = self._rows(kept)
        after = rows.blended(kept, method)
        found = rows.judge(before, after)
        gain = found.gain if found.better else 0.0
        if not found.better and not np.array_equal(before, after):
            self._predicted(self._prediction(run))
        facts = {"better": found.better, "difference": found.difference, "error": found.error, "gain": gain, "why": found.why}
        self._note("viewed", run=candidate.run, of=run, **facts, **times, command=candidate.step.text)
        self.say(f"{candidate.run}: {found.before:.4f} -> {found.after:.4f}, {found.why}")
        if found.better:
            self._blend(kept, method)

    def _complete(self, candidate: Candidate) -> None:
        """Add a model of all data to a run of the blend, and blend it as before: its score is that of the folds."""
        run = str(candidate.step.options["run"])
        self._note("changes", run=run)
        self._trained(candidate.step)
        predict = self._predicted(self._prediction(run))
        self._blend(self.state.kept, self.state.method)
        self._note("completed", run=candidate.run, of=run, commands=[candidate.step.text, *self._texts(predict)])

    def _fail(self, candidate: Candidate, why: str) -> None:
        self.say(f"{candidate.run} is left out: {why}")
        self._note("failed", run=candidate.run, why=why, command=candidate.step.text)

    def _finish(self, candidate: Candidate, began: float) -> None:
        """Predict with what was trained, and let it join the blend: the run, or each of its cycles."""
        count = len(candidate.makes)
        training = (self._now() - began) / count
        estimate = candidate.seconds / count if math.isfinite(candidate.seconds) else None
        for run in candidate.makes:
            if run in self.state.tried:  # before a kill
                continue
            trained = self._now()
            predict = self._predicted(self._prediction(run))
            facts = {"run": run, "idea": candidate.idea, "model": candidate.model, "strategy": candidate.strategy}
            before = self.state.spent.get(candidate.run, 0.0) / count
            times = {"estimate": estimate, "seconds": training + self._now() - trained, "before": before}
            commands = self._texts(*candidate.before, candidate.step, predict)
            score = self._scored(run, "none").score
            self._note("trained", **facts, entries=candidate.step.entries, **times, score=score, commands=commands)
            joined = self._join(run)
            self._tail = 1.5 * (self._now() - trained)
            if joined:
                self._reconsider()

    def _texts(self, *steps: Step) -> list[str]:
        """What a person types; without test images nothing is predicted."""
        return [step.text for step in steps if self._has_tests or step.command != "predict"]

    def _scored(self, run: str, views: str) -> Scored:
        return scored_rows(read_oof(read_run(self.setup.workspace, run), tta=views), self._folds(), self.setup.metric)

    def _mirror(self, run: str) -> None:
        """Find out, once, whether mirrored images mean the same, by a run of the blend; it keeps them if that is better so.

        Raises:
            _Ended: there is no time for it.
        """
        # It takes less time than the run did, which has computed more.
        if self.state.mirrors is not None or not self._has_tests or self.state.tried[run].seconds + self._tail > self.left:
            return
        kept, method = self.state.kept, self.state.method
        plain, before = self._scored(run, "none"), self._rows(kept).blended(kept, method)
        step = Step("predict", options={"run": run, "tta": "hflip"})
        self._note("changes", run=run)
        try:
            self._predicted(step)
        except KaggleKitError as error:
            raise _Ended(f"mirrored images could not be looked at: {error}") from error
        found = compare(self.setup.metric, plain.truth, plain.probs, self._scored(run, "hflip").probs, plain.groups)
        rows = self._rows(kept)
        mirrors = not found.difference < -found.error
        better = mirrors and rows.judge(before, rows.blended(kept, method)).better
        said = "mean the same" if mirrors else "mean something else"
        self.say(f"mirrored images {said} here: {found.difference:+.4f} with them, standard error {found.error:.4f}")
        if not better:
            self._predicted(Step("predict", options={"run": run, "tta": "none"}))
        facts = {"mirrors": mirrors, "better": better, "difference": found.difference, "error": found.error}
        self._note("mirrors", **facts, run=run, command=step.text)
        if better:
            self._blend(kept, method)

    def _prediction(self, run: str) -> Step:
        plain = "none" if run == self.state.plain else self._views
        tta = "auto" if self.state.viewed.get(views_of(run)) else plain
        return Step("predict", options={"run": run, "tta": tta})

    def _predicted(self, step: Step) -> Step:
        """Predict in the time that is left; without test images there is nothing to predict.

        Raises:
            _Ended: the time is over.
        """
        if not self._has_tests:
            return step
        over = _Ended(f"the time is over; {step.options['run']} was not predicted in full")
        limit, began = max(1.0, self.left), self._now()
        try:
            outcomes = step.run(self.project, time_limit=limit)
        except ConfigError:
            if self._now() - began > 0.5 * limit or limit < _MEASURE_SECONDS:
                raise over from None
            raise
        if any(outcome.left_out for outcome in outcomes):
            raise over
        return step

    def _judge_race(self, candidate: Candidate, score: float, seconds: float | None) -> None:
        """Note what share of the error of fold 0 the run would remove from the blend; and the seconds, where it was all."""
        rows = self._rows((*self.state.kept, candidate.run))
        found = rows.judge(rows.blended(self.state.kept), rows.blended((*self.state.kept, candidate.run)), fold=0)
        facts = {"run": candidate.run, "idea": candidate.idea, "strategy": candidate.strategy}
        times = {"estimate": None if seconds is None else candidate.seconds, "seconds": seconds}
        self._note("raced", **facts, **times, score=score, gain=found.gain, why=found.why, command=candidate.step.text)
        self.say(f"{candidate.run} on fold 0: {score:.4f}; the blend would be {found.after:.4f} after {found.before:.4f} there")

    def _join(self, run: str) -> bool:
        """Blend the run with the others in each way, and write the submission if the best is better than what there is."""
        kept = self.state.kept
        rows = self._rows((*kept, run))
        if not kept:
            self._blend((run,), "mean")
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
            self._blend(*chosen)
        return chosen is not None

    def _reconsider(self) -> None:
        """Add what was left out and is worth having beside the runs of today, and leave out what is worth nothing there."""
        kept, method = self.state.kept, self.state.method
        names, rows = kept, self._rows(tuple(dict.fromkeys((*kept, *self._changes(kept)))))
        until = self._now() + _SHARE_TO_RECONSIDER * min(self.options.limit, self._session)
        in_time = lambda: self.left >= self._tail and self._now() <= until  # noqa: E731
        for run, names, found in better_changes(rows, kept, method, self._changes, in_time):
            if run in names:
                self._tell(run, found, better=True)
            else:
                self._note("dropped", run=run, **found.facts, why=found.why)
                self.say(f"{run} is left out again: {found.before:.4f} -> {found.after:.4f}, {found.why}")
        if names != kept:
            self._blend(names, method)

    def _changes(self, kept: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Return run -> the blend with it, where it was left out, or without it, as long as two are left."""
        most = self.options.max_bytes
        more = {run: (*kept, run) for run in self.state.tried if run in self.state.settled and run not in kept}
        more = {run: names for run, names in more.items() if most is None or self._bytes_of(names) <= most}
        fewer = {run: tuple(one for one in kept if one != run) for run in kept if len(kept) > 2}
        return more | fewer

    @property
    def _methods(self) -> tuple[str, ...]:
        """Ways to blend that suit the metric."""
        further = ((_OF_GRADES, self.scene.ordered), (_OF_PROBABILITIES, self.setup.metric.needs == "probs"))
        return (*_METHODS, *(method for method, suits in further if suits))

    def _tell(self, run: str, found: Judgement, *, better: bool) -> None:
        self._note("judged", run=run, better=better, **found.facts, gain=found.gain if better else 0.0, why=found.why)
        self.say(f"{run} is {'kept' if better else 'left out'}: {found.before:.4f} -> {found.after:.4f}, {found.why}")

    def _blend(self, names: Sequence[str], method: str) -> None:
        step = Step("blend", options={"runs": tuple(names), "method": method})
        made = step.run(self.project)
        verdict = "PASSED" if made.report is None else str(made.report.verdict)
        facts = {"runs": names, "method": method, "score": made.scores.cross_fitted, "verdict": verdict}
        self._note("blended", **facts, blend="" if made.path is None else made.path.stem, command=step.text)
        self.say(
            f"{format_duration(self.used)}: {made.scores.metric} {made.scores.cross_fitted:.4f}, check {verdict}: {made.path}"
        )
        if verdict == "FAILED":
            raise _Ended("the check of the submission failed; `kk check` says what is wrong")

    def _rows(self, names: Sequence[str]) -> Rows:
        return read_rows(self.setup, names)

    def _would_do(self, seconds: float) -> list[str]:
        """Say what would come next within ``seconds``, best first."""
        found, left = [], seconds
        for one in sorted((one for one in self._candidates() if math.isfinite(one.seconds)), key=lambda one: -one.rate):
            if one.seconds * _MARGIN + self._tail <= left:
                left -= one.seconds
                found.append(f"{one.run} ({format_duration(one.seconds)})")
        return found

    def _note(self, kind: str, **facts: Any) -> None:
        entry = self.journal.add(kind, used=round(self.used, 1), **facts)
        self.entries.append(dict(entry))
        self.state.take(entry)

    def _result(self, ended: str, more: tuple[str, ...]) -> AutoResult:
        state, workspace = self.state, self.project.workspace
        path = workspace.submission_path(state.blend) if state.blend else None
        page = workspace.root / "report" / f"{NAME}.html"
        write_auto_page(page, self.entries, metric=self.setup.metric.name)
        verdict, score = state.verdict or "FAILED", state.score
        files_made = {"journal": self.journal.path, "page": page}
        return AutoResult(
            path,
            self.setup.metric.name,
            score,
            verdict,
            self.used,
            self.options.limit,
            state.kept,
            ended,
            more,
            **files_made,
            _state=state,
        )
