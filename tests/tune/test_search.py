"""The search: the present configuration first, budgets, pruning, promotion, failures, and going on by name."""

import math
import time

import optuna
import pytest
import yaml
from tiny_search import RUN, Silent

from kaggle_kit.choices import PRUNERS
from kaggle_kit.config import load_config
from kaggle_kit.errors import ConfigError, DataError, DeviceMemoryError, TrainingError
from kaggle_kit.runs import list_runs
from kaggle_kit.tune import TuneOptions, objective
from kaggle_kit.tune.storage import default_storage

pytestmark = pytest.mark.usefixtures("pages")


def study_of(search, name="tune"):
    return optuna.load_study(study_name=name, storage=default_storage(search.workspace, name))


def test_the_present_configuration_is_the_first_trial_even_outside_the_space(search, training):
    space = search.write_space("lr: {log: [1e-4, 1e-2]}\nmodel.drop_rate: {float: [0, 0.5]}\n")  # the present lr is 0.3
    result = search.tune(space=space, trials=3)
    assert training.calls[0][3] == search.config.run
    assert result.rows[0].changes == {}
    assert study_of(search).trials[0].params == {"model.drop_rate": 0.0}
    assert all("optimizer.lr" in row.changes for row in result.rows[1:])


def test_the_best_configuration_is_one_that_training_takes(search, training):
    result = search.tune(trials=12)
    assert result.count("complete") == 12
    assert result.best.score == max(row.score for row in result.rows) > result.rows[0].score
    taken = load_config(search.workspace.config_path, run_file=result.best_path).run
    assert taken == next(config for name, _, _, config in training.calls if name == f"trial-{result.best.number:04}")
    text = result.best_path.read_text()
    assert yaml.safe_load(text)["optimizer"]["lr"] == result.best.changes["optimizer.lr"]
    assert f"Trial {result.best.number} of study tune: accuracy {result.best.score:.4f} on fold 0" in text


def test_trials_are_runs_of_their_own_place_without_weights(search, training):
    result = search.tune(trials=2)
    assert result.path == search.workspace.root / "tune" / "tune"
    for number in range(2):
        folder = result.path / f"trial-{number:04}" / "fold0"
        assert (folder / "oof.parquet").exists()
        assert not (folder / "model.safetensors").exists()
    assert list_runs(search.workspace) == []


def test_equal_seeds_draw_equal_trials(search, training):
    first = search.tune(study="a", trials=4, seed=3)
    again = search.tune(study="b", trials=4, seed=3)
    other = search.tune(study="c", trials=4, seed=4)
    assert [row.changes for row in first.rows] == [row.changes for row in again.rows]
    assert [row.changes for row in first.rows[1:]] != [row.changes for row in other.rows[1:]]


def test_a_study_goes_on_by_name_and_draws_nothing_twice(search, training):
    assert len(search.tune(trials=3).rows) == 3
    assert search.tune(trials=3).stopped is None
    assert len(training.calls) == 3
    result = search.tune(trials=8)
    assert [row.number for row in result.rows] == list(range(8))
    assert len({row.changes.get("optimizer.lr") for row in result.rows}) == 8
    assert len(training.calls) == 8


@pytest.mark.parametrize(
    ("options", "overrides", "words"),
    [
        ({}, ["epochs=5"], "run.schedule.epochs: 4 -> 5"),
        ({"folds": "1"}, [], "first_folds"),
        ({"promote": 0.5}, [], "promote: None -> 0.5"),
        ({"models": ["test_resnet"]}, [], "space"),
    ],
)
def test_a_study_with_other_settings_is_refused(search, training, options, overrides, words):
    search.tune(trials=1)
    with pytest.raises(ConfigError, match=r"study 'tune' was begun with other settings") as error:
        search.tune(trials=2, config=search.with_run(*RUN, *overrides), **options)
    assert words in str(error.value)


def test_loader_processes_and_precision_may_change(search, training):
    search.tune(trials=1)
    search.tune(trials=2, config=search.with_run(*RUN, "workers=1", "precision=fp32"))


def test_the_time_limit_ends_a_search_without_a_number_of_trials(search, training):
    # The first trial is as quick as the machine allows; those after it fill the time, however slow the machine is.
    training.before_epoch = lambda run, fold, epoch: time.sleep(0.0 if run == "trial-0000" else 1.0)
    result = search.tune(time_limit=5.0)
    assert result.stopped == "the time limit is reached"
    assert result.best is not None


def test_a_trial_that_was_stopped_goes_on_from_its_checkpoint(search, training):
    training.stop_at = ("trial-0001", 3)
    result = search.tune(trials=3)
    assert result.stopped == "the time limit is reached"
    assert [row.state for row in result.rows] == ["complete", "interrupted", "waiting"]
    assert result.rows[2].changes == result.rows[1].changes
    training.stop_at = None
    result = search.tune(trials=3)
    assert [row.state for row in result.rows] == ["complete", "interrupted", "complete", "complete"]
    assert training.names() == ["trial-0000", "trial-0001", "trial-0001", "trial-0003"]
    assert [restart for _, _, restart, _ in training.calls] == [True, True, False, True]
    reported = study_of(search).trials
    assert sorted(reported[2].intermediate_values) == [1, 2, 3, 4]
    assert reported[2].params == reported[1].params
    assert result.rows[2].epochs == (4, 4)


def test_ctrl_c_keeps_what_there_is_and_goes_on(search, training):
    def interrupt(run, fold, epoch):
        if (run, epoch) == ("trial-0001", 2):
            raise KeyboardInterrupt

    training.before_epoch = interrupt
    with pytest.raises(KeyboardInterrupt):
        search.tune(trials=3)
    assert (search.workspace.tune_dir("tune") / "best.yaml").exists()
    training.before_epoch = lambda run, fold, epoch: None
    assert search.tune(trials=3).count("complete") == 3
    assert training.names().count("trial-0001") == 2


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TrainingError("1 of 1 folds of run 'trial-0001' failed:\n  fold 0: the loss is not finite"), "the loss is not finite"),
        (DeviceMemoryError("the batch of 32 does not fit"), "the batch of 32 does not fit"),
        (RuntimeError("size mismatch"), "RuntimeError: size mismatch"),
    ],
)
def test_failures_are_recorded_and_do_not_stop_the_study(search, training, error, words):
    def fail(run, fold, epoch):
        if run == "trial-0001":
            raise error

    training.before_epoch = fail
    reporter = Silent()
    result = search.tune(reporter, trials=4)
    assert [row.state for row in result.rows] == ["complete", "failed", "complete", "complete"]
    assert words in result.rows[1].error
    assert "\n" not in result.rows[1].error
    assert reporter.ended[1].error == result.rows[1].error
    assert len(search.tune(trials=4).rows) == 4  # a failure counts, and is not tried again


def test_a_score_that_is_not_defined_is_a_failure(search, training):
    training.score = lambda run, fold: math.nan if run.optimizer.lr != 0.3 else 0.5
    result = search.tune(trials=3)
    assert [row.state for row in result.rows] == ["complete", "failed", "failed"]
    assert "not defined" in result.rows[1].error
    assert result.best.number == 0


def test_a_search_where_everything_fails_ends(search, training, pages):
    training.score = lambda run, fold: math.nan
    with pytest.raises(TrainingError, match=r"the last 5 trials of study 'tune' failed; the last one: accuracy is not defined"):
        search.tune(trials=50)
    assert len(training.calls) == 5
    assert pages == [search.workspace.tune_dir("tune") / "report.html"]


def test_missing_data_ends_the_search_and_the_trial_is_kept(search, training):
    def fail(run, fold, epoch):
        if run == "trial-0002":
            raise DataError("the images are gone")

    training.before_epoch = fail
    with pytest.raises(DataError, match="the images are gone"):
        search.tune(trials=4)
    training.before_epoch = lambda run, fold, epoch: None
    assert search.tune(trials=4).count("complete") == 4
    assert training.names().count("trial-0002") == 2


class TestPruning:
    @pytest.mark.parametrize("pruner", [name for name in PRUNERS if name != "none"])
    def test_prunes_what_is_worse_and_counts_the_time_saved(self, search, training, pruner):
        # After the present trial every one is worse than the one before it.
        training.score = lambda run, fold: 1.0 / (1 + len(training.calls))
        result = search.tune(trials=14, pruner=pruner, config=search.with_run(*RUN, "epochs=9"))
        assert result.rows[0].state == "complete"
        assert result.count("pruned") >= 4
        assert result.seconds_saved > 0
        for row in result.rows:
            done, planned = row.epochs
            assert (done < planned) == (row.state == "pruned")
            assert planned == 9
        assert "pruning saved about" in result.describe()

    def test_without_a_pruner_none_is(self, search, training):
        training.score = lambda run, fold: 1.0 / (1 + len(training.calls))
        assert search.tune(trials=8, pruner="none").count("complete") == 8

    def test_never_prunes_the_present_configuration(self, search, training):
        training.score = lambda run, fold: 0.0
        search.tune(trials=1)
        assert study_of(search).trials[0].state == optuna.trial.TrialState.COMPLETE

    def test_steps_are_shares_of_the_schedule(self, search, training):
        space = search.write_space("epochs: {categorical: [2, 8]}\n")
        search.tune(space=space, trials=8, config=search.with_run(*RUN))
        by_epochs = {trial.params.get("schedule.epochs", 4): trial.intermediate_values for trial in study_of(search).trials}
        assert set(by_epochs) == {2, 4, 8}
        for epochs, values in by_epochs.items():
            assert sorted(values) == list(range(1, 9))
            assert len(set(values.values())) == epochs
            assert values[4] == pytest.approx(values[8] / 2)  # halfway is halfway in each

    def test_pruners_are_listed(self, search, training):
        with pytest.raises(ConfigError, match=r"unknown pruner 'medain'.*median"):
            search.tune(trials=1, pruner="medain")


class TestFolds:
    def test_several_folds_give_their_mean(self, search, training):
        result = search.tune(trials=2, folds="0,2")
        assert [fold for _, fold, _, _ in training.calls] == [0, 2, 0, 2]
        assert result.rows[0].score == pytest.approx(sum(result.rows[0].scores.values()) / 2)
        assert sorted(result.rows[0].scores) == ["0", "2"]
        values = study_of(search).trials[0].intermediate_values
        assert sorted(values) == list(range(1, 9))
        assert values[8] == pytest.approx(result.rows[0].score)
        assert [restart for _, _, restart, _ in training.calls] == [True, False, True, False]

    def test_the_best_share_of_trials_earns_the_other_folds(self, search, training):
        scores = iter([0.5, 0.4, 0.9, 0.3, 0.2, 0.1])
        by_run = {}

        training.score = lambda run, fold: _score_of(training, by_run, scores, fold)
        result = search.tune(trials=6, promote=0.25)
        earned = [row.number for row in result.rows if not math.isnan(row.all_folds)]
        assert earned == [0, 2]
        assert result.rows[2].all_folds == pytest.approx(0.8)
        assert result.rows[2].score == 0.9
        assert [trial.value for trial in study_of(search).trials] == [0.5, 0.4, 0.9, 0.3, 0.2, 0.1]
        assert sorted(result.rows[2].scores) == ["0", "1", "2"]

    def test_the_best_is_chosen_by_all_folds(self, search, training):
        # The second trial is best on the first fold and worst on the others.
        training.score = lambda run, fold: 0.5 if run.optimizer.lr == 0.3 else (0.9 if fold == 0 else 0.0)
        result = search.tune(trials=2, promote=1.0)
        assert [row.score for row in result.rows] == [0.5, 0.9]
        assert result.best.number == 0
        assert "on 3 folds" in result.describe()

    def test_equal_scores_do_not_all_earn_them(self, search, training):
        training.score = lambda run, fold: 0.5
        result = search.tune(trials=8, promote=0.25)
        assert [row.number for row in result.rows if not math.isnan(row.all_folds)] == [0]

    def test_folds_that_do_not_exist(self, search, training):
        with pytest.raises(ConfigError, match=r"folds must lie in 0\.\.2"):
            search.tune(trials=1, folds="3")


def _score_of(training, by_run, scores, fold):
    name = training.calls[-1][0]
    if name not in by_run:
        by_run[name] = next(scores)
    return by_run[name] - 0.1 * fold


def test_a_metric_that_is_to_be_small(search, training):
    competition = search.competition.__class__(**{**vars(search.competition), "metric": "log_loss"})
    search = search.__class__(search.workspace, search.config, competition, search.folds)
    training.score = lambda run, fold: run.optimizer.lr
    result = search.tune(trials=8)
    assert study_of(search).direction == optuna.study.StudyDirection.MINIMIZE
    assert result.best.score == min(row.score for row in result.rows)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trials": 0}, "trials must be >= 1"),
        ({"promote": 0.0}, "promote must lie above 0"),
        ({"promote": 1.5}, "promote must lie above 0"),
        ({"space": "space.yaml", "models": ["a"]}, "model.name: {categorical"),
    ],
)
def test_options_that_cannot_be(options, words):
    with pytest.raises(ConfigError) as error:
        TuneOptions(**options)
    assert words in str(error.value)


def test_a_trial_takes_one_device(search, training):
    with pytest.raises(ConfigError, match=r"hardware\.devices is 2"):
        search.tune(trials=1, config=search.with_run(*RUN, "devices=2"))


def test_study_names_are_plain(search, training):
    with pytest.raises(ConfigError, match="plain file name"):
        search.tune(study="../x", trials=1)


def test_weights_stay_where_a_trial_was_stopped(search, training):
    training.stop_at = ("trial-0000", 3)
    search.tune(trials=1)
    assert (search.workspace.tune_dir("tune") / "trial-0000" / "fold0" / "epochs.txt").read_text() == "2"


def test_fatal_errors_are_those_that_every_trial_would_meet():
    assert not issubclass(TrainingError, objective.FATAL)
    assert not issubclass(ConfigError, objective.FATAL)
