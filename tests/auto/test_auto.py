"""The search on a made workspace."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from factories import write_run
from fake_project import HEADS, LARGE, SMALL, TUNED, entries

from kaggle_kit import files
from kaggle_kit.auto import AutoOptions, ideas, scene
from kaggle_kit.auto import blend as auto_blend
from kaggle_kit.auto.desk import Desk
from kaggle_kit.auto.journal import Journal
from kaggle_kit.auto.judge import Rows
from kaggle_kit.auto.page import commands, decisions
from kaggle_kit.auto.state import State, Tried
from kaggle_kit.competition import open_setup
from kaggle_kit.errors import ConfigError, KaggleKitError, LockedError, WeightsError
from kaggle_kit.models import backbones
from kaggle_kit.runs.blend_record import read_blend_record


def test_the_first_submission_is_of_a_probe_of_the_smallest_backbone_and_the_best_is_the_latest(project):
    result, said = project.auto()
    first = ["train auto-probe-small all", "predict auto-probe-small none", "blend auto-probe-small"]
    assert project.calls[:4] == [*first, "predict auto-probe-small hflip"]
    assert result.verdict == "PASSED"
    assert result.submission == project.workspace.latest_submission()
    scores = [entry["score"] for entry in entries(project, "blended")]
    assert result.score == max(scores) == scores[-1]
    assert len(scores) > 2
    assert result.score > 0.93  # runs of 0.9 that err on different rows
    assert read_blend_record(result.submission).scores.cross_fitted == result.score
    assert any(line.startswith("expected in the time left: auto-") for line in said)
    assert (project.workspace.root / "report" / "auto.html").read_text().count("<svg") == 1


def test_a_session_has_a_limit_of_its_own_and_the_next_goes_on(project):
    whole, _ = project.auto(2000.0, session=130.0)
    first, began = project.clock, len(project.calls)
    assert first <= 130.0
    assert whole.runs
    result, _ = project.auto(2000.0, session=700.0)
    assert first < project.clock <= first + 700.0
    assert not any(call.startswith("train auto-probe-small") for call in project.calls[began:])
    assert result.score > whole.score


@pytest.mark.parametrize("limit", [15.0, 40.0, 130.0, 333.0, 2000.0])
def test_the_time_is_never_exceeded(project, limit):
    result, _ = project.auto(limit)
    assert project.clock <= limit
    assert result.seconds <= limit
    assert (result.submission is None) == (limit == 15.0 and result.seconds < 12)


def test_a_run_that_does_not_help_is_left_out(project):
    project.accuracy["finetune"] = 0.35
    result, said = project.auto()
    assert not any("finetune" in run for run in result.runs)
    left_out = {entry["run"] for entry in entries(project, "judged") if not entry["better"]}
    assert {"auto-finetune-small", "auto-finetune-large"} <= left_out
    assert any("auto-finetune-small is left out" in line for line in said)
    table = result.table().set_index("run")
    assert table.loc["auto-finetune-small", "in the blend"] == "no"


@pytest.mark.parametrize("run", ["auto-probe-small", "auto-finetune-large"])
def test_killed_anywhere_nothing_is_lost_and_the_same_call_goes_on(project, run):
    project.kills[run] = 1
    with pytest.raises(KeyboardInterrupt):
        project.auto()
    before = [call for call in project.calls if call.startswith("train")]
    used = entries(project, "begun")[0]["used"]
    result, _ = project.auto()
    trained = [call for call in project.calls if call.startswith("train")]
    assert trained.count(f"train {run} all") == 2
    assert all(trained.count(call) == 1 for call in before[:-1])
    assert result.verdict == "PASSED"
    assert entries(project, "begun")[1]["used"] >= used
    assert result.seconds == pytest.approx(project.clock, abs=15)  # but for what the kill took with it


@pytest.mark.parametrize("kind", ["trained", "judged"])
def test_a_run_that_was_killed_before_it_was_blended_joins_first_when_the_search_goes_on(project, kind):
    project.auto(60.0)
    blends = len(entries(project, "blended"))
    project.auto(5000.0)
    path = project.workspace.root / "auto" / "auto.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    joined = [number for number, line in enumerate(lines) if '"kind": "blended"' in line][blends]
    run = next(line for line in reversed(lines[:joined]) if '"kind": "trained"' in line)
    cut = max(number for number, line in enumerate(lines[:joined]) if f'"kind": "{kind}"' in line)
    path.write_text("".join(lines[: cut + 1]))
    project.calls.clear()
    project.auto(1.0)  # no time for anything new
    assert [call.split()[0] for call in project.calls] == ["blend"]
    assert entries(project, "blended")[-1]["runs"][-1] in run


def test_runs_learn_from_a_teacher_that_is_made_once_and_the_cycles_of_a_training_join_one_by_one(project):
    project.auto(20_000.0, goal="best")
    before = [call for call in project.calls if "teacher" in call or call.startswith("folds")]
    assert sorted(before) == ["folds auto-pairs folds", "train auto-teacher-large all", "train auto-teacher-small all"]
    told = {entry["run"]: entry for entry in entries(project, "trained")}
    assert {"auto-snapshots-small-cycle1", "auto-snapshots-small-cycle2", "auto-specialists-large"} <= told.keys()
    assert "auto-snapshots-small" not in told
    texts = told["auto-soft-small"]["commands"]
    assert texts[0] == "kk folds --pairs-of folds --name auto-pairs"
    assert "--run auto-teacher-small" in texts[1]
    assert "teacher.runs=auto-teacher-small" in texts[2]
    assert "init_from=auto-finetune-large" in told["auto-specialists-large"]["commands"][2]
    assert {entry["run"] for entry in entries(project, "judged")} | {"auto-probe-small"} == told.keys()


def test_views_are_chosen_for_runs_of_the_blend_and_kept_where_the_blend_is_better(project, only_ideas):
    only_ideas("probe")
    project.auto(500.0, "balanced")
    viewed = entries(project, "viewed")
    assert [entry["better"] for entry in viewed] == [False, False]
    first = viewed[0]
    took = 1.15 * first["seconds"] / first["estimate"]  # as a multiple of what is expected without it
    assert State.of(viewed).slowness("views") == pytest.approx(took)
    project.chosen = 0.99
    path = project.workspace.root / "auto" / "auto.jsonl"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if '"viewed"' not in line))
    project.calls.clear()
    result, _ = project.auto(900.0, "balanced")
    better = [entry for entry in entries(project, "viewed") if entry["better"]]
    assert better
    at = project.calls.index(f"predict {better[0]['of']} auto")
    assert project.calls[at + 1].startswith("blend")
    assert result.score > 0.95
    assert f"kk predict --run {better[0]['of']} --tta auto" in commands(Journal(result.journal).read())


def test_when_nothing_else_is_left_each_run_of_the_blend_gets_a_model_of_all_data(project, only_ideas):
    only_ideas("probe", "finetune")
    project.auto(5000.0, goal="balanced")
    assert not entries(project, "completed")
    before = entries(project, "blended")[-1]
    result, _ = project.auto(9000.0, goal="best")
    done = entries(project, "completed")
    assert sorted(entry["of"] for entry in done) == sorted(result.runs) == sorted(before["runs"])
    full = [call for call in project.calls if call.endswith(" full")]
    assert len(full) == len(result.runs)
    at = project.calls.index(full[0])
    run = full[0].split()[1]
    taken = {entry["of"] for entry in entries(project, "viewed") if entry["better"]}
    plain = {entry["run"] for entry in entries(project, "mirrors") if not entry["better"]}
    assert plain == {"auto-probe-small"}  # its made rows are the same, mirrored or not
    assert project.calls[at + 1 : at + 3] == [
        f"predict {run} {'auto' if run in taken else 'none' if run in plain else 'hflip'}",
        f"blend {','.join(result.runs)}",
    ]
    rest = [call for call in project.calls[at:] if call not in {f"predict {run} none" for run in plain}]
    assert all(call.endswith(("full", "hflip", "auto")) or call.startswith("blend") for call in rest)
    assert result.score == before["score"]  # nothing tells what they gain
    told = commands(Journal(result.journal).read())
    (text,) = [text for text in told if "--fold full" in text and f"--run {run}" in text]
    trained = next(text for text in told if text.startswith("kk train") and f"--run {run}" in text)
    assert text == trained.replace("--fold all", "--fold full")
    project.calls.clear()
    project.auto(9000.0, goal="best")
    assert not project.calls


def test_a_model_of_all_data_counts_as_one_in_the_bundle(project, monkeypatch, only_ideas):
    only_ideas("probe")
    monkeypatch.setattr(Desk, "bytes_of", lambda *_: 3000)
    project.auto(9000.0, goal="best", max_bytes=6500)  # one more of three folds does not fit
    assert [entry["of"] for entry in entries(project, "completed")] == ["auto-probe-small"]


def test_where_the_order_of_classes_counts_grades_are_tried(project, only_ideas):
    only_ideas("probe", "finetune", "ordinal")
    project.auto()
    assert not any("ordinal" in call for call in project.calls)
    path = project.workspace.root / "kk.yaml"
    path.write_text(path.read_text().replace("metric: accuracy", "metric: quadratic_kappa"))
    project.auto()
    assert "train auto-ordinal-small all" in project.calls
    assert "head=ordinal" in project.last


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_where_probabilities_are_scored_a_temperature_is_tried(project, monkeypatch, metric):
    path = project.workspace.root / "kk.yaml"
    path.write_text(path.read_text().replace("metric: accuracy", f"metric: {metric}"))
    tried, plain = set(), Rows.blended
    monkeypatch.setattr(Rows, "blended", lambda rows, names, method="mean": tried.add(method) or plain(rows, names, method))
    project.auto(300.0)
    assert tried == {"mean", "weights"} | ({"temperature"} if metric == "log_loss" else set())
    blends = entries(project, "blended")
    assert blends[-1]["verdict"] == "PASSED"
    # The made-up runs are right more often than they say, so that a temperature lowers their log loss.
    assert (blends[-1]["method"] == "temperature") == (metric == "log_loss")


def test_where_there_is_no_time_for_all_epochs_there_are_fewer(project):
    project.rate, project.seconds["finetune"] = 10.0, 60.0
    project.auto(110.0)
    tuned = [call.split()[1] for call in project.calls if call.startswith("train") and "finetune" in call]
    assert tuned
    assert all(run.endswith("-1ep") for run in tuned)
    assert all("epochs=1" in entry["entries"] for entry in entries(project, "trained") if entry["idea"] == "finetune")
    result, _ = project.auto(1000.0)
    assert {"train auto-finetune-small all", "train auto-finetune-large all"} <= set(project.calls)
    assert result.seconds == pytest.approx(project.clock)


@pytest.mark.parametrize(("seconds", "trained"), [(156.0, {"small"}), (174.0, {"small", "large-1ep"})])
def test_what_was_trained_in_full_is_not_trained_again_for_fewer_epochs(project, seconds, trained):
    project.rate, project.seconds["finetune"] = 10.0, 60.0
    project.auto(seconds)
    tuned = [call.split()[1] for call in project.calls if call.startswith("train") and "finetune" in call]
    assert {run.removeprefix("auto-finetune-") for run in tuned} == trained


def test_quick_heads_do_not_use_up_the_time_kept_free_behind_a_network(project):
    desk = Desk(project, AutoOptions(240.0, "fast"), print, lambda: 0.0)
    kept = [desk.tail]
    for seconds in (1.0, 1.0, 1.0, 20.0, 1.0):
        desk.keep_free(seconds)
        kept.append(desk.tail)
    assert kept == [48.0, 24.0, 12.0, 12.0, 30.0, 15.0]


def test_what_more_time_would_be_used_for_is_told_for_that_time_and_not_for_the_rest_of_this(project):
    project.rate, project.seconds["finetune"] = 10.0, 60.0
    result, _ = project.auto(110.0)
    assert any(run.startswith("auto-finetune-large (") for run in result.more)
    assert not any("-1ep" in run for run in result.more)


def test_further_backbones_are_fetched_once_where_there_is_a_network(project, monkeypatch):
    here, asked = [SMALL], []
    monkeypatch.setattr(scene, "local_backbones", lambda only=(), pretrained=True: list(here))

    def find_weights(name, pretrained):
        asked.append(name)
        if len(asked) == 2:
            raise WeightsError("the line is cut")
        here.append(LARGE)

    monkeypatch.setattr(scene, "find_weights", find_weights)
    project.auto(internet=False)
    assert not asked
    result, said = project.auto()
    assert len(asked) == 2
    assert any("the line is cut" in line for line in said)
    assert entries(project, "fetched")[0]["models"] == ["large"]
    assert any(run.endswith("large") for run in result.runs)
    project.auto(20_000.0)
    assert len(asked) == 2


def test_patterns_that_choose_no_backbone_are_refused_where_none_can_be_fetched(project, monkeypatch):
    monkeypatch.setattr(scene, "local_backbones", backbones.local_backbones)
    monkeypatch.setattr(backbones, "_in_hub_cache", lambda: iter(()))
    with pytest.raises(ConfigError, match=r"--only resnet\* chooses none of the backbones whose weights are here: tf_eff"):
        project.auto(only=("resnet*",), internet=False)
    assert not project.calls


def test_a_backbone_is_chosen_by_the_name_of_its_network_or_of_its_weights():
    assert backbones.chosen_by(["resnet50"], "resnet50.a1_in1k")
    assert backbones.chosen_by(["resnet50.*"], "resnet50.a1_in1k")
    assert not backbones.chosen_by(["resnet50"], "resnet50d.a1_in1k")


def test_a_backbone_that_cannot_be_measured_is_asked_once(project, monkeypatch):
    asked = []

    def plan(*entries, seconds, tta):
        asked.append(entries[0])
        raise WeightsError("too large")

    monkeypatch.setattr(project, "plan", plan)
    result, _ = project.auto()
    assert sorted(asked) == ["model=large", "model=small"]
    assert result.runs
    project.auto(20_000.0)
    assert len(asked) == 2


def test_where_the_smallest_backbone_is_too_slow_to_fine_tune_the_larger_ones_are_not_measured(project):
    project.rate = 1.0
    project.auto(120.0)
    assert [entry["model"] for entry in entries(project, "measured")] == ["small"]
    assert {entry["model"] for entry in entries(project, "trained")} == {"small", "large"}  # probes need no measurement
    project.auto(20_000.0)
    assert {entry["model"] for entry in entries(project, "measured")} == {"small", "large"}


def test_a_line_that_a_kill_cut_off_does_not_matter(project):
    project.auto(60.0)
    path = project.workspace.root / "auto" / "auto.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind": "blen')
    result, _ = project.auto(60.0)
    assert result.verdict == "PASSED"
    assert path.read_bytes().startswith(whole)
    assert b'"blen' not in path.read_bytes()[len(whole) :].replace(b'"blended"', b"")
    path.write_bytes(b"nonsense\n" + whole)
    with pytest.raises(KaggleKitError, match="line 1"):
        project.auto(60.0)


@pytest.mark.parametrize(("accuracy", "whole"), [(0.7, True), (0.9, False)])
def test_the_better_look_at_images_is_taken_for_all_that_follows(project, only_ideas, accuracy, whole):
    only_ideas("probe", "look", "finetune", "mix")
    project.accuracy["look"] = accuracy
    project.auto(9000.0, "balanced")
    trained = {entry["run"]: "data.crop_pct=1.0" in entry["entries"] for entry in entries(project, "trained")}
    assert (trained["auto-probe-small"], trained["auto-look-small"]) == (True, False)
    order = list(trained)
    later = {run: trained[run] for run in order[order.index("auto-look-small") + 1 :]}
    tuned = {run for run in later if run.split("-")[1] in TUNED}
    assert tuned
    assert {later[run] for run in tuned} == {whole}
    assert later["auto-probe-large"] == whole
    assert later["auto-look-large"] != whole


def test_a_later_session_measures_again_for_it_may_be_on_another_machine(project):
    project.auto(300.0)
    first = entries(project, "measured")
    assert {entry["rates"]["train"] for entry in first} == {40.0}
    project.rate = 80.0
    project.auto(600.0)
    later = entries(project, "measured")[len(first) :]
    assert {entry["model"] for entry in later} == {entry["model"] for entry in first}
    assert {entry["rates"]["train"] for entry in later} == {80.0}


def test_later_stages_are_trained_alone_where_it_is_known_which_they_are(project, monkeypatch):
    project.seconds["tail"], project.accuracy["tail"] = 40.0, 0.9
    monkeypatch.setattr(ideas, "n_stages", {"small": 8, "large": 0}.__getitem__)
    project.auto()
    trained = {entry["run"]: entry for entry in entries(project, "trained")}
    assert {"model.freeze=5", "epochs=4", "lr=0.0002"} <= set(trained["auto-tail-small"]["entries"])
    assert not any(entry.startswith("model.freeze=") for entry in trained["auto-finetune-small"]["entries"])
    assert "auto-tail-large" not in trained
    pace = State.of(Journal(project.workspace.root / "auto" / "auto.jsonl").read()).pace
    # As a multiple of what is expected without it, which is 1.15 times as much for the first.
    tail = trained["auto-tail-small"]
    assert pace["tail"] == [pytest.approx(1.15 * tail["seconds"] / tail["estimate"])]


def test_other_heads_take_the_features_that_a_probe_has_left(project, only_ideas):
    only_ideas("probe", "lda", "svm")
    project.auto(9000.0, "balanced")
    trained = {entry["run"]: entry["entries"] for entry in entries(project, "trained")}
    for model in ("small", "large"):
        for head in ("lda", "svm"):
            assert trained[f"auto-{head}-{model}"] == [*trained[f"auto-probe-{model}"], f"probe.classifier={head}"]
            assert list(trained).index(f"auto-{head}-{model}") > list(trained).index(f"auto-probe-{model}")


def test_a_run_that_was_left_out_joins_when_it_is_worth_it_beside_those_of_a_later_day(project, monkeypatch, only_ideas):
    """The large probe is no help to the small one, but is beside the fine-tuned run."""
    plain = Rows.judge

    def judge(rows, before, after, *, fold=None):
        found = plain(rows, before, after, fold=fold)
        if np.array_equal(after, rows.blended([name for name in rows.names if "large" not in name])):
            return found
        joined = np.array_equal(after, rows.blended(rows.names))
        return replace(found, better=joined and "auto-finetune-small" in rows.names, difference=0.1)

    monkeypatch.setattr(Rows, "judge", judge)
    only_ideas("probe", "finetune")
    project.auto(60.0)  # the probes alone fit
    assert [entry["better"] for entry in entries(project, "judged") if entry["run"] == "auto-probe-large"] == [False]
    result, _ = project.auto(220.0)
    assert "auto-finetune-small" in result.runs
    assert [entry["better"] for entry in entries(project, "judged") if entry["run"] == "auto-probe-large"] == [False, True]
    assert set(result.runs) == {"auto-probe-small", "auto-probe-large", "auto-finetune-small"}


def test_a_run_of_the_blend_is_left_out_again_where_the_blend_is_better_without_it(project):
    project.auto(60.0)
    good = ["auto-probe-small", "auto-look-small"]
    write_run(replace(project.made, spec=replace(project.made.spec, accuracy=0.05)), "auto-bad-small", seed=1)
    blended = {"runs": [*good, "auto-bad-small"], "method": "mean", "score": 0.5, "blend": "b", "verdict": "PASSED"}
    trained = {"run": "auto-bad-small", "idea": "mix", "model": "small", "strategy": "", "seconds": 1.0, "score": 0.05}
    journal = Journal(project.workspace.root / "auto" / "auto.jsonl")
    journal.add("trained", used=61.0, **trained, commands=[])
    journal.add("blended", used=62.0, **blended, command="kk blend")
    desk = Desk(project, AutoOptions(1000.0, "fast"), lambda line: None, lambda: project.clock)
    desk.setup = open_setup(project.workspace)
    auto_blend.Blend(desk).reconsider()
    assert [entry["run"] for entry in entries(project, "dropped")] == ["auto-bad-small"]
    assert set(good) <= set(desk.state.kept)
    assert "auto-bad-small" not in entries(project, "blended")[-1]["runs"]
    assert decisions(journal.read())["what"].str.contains("auto-bad-small is left out again").any()


def test_when_not_all_fits_fine_tuned_runs_race_on_one_fold_and_the_better_half_goes_on(project, only_ideas):
    # Without the cheap heads, whose made-up mistakes are independent, so that a few of them leave nothing to gain.
    only_ideas("probe", *TUNED)
    project.accuracy |= {"mix": 0.97, "finetune": 0.6, "larger": 0.6, "soft": 0.6}
    project.seconds |= {"mix": 36.0, "finetune": 30.0, "larger": 36.0, "soft": 30.0}
    result, _ = project.auto(200.0, "balanced")
    raced = entries(project, "raced")
    assert len(raced) >= 3
    best = max(raced, key=lambda entry: entry["gain"])
    assert best["run"].startswith("auto-mix")
    whole = [call.split()[1] for call in project.calls if call.startswith("train") and call.endswith("all")]
    tuned = [run for run in whole if run.split("-")[1] not in HEADS]
    assert tuned
    assert tuned[0].startswith("auto-mix")
    assert any(run.startswith("auto-mix") for run in result.runs)


@pytest.mark.parametrize("limit", [80.0, 90.0, 100.0])
def test_no_more_runs_race_than_leave_time_to_finish_half_of_them(project, only_ideas, limit):
    only_ideas("probe", *TUNED)
    project.rate = 80.0  # as fast as the runs will be
    project.seconds |= dict.fromkeys(("mix", "finetune", "larger", "soft"), 30.0)
    project.auto(limit, "balanced")
    assert any(entry["idea"] in TUNED for entry in entries(project, "trained"))


def test_what_a_race_takes_corrects_the_time_that_the_other_folds_are_expected_to_take(project):
    project.seconds |= dict.fromkeys(TUNED, 60.0)
    project.auto(200.0, "balanced")
    first = entries(project, "raced")[0]
    assert first["seconds"] > 1.2 * first["estimate"]
    (whole,) = (entry for entry in entries(project, "trained") if entry["run"] == first["run"])
    assert whole["estimate"] == pytest.approx(2 * first["seconds"])  # of three folds one has raced


@pytest.mark.parametrize(("side", "only", "small"), [(32, (), True), (63, ("res*", "small"), True), (64, (), False)])
def test_tiny_images_are_learnt_from_random_weights_as_well(project, monkeypatch, side, only, small):
    monkeypatch.setattr(scene, "_usual_side", lambda competition: side)
    project.auto(only=only)
    tuned = {entry["run"]: entry["entries"] for entry in entries(project, "trained") if entry["model"] == "resnet10t"}
    # The first submission is of pretrained weights all the same.
    assert entries(project, "blended")[0]["runs"] == ["auto-probe-small"]
    assert (set(tuned) == {"auto-finetune-resnet10t"}) == small
    if small:
        expected = {"pretrained=false", f"image_size={32 * math.ceil(side / 32)}", "epochs=10"}
        assert expected <= set(tuned["auto-finetune-resnet10t"])
        assert "pretrained=false" not in entries(project, "trained")[0]["entries"]


def test_more_is_expected_of_random_weights_than_of_others_that_must_enlarge_tiny_images():
    small = replace(SMALL, name="tiny", pretrained=False)
    found = {one.run: one.gain for one in ideas.candidates(scene.Scene([small, SMALL], 32, "fast"), State())}
    assert found["auto-finetune-tiny"] == 2 * found["auto-finetune-small"]


@pytest.mark.parametrize(("greater", "scores"), [(True, (0.9, 0.95)), (False, (0.4, 0.2))])
def test_whose_heads_are_better_is_rather_fine_tuned(greater: bool, scores: tuple[float, float]):
    def gains(state: State) -> dict[str, float]:
        backbones = [SMALL, replace(SMALL, name="other")]
        return {one.run: one.gain for one in ideas.candidates(scene.Scene(backbones, 224, "best", greater=greater), state)}

    def after(*heads: tuple[str, str, float]) -> dict[str, float]:
        runs = [
            Tried(f"auto-{idea}-{model}", idea, model, 1.0, score, "probe", ("augment=none",)) for idea, model, score in heads
        ]
        return gains(State(tried={one.run: one for one in runs}))

    unknown = gains(State())
    assert unknown["auto-finetune-small"] == unknown["auto-finetune-other"]
    assert after(("probe", "small", scores[0]))["auto-finetune-small"] == unknown["auto-finetune-small"]
    told = after(("probe", "small", scores[0]), ("probe", "other", scores[1]))
    assert told["auto-finetune-other"] == unknown["auto-finetune-other"]
    assert told["auto-finetune-small"] == pytest.approx(0.5 * unknown["auto-finetune-small"])
    assert told["auto-lda-small"] == told["auto-lda-other"]  # costs so little that it is not put off
    better = after(("probe", "small", scores[0]), ("lda", "small", scores[1]), ("probe", "other", scores[1]))
    assert better["auto-finetune-small"] == unknown["auto-finetune-small"]


@pytest.mark.parametrize(("shorter", "epochs", "warmed_up"), [(1, 10, True), (10, 1, False)])
def test_one_epoch_from_random_weights_has_no_time_to_warm_up(shorter, epochs, warmed_up):
    small = replace(SMALL, pretrained=False)
    (run,) = (
        one
        for one in ideas.candidates(scene.Scene([small], 32, "fast", shorter={"small": shorter}), State())
        if one.idea == "finetune"
    )
    assert f"epochs={epochs}" in run.step.entries
    assert ("schedule.warmup_epochs=1" in run.step.entries) == warmed_up


def test_backbones_that_are_not_asked_for_are_not_learnt_from_random_weights(project, monkeypatch):
    monkeypatch.setattr(scene, "_usual_side", lambda competition: 32)
    project.auto(only=("small", "large"))
    assert not any("resnet10t" in call for call in project.calls)


def test_where_mirrored_images_mean_something_else_nothing_is_mirrored(tmp_path, project, monkeypatch):
    made, plain = project.made, auto_blend.read_oof

    def mirrored_is_bad(run, *, tta="none"):
        found = plain(run, tta="none")
        return replace(found, probs=found.probs[:, ::-1].copy()) if tta == "hflip" else found

    monkeypatch.setattr(auto_blend, "read_oof", mirrored_is_bad)
    project.made = replace(made, spec=replace(made.spec, views="none"))
    project.auto()
    assert entries(project, "mirrors")[0]["mirrors"] is False
    views = [call.split()[2] for call in project.calls if call.startswith("predict")]
    assert views[:3] == ["none", "hflip", "none"]
    assert set(views[3:]) == {"none"}
    assert not any("augment=medium" in call or "augment=light" in call for call in commands(list(entries(project, "trained"))))
    assert any("augment=shift" in text for entry in entries(project, "trained") for text in entry["commands"])


def test_what_cannot_be_trained_is_left_out_and_the_rest_goes_on(project):
    project.broken["small"] = "no such weights"
    result, said = project.auto()
    assert result.runs
    assert all(run.endswith("large") for run in result.runs)
    assert any("no such weights" in line for line in said)
    project.broken["large"] = "none either"
    files.write_text(project.workspace.root / "auto" / "auto.jsonl", "")
    with pytest.raises(KaggleKitError, match="none either"):
        project.auto()


def test_without_pretrained_weights_a_small_network_is_trained_from_random_ones(project, monkeypatch):
    monkeypatch.setattr(scene, "local_backbones", lambda only=(), pretrained=True: [])
    result, said = project.auto()
    assert result.runs[0] == "auto-finetune-resnet10t"
    assert "pretrained=false" in project.last
    assert any("offline" in line for line in said)


def test_the_bundle_stays_below_its_size(project):
    result, _ = project.auto(max_bytes=4000)
    assert result.runs == ("auto-probe-small",)


def test_the_commands_of_the_journal_repeat_the_best_submission(project):
    result, _ = project.auto(200.0)
    told = commands(Journal(result.journal).read())
    assert told[-1] == f"kk blend --runs {','.join(result.runs)} --method {entries(project, 'blended')[-1]['method']}"
    assert next(text for text in told if text.startswith("kk train")).startswith("kk train model=small data.crop_pct=1.0")
    assert sum(text.startswith("kk predict") for text in told) == len(result.runs)
    assert isinstance(result.table(), pd.DataFrame)


def test_two_searches_at_once_do_not_meddle(project):
    with files.folder_lock(project.workspace.root / "auto"), pytest.raises(LockedError):
        project.auto()


def test_more_time_goes_on_where_it_ended(project):
    first, _ = project.auto(60.0)
    assert first.more
    second, _ = project.auto(60.0)
    assert second.runs == first.runs
    third, _ = project.auto(5000.0)
    assert len(third.runs) > len(first.runs)
    assert third.score > first.score
