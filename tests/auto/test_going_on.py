"""A search that was ended in the middle of something goes on; and what it finds changed since."""

import dataclasses
import json
import shutil
from dataclasses import replace

import pytest
from factories import write_run
from fake_project import LARGE, SMALL, entries

from kaggle_kit.auto import ideas, scene
from kaggle_kit.auto.journal import Journal
from kaggle_kit.auto.page import commands
from kaggle_kit.auto.state import State, Tried
from kaggle_kit.errors import ConfigError, DataError


@pytest.fixture
def probes_only(only_ideas):
    only_ideas("probe")


def journal_of(project):
    return project.workspace.root / "auto" / "auto.jsonl"


def cut_after(project, kind, *, which=-1):
    """Leave of the journal what was there when an entry had just been written."""
    lines = journal_of(project).read_text().splitlines(keepends=True)
    at = [number for number, line in enumerate(lines) if json.loads(line)["kind"] == kind][which]
    journal_of(project).write_text("".join(lines[: at + 1]))


def test_a_kill_before_a_run_has_its_record_does_not_matter(project):
    (project.workspace.run_dir("auto-probe-small") / "contents").mkdir(parents=True)
    result, _ = project.auto(60.0)
    assert "auto-probe-small" in result.runs


def test_without_test_images_the_best_blend_is_found_all_the_same(project, monkeypatch, only_ideas):
    from kaggle_kit.auto import search

    plain = search.open_setup

    def without(workspace, *more):
        setup = plain(workspace, *more)
        return replace(setup, competition=dataclasses.replace(setup.competition, test=()))

    monkeypatch.setattr(search, "open_setup", without)
    monkeypatch.setattr(project, "blend", lambda runs, method: _blended_without_tests(project, runs, method))
    only_ideas("probe", "finetune", "mix")
    result, said = project.auto(2000.0, "best")
    assert not any(call.startswith("predict") for call in project.calls)
    assert not any("PASSED" in text for text in (*said, result.describe(), result.page.read_text()))
    assert len(result.runs) > 1
    assert result.submission is None
    told = commands(Journal(result.journal).read())
    assert not any(text.startswith("kk predict") for text in told)
    assert any("--fold full" in text for text in told)


def _blended_without_tests(project, runs, method):
    from kaggle_kit.blending.blend import blend

    setup = project.made.setup
    project.clock += 1.0
    return blend(replace(setup, competition=dataclasses.replace(setup.competition, test=())), runs=list(runs), method=method)


@pytest.mark.parametrize("kind", ["changes", "mirrors"])
def test_a_kill_while_mirrored_images_are_looked_at(project, probes_only, kind):
    project.auto(200.0)
    expected = entries(project, "mirrors")[0]
    cut_after(project, kind)
    project.calls.clear()
    project.auto(200.0)
    if kind == "changes":  # plain images first, which mirrored ones are compared with
        assert project.calls[:2] == ["predict auto-probe-small none", "predict auto-probe-small hflip"]
    (found,) = entries(project, "mirrors")
    assert found["better"] == expected["better"]


def test_a_kill_while_views_are_chosen_brings_the_views_back_that_the_blend_was_made_with(project, probes_only):
    project.auto(500.0, "balanced")
    of = entries(project, "changes")[-1]["run"]
    cut_after(project, "changes")
    before = State.of(Journal(journal_of(project)).read())
    plain = "none" if of == before.plain else "hflip"
    project.calls.clear()
    project.auto(500.0, "balanced")
    assert project.calls[:2] == [f"predict {of} {plain}", f"predict {of} auto"]


def test_views_that_were_taken_are_blended_after_a_kill(project, probes_only):
    project.chosen = 0.99
    project.auto(500.0, "balanced")
    viewed = [entry["better"] for entry in entries(project, "viewed")]
    assert True in viewed
    cut_after(project, "viewed", which=viewed.index(True))
    project.calls.clear()
    project.auto(1.0, "balanced")
    assert project.calls[0].startswith("blend")
    assert entries(project, "blended")[-1]["score"] > 0.9


def test_a_run_that_was_dropped_is_blended_without_after_a_kill(project):
    project.auto(60.0)
    bad = "auto-bad-small"
    write_run(replace(project.made, spec=replace(project.made.spec, accuracy=0.05)), bad, seed=1)
    kept = [*entries(project, "blended")[-1]["runs"], bad]
    journal = Journal(journal_of(project))
    trained = {"run": bad, "idea": "mix", "model": "small", "strategy": "", "seconds": 1.0, "score": 0.05, "commands": []}
    journal.add("trained", used=61.0, **trained)
    journal.add("blended", used=62.0, runs=kept, method="mean", score=0.5, blend="b", verdict="PASSED", command="kk blend")
    journal.add("dropped", used=63.0, run=bad)
    result, _ = project.auto(300.0)
    assert bad not in result.runs


def test_a_model_of_all_data_that_was_not_predicted_is_predicted_first(project, probes_only):
    project.auto(5000.0, goal="best")
    of = entries(project, "completed")[-1]["of"]
    cut_after(project, "changes")
    project.calls.clear()
    project.auto(5000.0, goal="best")
    assert project.calls[0].startswith(f"predict {of}")
    assert entries(project, "completed")[-1]["of"] == of


def test_a_prediction_that_does_not_fit_ends_the_search_and_goes_on_later(project, probes_only, monkeypatch):
    plain, slow = project.predict, [True]

    def predict(*, run, tta, time_limit):
        if run == "auto-probe-large" and slow:
            project.clock += time_limit
            raise ConfigError("the time limit was reached before all images were predicted. Nothing was written.")
        return plain(run=run, tta=tta, time_limit=time_limit)

    monkeypatch.setattr(project, "predict", predict)
    result, _ = project.auto(100.0)
    assert result.runs == ("auto-probe-small",)
    assert "auto-probe-large was not predicted in full" in result.ended
    slow.clear()
    result, _ = project.auto(300.0)
    assert {entry["run"] for entry in entries(project, "trained")} >= {"auto-probe-large"}


def test_other_errors_of_a_prediction_are_told(project, monkeypatch):
    def predict(*, run, tta, time_limit):
        raise DataError("the images are gone")

    monkeypatch.setattr(project, "predict", predict)
    with pytest.raises(DataError, match="the images are gone"):
        project.auto(100.0)
    assert entries(project, "interrupted")


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_whose_folder_was_deleted_is_out(project, only_ideas, kept):
    only_ideas("probe", "look", "finetune")
    project.accuracy["finetune"] = 0.35
    first, _ = project.auto(600.0)
    left_out = [run for run in State.of(Journal(first.journal).read()).tried if run not in first.runs]
    run = first.runs[0] if kept else left_out[0]
    shutil.rmtree(project.workspace.run_dir(run))
    project.calls.clear()
    result, said = project.auto(900.0, "balanced")
    assert f"the folder of {run} is gone: it is left out" in said
    assert (f"train {run} all" in project.calls) == kept  # it was of use, and is trained again
    assert result.verdict == "PASSED"


def test_a_training_goes_on_with_the_entries_it_was_begun_with(project):
    """Whatever was learnt since of how to look at images: a run of other entries would be refused."""
    look = "data.crop_pct=1.0"
    state = State(
        started={"auto-finetune-small": ("model=small", "epochs=2", look), "auto-teacher-small": ("model=small", look)}
    )
    for idea, score in (("probe", 0.5), ("look", 0.9)):
        state.tried[f"auto-{idea}-small"] = Tried(f"auto-{idea}-small", idea, "small", 1.0, score, "probe", ("x=1",))
    found = {one.run: one for one in ideas.candidates(scene.Scene([SMALL, LARGE], 224, "best", folds="folds"), state)}
    assert found["auto-finetune-small"].step.entries == ("model=small", "epochs=2", look)
    assert look not in found["auto-finetune-large"].step.entries
    assert found["auto-soft-small"].before[1].entries == ("model=small", look)


def test_what_a_training_is_begun_with_is_told_before(project):
    project.kills["auto-probe-large"] = 1
    with pytest.raises(KeyboardInterrupt):
        project.auto(300.0)
    assert entries(project, "starts")[-1]["run"] == "auto-probe-large"
    assert entries(project, "starts")[-1]["entries"][0] == "model=large"
    assert entries(project, "interrupted")[-1]["used"] == project.clock


def test_specialists_look_at_images_as_the_run_that_they_begin_from(project):
    own = ("model=small", "data.crop_pct=1.0", "model.head.joined=[-2, -3]", "epochs=8")
    state = State(tried={"auto-finetune-small": Tried("auto-finetune-small", "finetune", "small", 1.0, 0.9, "", own)})
    for idea, score in (("probe", 0.5), ("look", 0.9)):
        state.tried[f"auto-{idea}-small"] = Tried(f"auto-{idea}-small", idea, "small", 1.0, score, "probe", ("x=1",))
    found = {one.idea: one for one in ideas.candidates(scene.Scene([SMALL], 224, "best", folds="folds"), state)}
    assert set(own[1:3]) <= set(found["specialists"].step.entries)
    assert not set(own[1:3]) & set(found["mix"].step.entries)


@pytest.mark.parametrize("goal", ["fast", "balanced"])
def test_a_later_session_with_other_backbones_alone_goes_on_with_those(project, monkeypatch, only_ideas, goal):
    monkeypatch.setattr(scene, "local_backbones", lambda only=(), pretrained=True: [SMALL if only == ("small",) else LARGE])
    only_ideas("probe", "finetune")
    project.auto(100.0, goal, only=("small",))
    project.auto(2000.0, goal, only=("large",))
    models = {(entry["idea"], entry["model"]) for entry in entries(project, "trained")}
    assert {("probe", "small"), ("probe", "large"), ("finetune", "large")} <= models


def test_pretrained_weights_that_come_later_are_used(project, monkeypatch):
    monkeypatch.setattr(scene, "local_backbones", lambda only=(), pretrained=True: [])
    project.auto(500.0)
    monkeypatch.setattr(scene, "local_backbones", lambda only=(), pretrained=True: [SMALL])
    project.auto(1500.0)
    assert ("probe", "small") in {(entry["idea"], entry["model"]) for entry in entries(project, "trained")}


def test_the_seconds_of_a_run_are_those_of_all_sessions(project, probes_only):
    project.seconds["probe"] = 60.0
    project.auto(40.0)  # cut off by the clock
    assert [entry["run"] for entry in entries(project, "stopped")] == ["auto-probe-small"]
    project.seconds["probe"] = 10.0  # what was left
    project.auto(100.0)
    spent = entries(project, "stopped")[0]["seconds"]
    assert spent > 20
    tried = State.of(Journal(journal_of(project)).read()).tried["auto-probe-small"]
    assert tried.seconds == pytest.approx(spent + entries(project, "trained")[0]["seconds"])


def test_the_commands_have_the_run_that_another_begins_from(project):
    trained = {"used": 1.0, "kind": "trained"}
    journal = [
        {**trained, "run": "base", "entries": ["model=m"], "commands": ["kk train model=m --run base"]},
        {**trained, "run": "more", "entries": ["init_from=base"], "commands": ["kk train init_from=base --run more"]},
        {**trained, "run": "other", "entries": [], "commands": ["kk train --run other"]},
        {"used": 1.0, "kind": "blended", "runs": ["more"], "command": "kk blend --runs more"},
    ]
    assert commands(journal) == [*(text for entry in journal[:2] for text in entry["commands"]), "kk blend --runs more"]
