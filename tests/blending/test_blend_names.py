import json
import multiprocessing

import pytest
from factories import make_workspace

from kaggle_kit import files
from kaggle_kit.blending.blend import ONLY_SCORED, blend
from kaggle_kit.check import check_submission
from kaggle_kit.errors import MissingFileError, SubmissionError
from kaggle_kit.kaggle_api.records import write_entry
from kaggle_kit.report.make import make_report


def run_blend(made, **options):
    return blend(made.setup, **options)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def made(tmp_path):
    return make_workspace(tmp_path, n_runs=2)


def test_each_blend_gets_a_name_of_its_own_and_latest_names_the_last(made):
    folder = made.workspace.submissions_dir
    assert run_blend(made).path.name == "blend-0001.csv"
    first = contents(folder)
    second = run_blend(made, method="rank")
    assert second.path.name == "blend-0002.csv"
    assert (folder / "latest").read_text() == "blend-0002\n"
    assert made.workspace.latest_submission() == second.path
    changed = {name for name, data in contents(folder).items() if first.get(name, data) != data}
    assert changed == {"latest"}
    assert json.loads(second.path.with_suffix(".json").read_text())["name"] == "blend-0002"


def test_a_number_is_never_used_again_while_a_record_of_it_is_left(made):
    folder = made.workspace.submissions_dir
    run_blend(made)
    run_blend(made).path.unlink()
    assert run_blend(made).path.name == "blend-0003.csv"
    assert (folder / "blend-0002.json").exists()


def test_a_name_that_is_taken_wants_force(made):
    path = run_blend(made, name="mine").path
    before = contents(path.parent)
    with pytest.raises(SubmissionError, match=r"mine\.csv is there already.*--name NAME.*--force"):
        run_blend(made, name="mine", method="rank")
    assert contents(path.parent) == before
    assert run_blend(made, name="mine", method="rank", force=True).record.method == "rank"


def test_a_file_that_somebody_put_there_is_not_written_over(made):
    path = made.workspace.submission_path("mine")
    files.write_text(path, "id,label\n")
    with pytest.raises(SubmissionError, match="is there already"):
        run_blend(made, name="mine")
    assert path.read_text() == "id,label\n"


def test_what_was_sent_to_kaggle_is_never_written_over(made):
    path = run_blend(made, name="mine").path
    write_entry(path, {"ref": 7, "sha256": files.file_fingerprint(path), "public_score": 0.91, "date": "2026-01-02"})
    before = contents(path.parent)
    with pytest.raises(SubmissionError, match=r"was sent to Kaggle \(2026-01-02, public score 0\.91\)"):
        run_blend(made, name="mine", method="rank", force=True)
    assert contents(path.parent) == before


def test_the_score_of_other_bytes_sent_under_a_name_stays(made):
    path = run_blend(made, name="mine").path
    write_entry(path, {"ref": 7, "sha256": "a", "public_score": 0.91})
    write_entry(path, {"ref": None, "sha256": "b", "status": "uploading"})
    write_entry(path, {"ref": 8, "sha256": "b", "public_score": 0.95})
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["kaggle"]["public_score"] == 0.95
    assert record["kaggle_earlier"] == [{"ref": 7, "sha256": "a", "public_score": 0.91}]


def test_the_latest_is_found_without_a_pointer_as_well(made):
    with pytest.raises(MissingFileError, match="Run `kk blend` first"):
        made.workspace.latest_submission()
    path = run_blend(made, name="blend").path
    for pointer in ("gone\n", "../../etc/passwd\n", ""):
        (path.parent / "latest").write_text(pointer)
        assert made.workspace.latest_submission() == path
    (path.parent / "latest").unlink()
    assert made.workspace.latest_submission() == path


def test_without_a_test_set_a_blend_is_scored_out_of_fold_and_says_so(made):
    from dataclasses import replace

    whole = run_blend(made, method="weights")
    before = contents(made.workspace.submissions_dir)
    for fold in made.workspace.runs_dir.glob("*/fold*"):
        (fold / "test.parquet").unlink()
    result = blend(replace(made.setup, competition=replace(made.competition, test=())), method="weights")
    assert (result.path, result.report, result.passed, result.exit_code) == (None, None, True, 0)
    assert result.scores == whole.scores
    assert ONLY_SCORED in result.notes
    assert ONLY_SCORED in result.describe()
    assert result.to_dict()["cross_fitted"] == whole.scores.cross_fitted
    after = contents(made.workspace.submissions_dir)
    assert {name: data for name, data in after.items() if name in before} == before
    assert set(after) - set(before) == {"blend-0002.json", "blend-0002.oof.parquet"}


def without_test(made):
    return made.setup.without_test()


def test_a_blend_that_is_only_scored_leaves_a_record_that_can_be_read(made):
    result = blend(without_test(made), method="hill-climb", name="try")
    assert result.record.name == result.name == "try"
    assert result.record.sha256 is None
    scored = result.scored()
    assert scored.score == pytest.approx(result.scores.cross_fitted)
    assert len(scored) == 120
    assert not (made.workspace.submissions_dir / "latest").exists()
    assert made.workspace.submissions_dir.exists()
    page = make_report(made.setup, ("try",))
    assert "try" in page.path.read_text()


def test_a_blend_that_is_only_scored_is_not_written_over(made):
    blend(without_test(made), name="try")
    before = contents(made.workspace.submissions_dir)
    with pytest.raises(SubmissionError, match="is there already"):
        run_blend(made, name="try")
    assert contents(made.workspace.submissions_dir) == before
    assert run_blend(made, name="try", force=True).path.exists()
    again = blend(without_test(made), name="try", force=True)
    assert again.path is None
    assert not made.workspace.submission_path("try").exists()


def test_out_of_fold_views_are_those_of_the_runs(tmp_path):
    made = make_workspace(tmp_path, n_runs=1, views="hflip")
    assert blend(without_test(made)).runs[0].views == "hflip"
    (made.workspace.fold_dir("run0", 1) / "oof_views.parquet").unlink()
    assert blend(without_test(made)).runs[0].views == "none"


def _blend(root, count, errors):
    from kaggle_kit.competition import open_setup
    from kaggle_kit.workspace import Workspace

    setup = open_setup(Workspace(root))
    for _ in range(count):
        try:
            blend(setup)
        except Exception as error:
            errors.put(repr(error))


def test_two_processes_that_blend_at_once_get_names_of_their_own(made):
    context = multiprocessing.get_context("spawn")
    errors = context.Queue()
    both = [context.Process(target=_blend, args=(made.workspace.root, 4, errors)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert errors.empty()
    made_by_both = sorted(made.workspace.submissions_dir.glob("*.csv"))
    assert [path.name for path in made_by_both if "control" not in path.name] == [f"blend-{at:04}.csv" for at in range(1, 9)]
    for at in range(1, 9):
        path = made.workspace.submission_path(f"blend-{at:04}")
        assert check_submission(path, workspace=made.workspace, config=made.config, competition=made.competition).passed
