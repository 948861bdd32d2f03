"""The search: try what is expected to gain most a minute, keep what out-of-fold rows show to be better, end in time.

Each step is a command of :class:`~kaggle_kit.project.Project`; the journal tells it with what it was decided on. Killed at any
moment, the best submission so far stands, and the same call goes on.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from kaggle_kit import files
from kaggle_kit.auto.blend import Blend
from kaggle_kit.auto.desk import FOLDER, NAME, AutoOptions, Desk, Ended
from kaggle_kit.auto.ideas import FULL, LONGER, VIEWS, Candidate, candidates, outdone, prediction_seconds
from kaggle_kit.auto.page import write_auto_page
from kaggle_kit.auto.race import race
from kaggle_kit.auto.result import AutoResult
from kaggle_kit.auto.scene import find_scene, may_fetch, with_fetched
from kaggle_kit.auto.steps import Commands, Step
from kaggle_kit.competition import Setup, open_setup
from kaggle_kit.errors import KaggleKitError, TrainingError
from kaggle_kit.runs import read_run
from kaggle_kit.units import format_duration

_MARGIN = 1.1  # a run must fit with so many times the seconds that it is expected to take
_MEASURE_SECONDS = 6.0
_TIME_TO_FETCH = 1800.0  # seconds that must be left for a download to pay


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
        self.desk = Desk(project, options, say, now)
        self.state, self.blend = self.desk.state, Blend(self.desk)
        self._told = False

    def run(self) -> AutoResult:
        """Search, write the page, and return how it ended."""
        self.desk.note("begun", limit=self.desk.options.limit, goal=self.desk.options.goal, only=self.desk.options.only)
        self.desk.setup = self._with_folds()
        self.n_folds = self.desk.folds().n_splits
        only, internet = self.desk.options.only, self.desk.options.internet
        self.scene = find_scene(
            self.desk.setup, self.desk.options.goal, only, internet=internet, n_folds=self.n_folds, say=self.desk.say
        )
        try:
            ended = self._until_over()
        except BaseException:
            with contextlib.suppress(KaggleKitError):  # the time counts all the same
                self.desk.note("interrupted")
            raise
        # With so much more time, runs would have all their epochs again, or as many as fit into that.
        self.scene = replace(self.scene, shorter={})
        self._shorten(self.desk.options.limit)
        unknown = [one.run for one in self._candidates() if not math.isfinite(one.seconds)]
        more = (*self._would_do(self.desk.options.limit), *(f"{run} (not measured yet)" for run in unknown))
        self.desk.note("ended", why=ended, more=more)
        return self._result(ended, more)

    def _until_over(self) -> str:
        try:
            self._mend()
            while True:
                self._try(self._next())
        except Ended as ended:
            if not self.state.kept and self.state.failed:
                why = "; ".join(f"{run}: {text}" for run, text in self.state.failed.items())
                raise KaggleKitError(f"no submission could be made: {why}") from None
            return str(ended)

    def _mend(self) -> None:
        """Do what an end in the middle has left undone; a run whose folder was deleted is out."""
        for run in [run for run in self.state.tried if not self.desk.is_begun(run)]:
            self.desk.note("gone", run=run)
            self.desk.say(f"the folder of {run} is gone: it is left out")
        self.blend.restore()
        for run in self.state.pending:
            self.blend.join(run)
        if self.state.unblended and self.state.kept:
            self.blend.write(self.state.kept, self.state.method)
            self.blend.reconsider()

    def _with_folds(self) -> Setup:
        setup = open_setup(self.desk.project.workspace)
        if not setup.workspace.folds_path(setup.config.run.folds).is_file():
            step = Step("folds", options={"name": setup.config.run.folds})
            step.run(self.desk.project)
            self.desk.note("folds", command=step.text)
        return setup

    def _next(self) -> Candidate:
        """Return what is expected to gain most a second of what fits.

        Raises:
            Ended: nothing fits.
        """
        if not self.state.kept:
            first = next(iter(self._candidates()), None)
            if first is None:
                raise Ended("nothing is left to try")
            return first
        self.blend.mirror(self.state.kept[0])
        self._fetch()
        self._measure()
        self._shorten(self.desk.left)
        if not self._told:
            self._told = True
            expected = self._would_do(self.desk.left)
            self.desk.note("expects", steps=expected)
            self.desk.say("expected in the time left: " + ("; ".join(expected) or "nothing more"))
        fitting = self._fitting()
        if not fitting:
            # No probe of an earlier session tells how long one takes.
            unknown = [one for one in self._candidates() if one.idea == "probe" and math.isnan(one.seconds)]
            if unknown and self.desk.left > 2 * self.desk.tail:
                return unknown[0]
            left = [one for one in self._candidates() if math.isfinite(one.seconds)]
            raise Ended("nothing more fits into the time left" if left else "nothing is left to try")
        return max(fitting, key=lambda one: one.rate)

    def _candidates(self) -> list[Candidate]:
        """All that could be tried; what is partly done costs what is left of it."""
        found = []
        for one in candidates(self.scene, self.state):
            if outdone(one, self.state) or (one.idea == VIEWS and not self.desk.has_tests):
                continue
            done = self._finished_folds(one.run)
            seconds = one.seconds * (1 - done / self.n_folds) if done < self.n_folds else 0.0
            found.append(replace(one, seconds=max(seconds, prediction_seconds(one, self.state) if done else 0.0)))
        return found

    def _finished_folds(self, run: str) -> int:
        if not self.desk.is_begun(run):
            return 0
        return sum(fold.finished for fold in read_run(self.desk.project.workspace, run).folds)

    def _fitting(self) -> list[Candidate]:
        """What fits into the time; where not all fine-tuned runs do, they race first."""
        fitting = [one for one in self._candidates() if self._fits(one, self.desk.left)]
        tuned = [one for one in fitting if one.tunes]
        others = [one for one in fitting if not one.tunes]
        seconds = (self.desk.left - self.desk.tail) / _MARGIN
        chosen = race(tuned, self.state.raced, folds=self.n_folds, seconds=seconds)
        won = [one for one in chosen if not one.races and self.state.raced.get(one.run, 0.0) > 0]
        # What is cheap takes no time from who has won a race.
        kept_free = min((one.seconds for one in won), default=0.0)
        return [*(one for one in others if one.seconds + kept_free <= seconds), *chosen]

    def _fits(self, candidate: Candidate, seconds: float) -> bool:
        if not math.isfinite(candidate.seconds) or candidate.seconds * _MARGIN + self.desk.tail > seconds:
            return False
        if self.desk.options.max_bytes is None or candidate.idea == VIEWS:
            return True
        own = next((one.n_bytes for one in self.scene.backbones if one.name == candidate.model), 0)
        models = 1 if candidate.idea == FULL else self.n_folds * len(candidate.makes)
        return self.desk.bytes_of(self.state.kept) + own * models <= self.desk.options.max_bytes

    def _fetch(self) -> None:
        """Fetch weights of further backbones, once, where there is time to use them and a network to get them from."""
        wanted = self.desk.options.internet and self.scene.pretrained and may_fetch(self.desk.setup.config.run)
        if not wanted or self.state.asked_hub or self.desk.left < _TIME_TO_FETCH:
            return
        here = {one.name for one in self.scene.backbones}
        self.scene, why = with_fetched(self.scene, self.desk.options.only, self.desk.say)
        self.desk.note("fetched", models=[one.name for one in self.scene.backbones if one.name not in here], why=why)

    def _measure(self) -> None:
        """Measure how fast each backbone trains here, where there is time to use the answer."""
        for backbone in self.scene.backbones:
            known = (self.state.measured.keys() - self.state.outdated) | self.state.unmeasured
            if backbone.name in known or self.desk.left < 10 * _MEASURE_SECONDS:
                continue
            viewed = self.scene.goal in LONGER and any(self.state.tried[run].model == backbone.name for run in self.state.kept)
            here = any(one.name in self.state.measured for one in self.scene.backbones)
            if here and not viewed and not self._could_tune():
                continue  # it is hardly quicker, and measuring takes longer than its six seconds on a slow machine
            side = self.scene.tuned_side(backbone)
            entries = (f"model={backbone.name}", f"image_size={side}", "model.compile=false")
            try:
                plan = Step("plan", entries, {"seconds": _MEASURE_SECONDS, "tta": self.blend.views}).run(self.desk.project)
            except KaggleKitError as error:
                self.desk.note("not measured", model=backbone.name, why=str(error))
                continue
            self.desk.note("measured", model=backbone.name, side=side, rates=asdict(plan.rates), work=asdict(plan.work))

    def _could_tune(self) -> bool:
        """Whether there is time to fine-tune a backbone that was measured, for an epoch at least."""
        backbones = self.scene.backbones
        shortest = self.scene.shortened(backbones, max(self.scene.epochs(one) for one in backbones))
        return any(one.tunes and self._fits(one, self.desk.left) for one in candidates(shortest, self.state))

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

    def _try(self, candidate: Candidate) -> None:
        """Train a run, predict with it, and keep it if that makes the blend better."""
        expected = "" if not math.isfinite(candidate.seconds) else f", about {format_duration(candidate.seconds)}"
        what = f"race of {candidate.idea}" if candidate.races else candidate.idea
        self.desk.say(f"{format_duration(self.desk.used)} used. {what}{expected}: {candidate.step.text}")
        began, of_a_run = self.desk.now(), {VIEWS: self.blend.review, FULL: self._complete}
        goes_on = self.desk.is_begun(candidate.run)
        try:
            if candidate.idea in of_a_run:
                of_a_run[candidate.idea](candidate)
                return
            for step in candidate.before:
                self._prepare(step)
            prepared = self.desk.now()
            after = 0.0 if candidate.races else prediction_seconds(candidate, self.state)
            summary = self._trained(candidate.step, after=after)
        except KaggleKitError as error:
            self._fail(candidate, str(error))
            self.blend.restore()
            return
        if candidate.races:
            self.blend.judge_race(candidate, summary.oof_score, None if goes_on else self.desk.now() - prepared)
        else:
            self._finish(candidate, began)

    def _trained(self, step: Step, *, after: float = 0.0) -> Any:
        """Train a run in the time that is left but for the seconds ``after`` it, which it is predicted in.

        Raises:
            Ended: somebody stopped it, or the time is over.
            TrainingError: a fold failed.
        """
        run, began = str(step.options["run"]), self.desk.now()
        if not self.desk.is_begun(run):
            self.desk.note("starts", run=run, entries=step.entries)
        summary = step.run(
            self.desk.project, time_limit=max(1.0, self.desk.left - self.desk.tail - after), **self.desk.options.where
        )
        if summary.cut_short or summary.stopped:
            self.desk.note("stopped", run=run, seconds=self.desk.now() - began)
        if summary.cut_short:
            raise Ended(f"it was stopped: {summary.stopped}")
        if summary.stopped:
            raise Ended(f"the time is over; {run} goes on when there is more")
        if summary.failed:
            raise TrainingError("; ".join(summary.failed.values()))
        return summary

    def _prepare(self, step: Step) -> None:
        """Make what runs learn from, once."""
        if step.text in self.state.prepared:
            return
        self.desk.say(f"first: {step.text}")
        if step.command == "train":
            self._trained(step)
        else:
            step.run(self.desk.project)
        self.desk.note("prepared", command=step.text)

    def _complete(self, candidate: Candidate) -> None:
        """Add a model of all data to a run of the blend, and blend it as before: its score is that of the folds."""
        run = str(candidate.step.options["run"])
        self.desk.note("changes", run=run)
        self._trained(candidate.step)
        predict = self.blend.predicted(self.blend.prediction(run))
        self.blend.write(self.state.kept, self.state.method)
        self.desk.note("completed", run=candidate.run, of=run, commands=[candidate.step.text, *self.desk.texts(predict)])

    def _fail(self, candidate: Candidate, why: str) -> None:
        self.desk.say(f"{candidate.run} is left out: {why}")
        self.desk.note("failed", run=candidate.run, why=why, command=candidate.step.text)

    def _finish(self, candidate: Candidate, began: float) -> None:
        """Predict with what was trained, and let it join the blend: the run, or each of its cycles."""
        count = len(candidate.makes)
        training = (self.desk.now() - began) / count
        estimate = candidate.seconds / count if math.isfinite(candidate.seconds) else None
        for run in candidate.makes:
            if run in self.state.tried:  # before a kill
                continue
            trained = self.desk.now()
            predict = self.blend.predicted(self.blend.prediction(run))
            facts = {"run": run, "idea": candidate.idea, "model": candidate.model, "strategy": candidate.strategy}
            before = self.state.spent.get(candidate.run, 0.0) / count
            times = {"estimate": estimate, "seconds": training + self.desk.now() - trained, "before": before}
            commands = self.desk.texts(*candidate.before, candidate.step, predict)
            score = self.blend.scored(run, "none").score
            self.desk.note("trained", **facts, entries=candidate.step.entries, **times, score=score, commands=commands)
            joined = self.blend.join(run)
            self.desk.keep_free(self.desk.now() - trained)
            if joined:
                self.blend.reconsider()

    def _would_do(self, seconds: float) -> list[str]:
        """Say what would come next within ``seconds``, best first."""
        found, left = [], seconds
        for one in sorted((one for one in self._candidates() if math.isfinite(one.seconds)), key=lambda one: -one.rate):
            if one.seconds * _MARGIN + self.desk.tail <= left:
                left -= one.seconds
                found.append(f"{one.run} ({format_duration(one.seconds)})")
        return found

    def _result(self, ended: str, more: tuple[str, ...]) -> AutoResult:
        state, workspace = self.state, self.desk.project.workspace
        path = workspace.submission_path(state.blend) if state.blend else None
        page = workspace.root / "report" / f"{NAME}.html"
        write_auto_page(page, self.desk.entries, metric=self.desk.setup.metric.name)
        verdict, score = state.verdict or "FAILED", state.score
        files_made = {"journal": self.desk.journal.path, "page": page}
        return AutoResult(
            path,
            self.desk.setup.metric.name,
            score,
            verdict,
            self.desk.used,
            self.desk.options.limit,
            state.kept,
            ended,
            more,
            **files_made,
            _state=state,
        )
