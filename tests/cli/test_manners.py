"""What all commands share: the options of their Project method, help, version, JSON with stable keys, early refusals."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from factories import make_workspace

from kaggle_kit import __version__, cli
from kaggle_kit.auto.result import AutoResult
from kaggle_kit.auto.state import State
from kaggle_kit.project import Project
from kaggle_kit.project_parts import Cache, Kernel, Weights

SHARED = {"quiet", "verbose", "json", "help"}
METHODS = {
    "init": [Project.init],
    "look": [Project.look],
    "labels": [Project.labels, Project.review_effect],
    "folds": [Project.folds],
    "train": [Project.train],
    "update": [Project.update],
    "predict": [Project.predict, Project.predict_images],
    "blend": [Project.blend],
    "check": [Project.check],
    "report": [Project.report],
    "evaluate": [Project.evaluate],
    "export": [Project.export],
    "serve": [Project.serve],
    "latency": [Project.latency],
    "runs": [Project.runs, Project.compare, Project.remove, Project.submissions],
    "auto": [Project.auto],
    "tune": [Project.tune, Project.dashboard],
    "plan": [Project.plan],
    "lr": [Project.lr],
    "submit": [Project.submit],
    "config": [Project.keys],
    "recipes": [Project.recipes],
    "download": [Project.download],
    "kernel build": [Kernel.build],
    "kernel test": [Kernel.test],
    "kernel push": [Kernel.push],
    "models": [Project.models],
    "weights list": [Weights.list],
    "weights fetch": [Weights.fetch],
    "cache list": [Cache.list],
    "cache verify": [Cache.verify],
    "cache drop": [Cache.drop],
}
"""Command -> the methods that it calls."""
SWITCHES = {"init": {"list_metrics"}, "labels": {"effect"}, "runs": {"submissions", "rm"}, "tune": {"dashboard"}}
"""Options that choose among a command's methods."""
BEFORE = {"auto": {"data_dir", "metric", "choose"}}
"""Options of a command that first makes the workspace, as `kk init` does."""
RENAMED = {"runs": {"names": "runs"}}
"""Arguments that stand for several methods' ones."""


def commands() -> dict[str, typer.core.TyperCommand]:
    """All commands by name, those of groups as "group command"."""
    root = typer.main.get_command(cli.app)
    found = {}
    for name, command in root.commands.items():
        inner = getattr(command, "commands", None)
        found |= {f"{name} {one}": each for one, each in inner.items()} if inner else {name: command}
    return found


def option_names(name: str) -> set[str]:
    """What a user may write for a command: its arguments, and its long options without dashes."""
    taken = set()
    for parameter in commands()[name].params:
        if getattr(parameter, "hidden", False):  # between the processes of a launcher
            continue
        long = [text for text in parameter.opts if text.startswith("--")]
        taken.add(long[0].removeprefix("--").replace("-", "_") if long else parameter.name)
    renamed = RENAMED.get(name, {})
    return {renamed.get(one, one) for one in taken} - SHARED - SWITCHES.get(name, set()) - BEFORE.get(name, set())


def test_every_command_is_known_here():
    assert set(commands()) == {*METHODS, "demo"}


@pytest.mark.parametrize("name", METHODS)
def test_a_command_has_the_options_of_its_method(name):
    wanted: set[str] = set()
    for method in METHODS[name]:
        parameters = inspect.signature(method).parameters.values()
        wanted |= {one.name for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD}
    without = {"self", "root"}  # a command works in the folder where it is called
    assert option_names(name) == wanted - without


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_typed_and_say_what_they_do(name):
    for method in METHODS[name]:
        signature = inspect.signature(method)
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(one.annotation is not one.empty for key, one in signature.parameters.items() if key != "self")
        assert inspect.getdoc(method)


@pytest.mark.parametrize("name", [*METHODS, "demo"])
def test_every_command_takes_the_shared_options(name):
    flags = {text for parameter in commands()[name].params for text in parameter.opts}
    assert {"-q", "-v", "--json"} <= flags


def test_help_and_version(kk):
    assert kk("-h")[1] == kk("--help")[1]
    assert kk("kernel", "build", "-h")[0] == 0
    assert kk("--version")[1].strip() == f"kaggle_kit {__version__}"


def imported_by(*arguments: str, folder: Path) -> tuple[int, set[str], str]:
    """Exit code of ``kk``, which heavy modules it imported, and what it said."""
    script = (
        "import sys\nfrom kaggle_kit import cli\ntry:\n    cli.main(sys.argv[1:])\nexcept SystemExit as ended:\n"
        "    print('CODE', ended.code or 0, *({'torch', 'pandas', 'numpy', 'rich', 'timm'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=folder, capture_output=True, text=True)
    code, *heavy = re.findall(r"^CODE (.*)$", done.stdout, re.MULTILINE)[0].split()
    return int(code), set(heavy), done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [["-h"], ["train", "-h"], ["blend", "--help"], ["kernel", "build", "-h"]])
def test_help_imports_nothing_heavy(tmp_path, arguments):
    code, heavy, _ = imported_by(*arguments, folder=tmp_path)
    assert code == 0
    assert not heavy


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--fold", "9"], "folds must lie in 0..2"),
        (["train", "--launcher", "loca"], "Did you mean 'local'"),
        (["train", "--time-limit", "soon"], "expected a duration"),
        (["train", "folds=other"], "kk folds"),
        (["train", "model=resnet_18"], "Did you mean 'resnet18'"),
        (["train", "hardware.strategy=dpp"], "Choose one of: auto, ddp"),
        (["train", "hardware.accelerator=gpus"], "Did you mean 'gpu'"),
        (["train", "--precision", "bf61"], "Did you mean 'bf16'"),
        (["train", "augment.transforms=[{name: CLAHEE}]"], "Did you mean 'CLAHE'"),
        (["cache", "drop", "x"], "have made none here yet"),
        (["predict", "--tta", "hflp"], "Did you mean 'hflip'"),
        (["predict", "--merge", "men"], "Did you mean 'mean'"),
        (["predict", "--run", "nobody"], "no run 'nobody'"),
        (["tune", "--pruner", "hyper"], "Choose one of: hyperband"),
        (["plan", "--tta", "d5"], "Choose one of: none, hflip"),
        (["plan", "--time-limit", "soon"], "expected a duration"),
        (["lr", "--fold", "9"], "folds must lie in 0..2"),
        (["blend", "--method", "men"], "Did you mean 'mean'"),
    ],
)
def test_a_wrong_name_is_refused_before_torch_is_imported_or_anything_written(tmp_path, arguments, message):
    root = make_workspace(tmp_path / "work").workspace.root
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    code, heavy, said = imported_by(*arguments, folder=root)
    assert message in said
    assert code == 2
    assert "torch" not in heavy
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_quiet_says_no_more_than_the_result(kk, tmp_path):
    root = make_workspace(tmp_path / "work").workspace.root
    _, out, err = kk("folds", "--duplicates", "off", "--name", "other", "-q", folder=root)
    assert "Next:" not in out
    assert err == ""
    assert "5 folds, scheme stratified" in out


@pytest.mark.parametrize(("submission", "following"), [(Path("submissions/blend-0001.csv"), True), (None, False)])
def test_a_check_follows_a_search_that_has_made_a_submission(kk, tmp_path, monkeypatch, submission, following):
    root, page = make_workspace(tmp_path / "work").workspace.root, Path("report/auto.html")
    found = AutoResult(
        submission, "accuracy", 0.9, "PASSED", 1.0, 2.0, ("a",), "it is over", (), Path("auto.jsonl"), page, State()
    )
    monkeypatch.setattr(Project, "auto", lambda project, **_: found)
    code, out, _ = kk("auto", folder=root)
    assert code == 0
    assert f"See: {page}" in out
    assert ("Next: kk check" in out) == following


def test_a_choice_without_a_value_is_a_usage_error(kk, tmp_path):
    code, _, err = kk("init", str(tmp_path), "--choose", "sample", folder=tmp_path)
    assert code == 2
    assert "KEY=VALUE" in err


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["tr"], {"train"}),
        (["kernel", "bu"], {"build"}),
        (["train", "--strat"], {"--strategy"}),
        (["train", "--strategy", "probe"], {"probe", "probe-then-finetune"}),
        (["predict", "--run", ""], {"run0", "run1"}),
        (["blend", "--method", "hi"], {"hill-climb"}),
        (["blend", "--runs", "run0,"], {"run0,run0", "run0,run1"}),
        (["report", ""], {"run0", "run1", "mine"}),
    ],
)
def test_the_shell_completes_commands_options_choices_and_runs(tmp_path, words, offered):
    root = make_workspace(tmp_path / "work", n_runs=2).workspace.root
    for name in ("mine.csv", "mine.control.csv"):
        (root / "submissions").mkdir(exist_ok=True)
        (root / "submissions" / name).touch()
    asked = {"COMP_WORDS": " ".join(["kk", *words]), "COMP_CWORD": str(len(words)), "_KK_COMPLETE": "complete_bash"}
    script = "import sys\nfrom kaggle_kit import cli\nsys.argv = ['kk']\ncli.main()\n"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert set(done.stdout.split()) == offered, done.stderr
