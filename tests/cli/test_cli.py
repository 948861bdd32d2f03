"""The command line as a user meets it: what it prints, what it ends with, and that errors are messages."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from factories import make_workspace

COMMANDS = [
    *("init", "look", "folds", "train", "predict", "blend", "check", "runs", "demo"),
    *("tune", "plan", "lr", "cache", "kernel", "submit", "download", "config", "recipes"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(kk, command):
    code, out, _ = kk(command, "--help")
    assert code == 0
    assert f"kk {command}" in out
    assert command in kk("--help")[1]


def test_light_commands_do_not_import_torch(tmp_path):
    made = make_workspace(tmp_path / "work")
    script = (
        "import sys\n"
        "from kaggle_kit import cli\n"
        "for line in (['--help'], ['folds', '--duplicates', 'off', '--name', 'other'], ['blend'],\n"
        "             ['check', 'submissions/blend-0001.csv'], ['runs']):\n"
        "    try:\n"
        "        cli.main(line)\n"
        "    except SystemExit as ended:\n"
        "        assert not ended.code, (line, ended.code)\n"
        "    assert 'torch' not in sys.modules, line\n"
    )
    root = made.workspace.root
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_folder_without_workspace_says_what_to_do(kk, tmp_path):
    code, _, err = kk("folds", folder=tmp_path)
    assert code == 2
    assert "kk init" in err
    assert "Traceback" not in err


def test_unknown_entries_are_suggested(kk, tmp_path):
    made = make_workspace(tmp_path / "work")
    code, _, err = kk("train", "epocs=3", folder=made.workspace.root)
    assert code == 2
    assert "Did you mean 'epochs'" in err


def test_an_unknown_option_is_a_usage_error(kk, tmp_path):
    code, _, err = kk("folds", "--n-fold", "3", folder=tmp_path)
    assert code == 2
    assert "--n-fold" in err


def test_a_defect_is_one_message_unless_it_is_asked_for(kk, monkeypatch, tmp_path):
    def broken(*_args, **_options):
        raise RuntimeError("something unforeseen")

    monkeypatch.setattr("kaggle_kit.runs.comparison.runs_table", broken)
    made = make_workspace(tmp_path / "work")
    code, _, err = kk("runs", folder=made.workspace.root)
    assert code == 1
    assert "something unforeseen" in err
    assert "KK_DEBUG" in err
    assert "Traceback" not in err


def test_ctrl_c_says_that_work_is_kept(kk, monkeypatch, tmp_path):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("kaggle_kit.runs.comparison.runs_table", interrupted)
    made = make_workspace(tmp_path / "work")
    code, _, err = kk("runs", folder=made.workspace.root)
    assert code == 130
    assert "kept" in err


def test_blend_check_and_runs_print_their_tables(kk, tmp_path):
    made = make_workspace(tmp_path / "work")
    root = made.workspace.root
    code, out, err = kk("blend", "--method", "weights", folder=root)
    assert code == 0, out + err
    assert "cross-fitted" in out
    assert "PASSED" in out
    code, out, _ = kk("check", "submissions/blend-0001.csv")
    assert code == 0
    assert "form: ids" in out
    names = [path.name for path in made.workspace.runs_dir.iterdir()]
    assert all(name in kk("runs")[1] for name in names)
    listed = json.loads(kk("runs", "--json")[1])  # the table leaves out the state where there is no room for it
    assert {row["state"] for row in listed} == {"finished"}


def test_a_failed_check_ends_with_1(kk, tmp_path):
    made = make_workspace(tmp_path / "work")
    root = made.workspace.root
    assert kk("blend", folder=root)[0] == 0
    path = root / "submissions" / "blend-0001.csv"
    frame = pd.read_csv(path, dtype=str)
    frame.iloc[1:].to_csv(path, index=False)
    code, out, _ = kk("check", "submissions/blend-0001.csv")
    assert code == 1
    assert "FAILED" in out


def test_a_training_kernel_takes_entries_and_an_inference_kernel_refuses_them(kk, tmp_path):
    root = make_workspace(tmp_path / "work").workspace.root
    options = ("kernel", "build", "--username", "somebody", "epochs=7", "pretrained=false")
    code, _, err = kk(*options, folder=root)
    assert code == 2
    assert "entries are for --train" in err
    code, out, err = kk(*options, "--train")
    assert code == 0, out + err
    code, _, err = kk(*options, "--train", "--auto", "8h")
    assert code == 2
    assert "choose one of them" in err
    plan = json.loads((root / "training/dataset/plan.json").read_text())
    assert plan["config"]["run"]["schedule"]["epochs"] == 7


def test_awkward_ids_survive_the_whole_pass(kk, tmp_path):
    """Ids that pandas would like to turn into numbers or NaN come out as they went in."""
    data = _awkward_competition(tmp_path / "data")
    work = tmp_path / "work"
    work.mkdir()
    for step in (
        ["init", "../data"],
        ["folds", "--n-folds", "2"],
        ["train", "model=test_resnet", "pretrained=false", "image_size=32", "epochs=1", "workers=0", "--run", "a"],
        ["predict", "--tta", "hflip", "--control", "6"],
        ["blend"],
    ):
        code, out, err = kk(*step, folder=work)
        assert code == 0 or step == ["blend"], out + err  # one epoch on twelve images need not pass the check
    ids = pd.read_csv(work / "submissions" / "blend-0001.csv", dtype=str, keep_default_na=False)["id"]
    assert list(ids) == ["0001", "NA", "None", "1e5"]
    oof = pd.concat(pd.read_parquet(path) for path in sorted((work / "runs" / "a").glob("fold*/oof.parquet")))
    assert sorted(oof["id"]) == sorted(pd.read_csv(data / "train.csv", dtype=str, keep_default_na=False)["image"])
    code, _, err = kk("predict", "--images", "../data/images", "--out", "new.csv", folder=work)
    assert code == 0, err
    assert len(pd.read_csv(work / "new.csv")) == 16


def test_a_job_that_is_ended_as_a_whole_keeps_its_checkpoint(tmp_path):
    """SIGTERM to every process at once: the loader's processes must live until the checkpoint is written."""
    _awkward_competition(tmp_path / "data")
    work = tmp_path / "work"
    work.mkdir()
    command = [sys.executable, "-c", "from kaggle_kit import cli; cli.main()"]
    for step in (["init", "../data"], ["folds", "--n-folds", "2"]):
        subprocess.run([*command, *step], cwd=work, check=True, capture_output=True)
    settings = ["model=test_resnet", "pretrained=false", "image_size=32", "epochs=2000", "workers=2", "model.compile=false"]
    process = subprocess.Popen(
        [*command, "train", "--run", "a", *settings],
        cwd=work,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output = []
    for line in process.stdout:
        output.append(line)
        if "epoch    2/" in line:
            os.killpg(process.pid, signal.SIGTERM)
    assert process.wait() == 143, "".join(output)
    assert "stopped early: SIGTERM was received" in "".join(output)
    assert (work / "runs/a/fold0/last.ckpt").exists()


def _awkward_competition(root: Path) -> Path:
    """Twelve training images of two colours and four test images, with ids that look like numbers and missing values."""
    from PIL import Image

    train = ["0002", "null", "nan", "007", "1.0", "2e3", "True", "inf", "N/A", "0x1", "00", "-1"]
    test = ["0001", "NA", "None", "1e5"]
    (root / "images").mkdir(parents=True)
    for position, name in enumerate(train + test):
        stem = name.replace("/", "_")
        shade = 40 + 9 * position
        colour = (shade, 255 - shade, 7 * position) if position % 2 else (255 - shade, 20 + position, shade)
        Image.new("RGB", (40, 36), colour).save(root / "images" / f"{stem}.png")
    rows = {"image": [name.replace("/", "_") for name in train], "label": ["001", "NA"] * 6}
    pd.DataFrame(rows).to_csv(root / "train.csv", index=False)
    pd.DataFrame({"id": test, "label": "NA"}).to_csv(root / "sample_submission.csv", index=False)
    return root


def test_the_demo_goes_through_every_step(kk, monkeypatch, tmp_path):
    from kaggle_kit import demo

    small = ("train", "--fold", "0", "model=test_resnet", "pretrained=false", "image_size=32", "epochs=1", "workers=0")
    steps = tuple(small if step[0] == "train" else step for step in demo.QUICK.steps)
    monkeypatch.setattr(demo.Size, "steps", steps)
    _, out, _ = kk("demo", "demo", "--quick", folder=tmp_path)
    for step in steps[:4]:
        assert f"$ kk {step[0]}" in out
    assert len(pd.read_csv(tmp_path / "demo" / "work" / "submissions" / "blend.csv")) == 120
    assert len(list((tmp_path / "demo" / "data").glob("*/*/*.png"))) == 480
    code, _, err = kk("demo", "demo")
    assert code == 2
    assert "--force" in err


def test_the_demo_never_deletes_what_is_no_demo(kk, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    code, _, err = kk("demo", str(tmp_path), "--force")
    assert code == 2
    assert "choose another folder" in err
    assert (tmp_path / "thesis.txt").exists()
    shutil.rmtree(tmp_path)
