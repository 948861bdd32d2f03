"""A workspace, its configuration and its competition as one value: what ``kk`` does, a method a command.

Each method takes the options of the command of its name and delegates. ``kk.yaml`` and the data are read anew by each call, so
that what was changed between two calls counts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit import show
from kaggle_kit.choices import AUGMENTATIONS, ENGINE_CHOICES, ENGINES, EXPORTS, GOALS, INT8, LAUNCHERS, PREPROCESSING, PRUNERS
from kaggle_kit.project_parts import (
    Cache,
    Kernel,
    PathLike,
    Weights,
    drawable,
    given_only,
    int8_costs,
    make_pairs,
    names,
    positive_numbers,
    require_extendable,
    require_prediction,
    require_trainable,
    student_and_teacher,
    write_picture,
)
from kaggle_kit.results import Done
from kaggle_kit.views import is_auto, require_views
from kaggle_kit.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    import pandas as pd

    from kaggle_kit.auto import AutoResult
    from kaggle_kit.blending.blend import BlendResult
    from kaggle_kit.check import CheckReport
    from kaggle_kit.competition import Competition, Inference, Setup
    from kaggle_kit.competition.init import Told
    from kaggle_kit.config import Config
    from kaggle_kit.config.describe import Keys
    from kaggle_kit.config.recipes import Recipe
    from kaggle_kit.evaluate import Evaluation
    from kaggle_kit.export import ExportResult
    from kaggle_kit.inference import RunPrediction
    from kaggle_kit.inference.latency import Latency
    from kaggle_kit.kaggle_api import SubmissionStatus
    from kaggle_kit.labels import LabelIssues, ReviewEffect, Served
    from kaggle_kit.launch import Plan
    from kaggle_kit.report.look import DataLook
    from kaggle_kit.report.make import ReportResult
    from kaggle_kit.runs.comparison import Comparison
    from kaggle_kit.runs.summary import RunSummary
    from kaggle_kit.serve import ServedModels
    from kaggle_kit.tables import FoldTable, Predictions
    from kaggle_kit.training.lr_finder import LrTest
    from kaggle_kit.tune import TuneResult
    from kaggle_kit.update import UpdateResult

logger = logging.getLogger(__name__)

Duration = str | float
"""``"8h30m"``, or seconds."""


@dataclass(frozen=True, repr=False)
class Project:
    """One competition as you work on it: ``Project.init(data_dir)`` makes it, ``Project.open(root)`` finds it again.

    Attributes:
        workspace: the folder with ``kk.yaml``, and where things lie in it.
        inference: what :meth:`init` concluded; None for a project that was opened.
    """

    workspace: Workspace
    inference: Inference | None = field(default=None, compare=False)

    @classmethod
    def init(
        cls,
        data_dir: PathLike,
        root: PathLike = ".",
        *,
        name: str | None = None,
        metric: str | None = None,
        competition: str | None = None,
        choose: Mapping[str, str] | None = None,
        force: bool = False,
    ) -> Project:
        """Look at the data in ``data_dir`` and write a commented ``kk.yaml`` to ``root``, which is made if need be.

        Args:
            name: of the competition; None: the folder's.
            metric: how Kaggle scores; None: the usual one of the sample submission's form.
            competition: its address at Kaggle, of which metric and form may be known; None: the folder's name may tell.
            choose: answers to questions that an earlier call asked, by key.
            force: replace an existing ``kk.yaml``.

        Raises:
            AmbiguousDataError: the data can be read in two ways; lists them and how to choose.
            ConfigError, DataError: see :func:`~kaggle_kit.competition.init_workspace`.
        """
        from kaggle_kit.competition import init_workspace

        workspace = Workspace(Path(root))
        said: Told = {"choices": choose, "metric": metric, "name": name, "competition": competition}
        found = init_workspace(Path(data_dir), workspace.root, force=force, progress=show.bar("unpacking"), **said)
        return cls(workspace, found)

    @classmethod
    def open(cls, root: PathLike = ".") -> Project:
        """Return the project at ``root``.

        Raises:
            MissingFileError: there is no ``kk.yaml``.
        """
        return cls(open_workspace(root))

    @classmethod
    def here(cls) -> Project:
        """Return what stands where you are, workspace or not, for methods that need none."""
        return cls(Workspace(Path()))

    @property
    def config(self) -> Config:
        """``kk.yaml`` as it is now."""
        from kaggle_kit.config import load_config

        return load_config(self.workspace.config_path)

    @property
    def competition(self) -> Competition:
        """The data as they are now: no image is opened, yet 140,000 files take some seconds."""
        return self._open().competition

    def _open(self, overrides: Sequence[str] = (), config: PathLike | None = None) -> Setup:
        """Return what the workspace holds now: configuration and competition with it."""
        from kaggle_kit.competition import open_setup

        return open_setup(self.workspace, overrides, None if config is None else Path(config))

    def look(
        self,
        *overrides: str,
        config: PathLike | None = None,
        augment: str | None = None,
        batch: bool = False,
        imagenet: bool = False,
        open: bool = False,
        **entries: Any,
    ) -> DataLook:
        """Write ``report/data.html`` about the data: classes, files, samples, duplicates, folds, training against test images.

        Args:
            overrides, config, entries: of the run's configuration, as for :meth:`train`, for what the next three show.
            augment: a preset; one training image in 16 draws as the model gets them.
            batch: show a training batch with its labels after mixing.
            imagenet: show what the pretrained model says of training images, before and after its preprocessing.
            open: show the page in the browser.
        """
        from kaggle_kit.config import as_overrides

        if augment is not None:
            AUGMENTATIONS.require(augment)
        preset = [] if augment is None else [f"augment.preset={augment}"]
        setup = self._open([*overrides, *as_overrides(entries), *preset], config)
        from kaggle_kit.report.data_page import Wishes
        from kaggle_kit.report.look import look_at_data

        found = look_at_data(setup, Wishes(augment is not None, batch, imagenet), progress=show.bar("comparing images"))
        if open:
            found.open()
        return found

    def labels(
        self, *, runs: str | Sequence[str] = (), name: str = "review", table: bool = False, port: int = 0
    ) -> LabelIssues | Served:
        """Order labels by how little they agree with what was predicted out of fold, and let them be reviewed on a page.

        Args:
            runs: whose out-of-fold rows are used; none: all that have a finished fold.
            name: decisions are kept in ``labels/<name>.csv``; ``train(labels=name)`` takes them.
            table: return the labels; else serve the page, to this machine's browser only, until Ctrl-C, and return what was
                decided.
            port: of the page; 0: a free one.
        """
        from kaggle_kit.labels import find_issues, serve
        from kaggle_kit.reviews import Review, read_review

        setup = self._open()
        path, classes = setup.workspace.labels_path(name), setup.competition.classes
        found = find_issues(setup, names(runs), read_review(path, classes) if path.exists() else Review())
        if table:
            return found
        return serve(found, path, classes, multilabel=setup.competition.multilabel, say=show.line, port=port)

    def review_effect(self, name: str = "review") -> ReviewEffect:
        """Return out-of-fold scores of all runs by the labels as given, as reviewed, and on the rows that nobody reviewed."""
        from kaggle_kit.labels import review_effect
        from kaggle_kit.reviews import read_review

        setup = self._open()
        return review_effect(setup, read_review(setup.workspace.labels_path(name), setup.competition.classes))

    def folds(
        self,
        *,
        name: str = "folds",
        n_folds: int | None = None,
        scheme: str | None = None,
        repeats: int | None = None,
        seed: int | None = None,
        duplicates: str | None = None,
        extend: str | None = None,
        pairs_of: str | None = None,
        force: bool = False,
    ) -> FoldTable:
        """Divide the training images into folds, duplicates together; writes ``folds/<name>.csv``.

        What is None is as ``kk.yaml`` says. See :func:`~kaggle_kit.folds.create_folds`.

        Args:
            extend: name of a table whose rows keep their folds; new images are dealt over them, so that ``train(init_from=…)``
                can train its runs further.
            pairs_of: leave out two folds of this table at a time instead, for runs that others learn from; see
                :mod:`kaggle_kit.folds.pairs`.
            force: change a table on which runs rest; the old one is kept beside it.
        """
        from kaggle_kit.config import changed
        from kaggle_kit.folds import check_settings, create_folds

        changes = {"n_folds": n_folds, "scheme": scheme, "repeats": repeats, "seed": seed, "duplicates": duplicates}
        if pairs_of is not None:
            return make_pairs(self._open(), pairs_of, name, given=given_only(**changes, extend=extend), force=force)
        if extend is not None:
            require_extendable(self.workspace, extend, {"n_folds": n_folds, "scheme": scheme, "repeats": repeats})
        settings = changed(self.config.folds, changes)
        check_settings(settings)
        setup = self._open()
        competition = setup.competition
        from kaggle_kit.folds.evidence import with_evidence
        from kaggle_kit.images.duplicates import find_competition_duplicates

        found = find_competition_duplicates(competition, settings, progress=show.bar("comparing images"))
        found = with_evidence(found, competition, setup.data_dir, setup.config.competition.train)
        return create_folds(self.workspace, competition, settings, name=name, duplicates=found, extend=extend, force=force)

    def train(
        self,
        *overrides: str,
        fold: str | Sequence[int] = "all",
        run: str | None = None,
        config: PathLike | None = None,
        strategy: str | None = None,
        precision: str | None = None,
        time_limit: Duration | None = None,
        restart: bool = False,
        launcher: str | None = None,
        devices: int | None = None,
        address: str | None = None,
        events: str = "auto",
        **entries: Any,
    ) -> RunSummary:
        """Train a model on each fold; finished folds are skipped, unfinished ones go on from their last checkpoint.

        Args:
            overrides: entries of the run's configuration as the command line takes them, ``"data.crop_pct=1.0"``.
            entries: the same as arguments: ``model="resnet50", epochs=5``.
            fold: ``"all"``, ``"0"``, ``"0,2"``, ``"0-3"``, or numbers.
            run: the run's name; None: made of the model and the configuration.
            config: ``recipe:NAME`` (see :meth:`recipes`), or a file with a run's configuration such as ``kk tune`` writes,
                instead of ``kk.yaml``'s.
            time_limit: end cleanly before this.
            restart: throw away what this run has trained so far.
            launcher: ``"local"``, a fold per device, or ``"ray"``, over a cluster; None: in this process.
            devices, address: of the launcher.
            events: how it is shown: ``"auto"``, a live screen in a terminal or notebook, else lines; ``"lines"``; ``"json"``.
        """
        from kaggle_kit.config import as_overrides
        from kaggle_kit.units import as_seconds

        given = [*overrides, *as_overrides({**entries, **given_only(strategy=strategy, precision=precision)})]
        setup, limit = self._open(given, config), as_seconds(time_limit)
        require_trainable(setup, fold)
        if launcher:
            LAUNCHERS.require(launcher)
        from kaggle_kit.live import make_reporter
        from kaggle_kit.training import TrainOptions, train_run

        options = TrainOptions(run, fold, restart, limit)
        if launcher:
            from kaggle_kit.launch import LaunchOptions, launch_run

            where = LaunchOptions(launcher, devices, address)
            return launch_run(setup, where, options, reporter=make_reporter(events))
        return train_run(setup, options, reporter=make_reporter(events))

    def update(
        self,
        data: PathLike,
        *overrides: str,
        runs: str | Sequence[str] = (),
        blend: str | None = None,
        time_limit: Duration | None = None,
        launcher: str | None = None,
        devices: int | None = None,
        address: str | None = None,
        events: str = "auto",
        **entries: Any,
    ) -> UpdateResult:
        """Let new labelled rows join the folds, and train runs further from their own models, fold by fold.

        The same call goes on after a kill; where nothing is new it does nothing.

        Args:
            data: holds the old data and the new, laid out as before; ``kk.yaml`` names it from then on.
            overrides, entries: of the runs' configurations, ``epochs=2``.
            runs: to be updated, by the name that they had at first; none: the newest.
            blend: predict the test images with the updated runs, and blend them under this name.
            time_limit: of each run.
            launcher, devices, address, events: as for :meth:`train`.
        """
        from kaggle_kit.config import as_overrides
        from kaggle_kit.update import update

        where: dict[str, Any] = {"launcher": launcher, "devices": devices, "address": address, "events": events}
        given = [*overrides, *as_overrides(entries)]
        return update(self, Path(data), names(runs), given, blend=blend, time_limit=time_limit, **where)

    def predict(
        self,
        *,
        run: str | None = None,
        tta: str = "none",
        merge: str = "mean",
        control: int | None = None,
        oof: bool = True,
        engine: str = "auto",
        time_limit: Duration | None = None,
    ) -> list[RunPrediction]:
        """Predict the test images with the models of every fold.

        Args:
            run: None: every run that has a finished fold.
            tta: the views of each test image: ``"hflip"``, ``"hflip+stretched"``, ``"0.7*none+0.3*larger"`` …; ``"auto"``
                chooses views and weights for each run by its out-of-fold rows, ``"auto:hflip,d4"`` from these.
            merge: how the views' probabilities become one: ``"mean"``, ``"gmean"`` or ``"max"``.
            control: training images hidden among the test images, for :meth:`check`; 0 for none.
            oof: predict the out-of-fold rows with these views, too.
            engine: an entry of ``kaggle_kit.choices.ENGINES``; of ``"int8"`` it is told what the score loses out of fold.
            time_limit: for instance ``"8h30m"``; what there is no time for is left out, views first, then folds.
        """
        from kaggle_kit.runs import choose_runs

        require_prediction(tta, merge, engine)
        from kaggle_kit.units import as_seconds

        setup, chosen, limit = self._open(), [run] if run else [], as_seconds(time_limit)
        choose_runs(self.workspace, chosen)
        from kaggle_kit.inference import PredictOptions, predict_runs
        from kaggle_kit.inference.control import CONTROL_ROWS

        options = PredictOptions(tta, merge, CONTROL_ROWS if control is None else control, oof, engine)
        if is_auto(tta):
            from kaggle_kit.view_choice import choose_views

            limit = choose_views(setup, chosen, options, time_limit=limit, progress=show.bar("choosing views"))
        found = predict_runs(setup, chosen, options, time_limit=limit, progress=show.bar("predicting"))
        for text in int8_costs(setup, [one.run for one in found]) if engine == INT8 and oof else ():
            show.line(text)
        return found

    def predict_images(
        self,
        images: PathLike,
        *,
        out: PathLike = "predictions.csv",
        run: str | None = None,
        tta: str = "none",
        merge: str = "mean",
        engine: str = "auto",
    ) -> Predictions:
        """Predict any folder of images and write ``out``: id, predicted class, a probability for each class.

        Args:
            run: names of runs with commas between them, whose mean is taken, or the path of a run's folder or of a model file;
                None: the newest run.
        """
        require_prediction(tta, merge, engine)
        from kaggle_kit.inference import predict_to_csv

        options: dict[str, Any] = {"tta": tta, "merge": merge, "engine": engine}
        return predict_to_csv(Path(images), Path(out), run=run, **options, progress=show.bar("predicting"))

    def evaluate(
        self,
        data: PathLike,
        *,
        runs: str | None = None,
        metrics: Sequence[str] = (),
        out: PathLike = "evaluation.csv",
        tta: str = "none",
        merge: str = "mean",
        open: bool = False,
    ) -> Evaluation:
        """Score each fold, each run and the ensemble on labelled images that no model has seen; writes a CSV and a page.

        Args:
            data: a folder with a folder for each class, or a CSV of image files and labels.
            runs: names with commas between them, or the path of a run's folder or a model file; None: the newest run.
            metrics: entries of ``kaggle_kit.metrics.METRICS``; none: the usual ones.
            out: the CSV of predictions beside the truth; the page lies beside it.
            open: show the page in the browser.
        """
        require_prediction(tta, merge, "auto")
        from kaggle_kit.evaluate import Wanted, evaluate

        wanted = Wanted(runs, tuple(names(metrics)), tta, merge)
        found = evaluate(self.workspace, Path(data), Path(out), wanted, progress=show.bar("predicting"))
        if open:
            found.page.open()
        return found

    def blend(
        self,
        runs: Sequence[str] = (),
        *,
        method: str = "mean",
        name: str | None = None,
        seed: int = 0,
        tune_thresholds: bool = False,
        force: bool = False,
        oof: bool = False,
    ) -> BlendResult:
        """Blend runs by their out-of-fold rows, write the submission in the sample's form, and check it.

        Args:
            runs: their names; none: all that have a finished fold.
            method: an entry of ``kaggle_kit.blending.BLENDERS``.
            name: of the submission; by default the next of ``blend-0001``, ``blend-0002`` …
            tune_thresholds: for multi-label: find a threshold for each class out of fold.
            force: write over a submission of that name, unless it was sent to Kaggle.
            oof: score the blend out of fold, which needs no test predictions, and write no submission.
        """
        from kaggle_kit.blending.blend import blend

        thresholds: Any = "tuned" if tune_thresholds else "config"
        options: dict[str, Any] = {"method": method, "name": name, "seed": seed, "thresholds": thresholds, "force": force}
        setup = self._open()
        return blend(setup.without_test() if oof else setup, runs=names(runs), **options)

    def check(self, file: PathLike | None = None, *, answers: PathLike | None = None) -> CheckReport:
        """Say whether a submission would be accepted, and whether each class stands in its own column.

        Args:
            file: the submission, by default the last that was blended; a relative path is looked for in the workspace, then
                where you are.
            answers: a CSV with the true labels, to score the submission as Kaggle would.
        """
        from kaggle_kit.check import check_submission

        setup = self._open()
        path, known = self._submission(file), None if answers is None else self.path(answers)
        # Of the folder, since the verdict is written there; realpath, since a link to itself ends resolve().
        inside = Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(self.workspace.root))
        if not inside:
            logger.warning("%s is not in the workspace, so its verdict is not kept; copy it to submissions/ to send it", path)
        return check_submission(
            path,
            workspace=setup.workspace,
            config=setup.config,
            competition=setup.competition,
            answers=known,
            keep=inside,
        )

    def keys(self, key: str = "") -> Keys:
        """Return what the keys of ``kk.yaml`` mean, with their values here, their defaults and their choices.

        Args:
            key: a section, a dotted key or a short name; empty: all keys.

        Raises:
            ConfigError: there is no such key, or ``kk.yaml`` is wrong.
        """
        from kaggle_kit.config.describe import describe_config

        return describe_config(key, self.workspace.config_path)

    @staticmethod
    def recipes(name: str = "") -> pd.DataFrame | Recipe:
        """Return a row for each recipe that ``train(config="recipe:NAME")`` takes, or the text of one.

        >>> "sushi" in set(Project.recipes()["recipe"])
        True
        """
        from kaggle_kit.config.recipes import read_recipe, recipes_table

        return read_recipe(name) if name else recipes_table()

    def runs(self) -> pd.DataFrame:
        """Return a row for each run, the best first: what it is, what it scored, when it was begun."""
        from kaggle_kit.runs.comparison import runs_table

        return runs_table(self.workspace)

    def compare(self, *runs: str) -> Comparison:
        """Show what two or more runs differ in, and the difference of their scores fold by fold."""
        from kaggle_kit.runs.comparison import compare_runs

        return compare_runs(self.workspace, runs)

    def remove(self, *runs: str, force: bool = False) -> Done:
        """Delete runs, unless a submission rests on them.

        Args:
            force: delete them although one does.
        """
        from kaggle_kit.runs.comparison import remove_runs

        return remove_runs(self.workspace, runs, force=force)

    def report(self, *names: str, gradcam: str = "", open: bool = False) -> ReportResult:
        """Write ``report/<name>.html`` about a run or a blend: score, verdict, mistakes, calibration … and return where it is.

        Args:
            names: of runs and blends; several are compared on one page, none is the newest blend, else the newest run.
            gradcam: ids of images, with commas between them, to explain by Grad-CAM, or a number of the surest mistakes.
            open: show it in the browser.
        """
        from kaggle_kit.report.make import make_report

        written = make_report(self._open(), names, gradcam=gradcam, progress=show.bar("reading images"))
        if open:
            written.open()
        return written

    def oof(self, run: str, *, tta: str = "none") -> pd.DataFrame:
        """Return the out-of-fold rows of a run: id, fold, label, predicted, probability, and a column for each class."""
        from kaggle_kit.runs.comparison import oof_table

        return oof_table(self.workspace, run, tta=tta)

    def export(
        self,
        name: str | None = None,
        *overrides: str,
        to: PathLike,
        format: str = "onnx",
        preprocessing: str = "inside",
        distil: bool = False,
        **entries: Any,
    ) -> ExportResult:
        """Write the models of a run or a blend as files that other programs load, once they say what ``kk predict`` says.

        Args:
            name: of the run or blend; None: the newest blend, else the newest run.
            overrides, entries: with ``distil``, of the configuration of the run that learns, ``model="resnet18"``; what they do
                not say is as it was for ``name``.
            to: the folder to write; an earlier export there is replaced.
            format: an entry of ``kaggle_kit.choices.EXPORTS``.
            preprocessing: ``"inside"``, the model takes bytes and normalises them, or ``"beside"``, it takes normalised images.
            distil: train one model that learns from those of all folds, and write that; the same call goes on after a kill.
        """
        from kaggle_kit.config import as_overrides

        EXPORTS.require(format)
        inside, given, setup = PREPROCESSING.lookup(preprocessing), [*overrides, *as_overrides(entries)], self._open()
        lesson = student_and_teacher(setup, name, given, distil=distil)
        from kaggle_kit.export import ExportOptions, export_distilled, export_models

        options = ExportOptions(Path(to), format, inside)
        return export_models(setup, name, options) if lesson is None else export_distilled(*lesson, options)

    def serve(
        self,
        name: str | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        engine: str = "auto",
        urls: bool = False,
    ) -> ServedModels:
        """Serve a run or a blend over HTTP until Ctrl-C: ``POST /predict``, ``/health``, ``/metrics``, a page for images.

        Args:
            name: of the run or blend; None: the newest blend, else the newest run.
            host: to listen at; this machine only, unless another address is given.
            port: 0: a free one.
            urls: whether requests may name images by URL; they are fetched from public addresses only.
        """
        ENGINE_CHOICES.require(engine)
        from kaggle_kit.serve import ServeOptions, serve

        return serve(self._open(), name, ServeOptions(host, port, engine, urls), say=show.line)

    def latency(
        self,
        *models: str,
        runs: str | Sequence[str] = (),
        engines: str | Sequence[str] = (),
        batch_sizes: str | Sequence[int] = (1, 8, 32),
        image_size: int | None = None,
        picture: PathLike | None = None,
    ) -> Latency:
        """Measure how long models take on this machine, by the engines that predict; :meth:`models` shows it from then on.

        Args:
            models: timm's names; they get random weights, which take the same time.
            runs: whose models are measured, beside their scores; without models and runs, all that have a finished fold.
            engines: entries of ``kaggle_kit.choices.ENGINES``; none: all that can be used here.
            batch_sizes: images at a time, ``"1,8,32"``.
            image_size: side of the images of ``models``; None: their own.
            picture: a PNG, SVG or PDF to draw.
        """
        sizes, chosen = positive_numbers(batch_sizes, "--batch-sizes"), [ENGINES.require(one) for one in names(engines)]
        path = None if picture is None else drawable(picture)
        from kaggle_kit.config.known import require_model
        from kaggle_kit.runs import choose_runs

        for model in models:
            require_model(model)

        named = names(runs)
        of_runs = choose_runs(self.workspace, named) if named or not models else []
        from kaggle_kit.inference.latency import measure_latency, models_to_time
        from kaggle_kit.inference.run import calibration_of
        from kaggle_kit.machine.speeds import keep_speeds

        timed = models_to_time(models, of_runs, image_size=image_size)
        calibration = calibration_of(INT8, self._open().competition) if INT8 in chosen else ()
        found = measure_latency(timed, chosen, sizes, calibration=calibration, say=logger.info)
        keep_speeds(found.device, found.rows)
        if path is not None:
            write_picture(path, found.plot_latency())
        return found

    def submissions(self) -> pd.DataFrame:
        """Return a row for each submission: its out-of-fold score beside what Kaggle gave."""
        from kaggle_kit.runs.submissions import submissions_table

        return submissions_table(self.workspace)

    def tune(
        self,
        *overrides: str,
        config: PathLike | None = None,
        study: str = "tune",
        space: PathLike | None = None,
        models: Sequence[str] = (),
        trials: int | None = None,
        time_limit: Duration | None = None,
        folds: str = "0",
        promote: float | None = None,
        pruner: str = "hyperband",
        storage: str | None = None,
        seed: int = 0,
        strategy: str | None = None,
        launcher: str | None = None,
        devices: int | None = None,
        address: str | None = None,
        **entries: Any,
    ) -> TuneResult:
        """Search hyperparameters with Optuna; writes ``tune/<study>/best.yaml`` for ``train(config=…)``.

        Args:
            overrides, config, entries: of the configuration that the search starts from, as for :meth:`train`.
            space: a YAML file of what to search; None: what usually matters.
            models: to choose from.
            trials: of the study, those of earlier calls included.
            folds: those that every trial trains.
            promote: share of trials that earn the other folds.
            storage: a database's URL or a journal file; None: SQLite in the workspace.
            launcher, devices, address: trials side by side on a Ray cluster.
        """
        from kaggle_kit.config import as_overrides
        from kaggle_kit.units import as_seconds

        setup = self._open([*overrides, *as_overrides({**entries, **given_only(strategy=strategy)})], config)
        PRUNERS.require(pruner)
        limit = as_seconds(time_limit)
        require_trainable(setup, folds)
        from kaggle_kit.tune import TuneOptions, make_tune_reporter, tune

        options = TuneOptions(
            study=study,
            space=None if space is None else Path(space),
            models=names(models),
            trials=trials,
            time_limit=limit,
            folds=folds,
            promote=promote,
            pruner=pruner,
            storage=storage,
            seed=seed,
            launcher=launcher,
            devices=devices,
            address=address,
        )
        return tune(setup, options, reporter=make_tune_reporter())

    def auto(
        self,
        *,
        time_limit: Duration = "1h",
        session: Duration | None = None,
        goal: str = "balanced",
        only: str | Sequence[str] = (),
        max_size: str | int | None = None,
        internet: bool = True,
        launcher: str | None = None,
        devices: int | None = None,
        address: str | None = None,
    ) -> AutoResult:
        """Train, predict and blend what is expected to gain most a minute, until the time is over; goes on where it ended.

        The first checked submission comes from a probe of the smallest backbone; a run joins the blend only where out-of-fold
        rows show the blend to be better with it, so that ``submissions/latest`` is always the best so far.

        Args:
            time_limit: of all calls together.
            session: of this call alone; None: no limit of its own.
            goal: ``"fast"``, ``"balanced"`` or ``"best"``: how long a run is trained, and how many kinds are tried.
            only: shell patterns of backbones, ``"tf_efficientnet_lite*"``; none: all whose weights are on this machine.
            max_size: of the models of the blend, all folds together: ``"500MB"``.
            internet: whether weights of further backbones may be downloaded where there is time for them.
            launcher, devices, address: as for :meth:`train`.
        """
        from kaggle_kit.units import as_seconds, parse_bytes

        GOALS.require(goal)
        if launcher:
            LAUNCHERS.require(launcher)
        limit = as_seconds(time_limit) or 0.0
        where: dict[str, Any] = {"launcher": launcher, "devices": devices, "address": address}
        most = None if max_size is None else parse_bytes(max_size, "--max-size")
        from kaggle_kit.auto import AutoOptions, run_auto

        options = AutoOptions(limit, goal, tuple(names(only)), most, internet, where, as_seconds(session))
        return run_auto(self, options, say=show.line)

    def dashboard(self, study: str = "tune", *, storage: str | None = None) -> None:
        """Serve optuna-dashboard for a study until Ctrl-C."""
        from kaggle_kit.tune import open_dashboard

        open_dashboard(self.workspace, study, storage=storage)

    def plan(
        self,
        *overrides: str,
        config: PathLike | None = None,
        fold: str = "all",
        time_limit: Duration = "9h",
        seconds: float = 30.0,
        devices: int = 1,
        tta: str = "none",
        **entries: Any,
    ) -> Plan:
        """Measure for about ``seconds`` and say how long a run will take, and what would fit ``time_limit``.

        Args:
            overrides, config, entries: of the run's configuration, as for :meth:`train`.
            devices: folds trained at a time.
            tta: views of the test images.
        """
        from kaggle_kit.config import as_overrides
        from kaggle_kit.units import as_seconds

        setup, limit = self._open([*overrides, *as_overrides(entries)], config), as_seconds(time_limit)
        require_views(tta, auto=False)
        require_trainable(setup, fold)
        from kaggle_kit.launch import plan_run

        return plan_run(setup, fold=fold, limit=limit or 0.0, seconds=seconds, devices=devices, tta=tta)

    def lr(
        self,
        *overrides: str,
        config: PathLike | None = None,
        fold: int = 0,
        lowest: float = 1e-6,
        highest: float = 10.0,
        updates: int = 100,
        **entries: Any,
    ) -> LrTest:
        """Train with a growing learning rate until the loss diverges, suggest ``lr``, and draw the curve; keeps no model.

        Args:
            overrides, config, entries: of the run's configuration, as for :meth:`train`.
            lowest, highest: rates that the test begins and ends with.
            updates: optimizer steps from one to the other.
        """
        from kaggle_kit.config import as_overrides

        given = [*overrides, *as_overrides(entries)]
        setup = self._open(given, config)
        require_trainable(setup, (fold,))
        from kaggle_kit.report.lr import make_lr_test
        from kaggle_kit.training.lr_finder import Sweep

        sweep = Sweep(lowest, highest, updates)
        beside = given if config is None else ["--config", str(config), *given]
        return make_lr_test(setup, sweep, fold=fold, entries=beside, progress=show.bar("testing rates"))

    @property
    def kernel(self) -> Kernel:
        """Build, test and push an offline Kaggle kernel."""
        return Kernel(self.workspace)

    @property
    def cache(self) -> Cache:
        """List, verify and drop the stores of decoded images."""
        return Cache(self.workspace)

    @property
    def weights(self) -> Weights:
        """List pretrained weights, and fill folders with them."""
        return Weights()

    @staticmethod
    def models(
        pattern: str = "", *, under: str | int | None = None, faster_than: float | None = None, here: bool = False
    ) -> pd.DataFrame:
        """Return timm's pretrained models, the most accurate on ImageNet first, with parameters, licence and speed here.

        Args:
            pattern: shell pattern, ``"convnext*"``, or a part of the name.
            under: the most parameters, ``"50M"``.
            faster_than: images a second, as :meth:`latency` measured them on this machine.
            here: only models whose weights are on this machine.
        """
        from kaggle_kit.units import parse_count

        most = None if under is None else parse_count(under, "--under")
        from kaggle_kit.models.catalogue import models_table

        return models_table(pattern, under=most, faster_than=faster_than, here=here)

    def submit(
        self,
        competition: str,
        file: PathLike | None = None,
        *,
        message: str = "",
        wait: bool = True,
        force: bool = False,
    ) -> SubmissionStatus:
        """Submit a file that passed its check, wait for the score and keep it in the submission's record.

        Args:
            competition: its name as in its address.
            file: the submission, by default the last that was blended.
            message: what Kaggle lists it under.
            force: although the check did not pass, or these bytes were sent before.
        """
        from kaggle_kit.kaggle_api import Patience, submit

        patience, path = Patience() if wait else Patience(score=0.0), self._submission(file)
        options: dict[str, Any] = {"message": message, "force": force, "patience": patience}
        return submit(self.workspace, competition, path, **options, on_status=show.status)

    @staticmethod
    def download(competition: str, folder: PathLike | None = None) -> Path:
        """Fetch and unpack a competition's data into ``folder``, by default one of its name; goes on where it was cut off."""
        from kaggle_kit.kaggle_api import download

        return download(competition, Path(folder or competition), show_bar=not show.quiet())

    def _submission(self, file: PathLike | None) -> Path:
        return self.workspace.latest_submission() if file is None else self.path(file)

    def path(self, file: PathLike) -> Path:
        """Return ``file`` in the workspace if it is there, else as it was given."""
        return self.workspace.locate(file)

    def __repr__(self) -> str:
        return f"Project: {self.workspace.root}"

    def _repr_html_(self) -> str:
        found = [] if self.inference is None else self.inference.findings
        listed = "".join(f"<li>{escape(finding)}</li>" for finding in found)
        return f"<p>{escape(repr(self))}</p>" + (f"<ul>{listed}</ul>" if listed else "")
