"""How good `kk auto` is after a while: one command and a time, on several data sets, against fastai with the same time.

    python benchmarks/auto.py FOLDER [FOLDER ...] --minutes 10 30 [--goal balanced] [--fastai PYTHON] [--keep FOLDER]

Each time begins anew in a workspace of its own. Scores are those of the submission, out of fold and cross-fitted. With a PYTHON
that can import fastai, its users' way runs beside it: `fine_tune` with as many epochs as the time allows, five times, on the
same folds, the same weights and images of 224 pixels, mirrored ones too (`tta`). Wanted, in accuracy: scenes 0.945 after 10
minutes, 0.957 after 30, 0.972 after 120; flowers 0.968, 0.975 and 0.980; digits as an image folder 0.995 and 0.997.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import RESULTS, available_cpus, describe, hardware, print_table, say, write_results

MODEL = "tf_efficientnet_lite0"
FASTAI = """
import json, sys, time
from fastai.vision.all import *
settings = json.load(open(sys.argv[1]))
weights = list(torch.load(settings["weights"], map_location="cpu", weights_only=True).values())
start, right, total, epochs = time.perf_counter(), 0, 0, 0
for number, rows in enumerate(settings["folds"]):  # path, label, held out
    frame = pd.DataFrame(rows, columns=["path", "label", "valid"])
    loaders = ImageDataLoaders.from_df(
        frame, path="/", fn_col="path", label_col="label", valid_col="valid", bs=32, num_workers=settings["workers"],
        item_tfms=Resize(256), batch_tfms=[*aug_transforms(size=224), Normalize.from_stats([0.5] * 3, [0.5] * 3)],
    )
    learner = vision_learner(loaders, settings["model"], pretrained=False, normalize=False, metrics=accuracy)
    body = learner.model[0].model
    body.load_state_dict(dict(zip(body.state_dict(), weights)))
    learner.freeze()
    left = settings["seconds"] - (time.perf_counter() - start)
    if not epochs:  # fold 0 tells how long an epoch takes, the frozen one being the cheaper
        began = time.perf_counter()
        learner.fit_one_cycle(1)
        each = 1.5 * (time.perf_counter() - began)
        epochs = max(1, int((left / 5) / each) - 1)
        learner = vision_learner(loaders, settings["model"], pretrained=False, normalize=False, metrics=accuracy)
        body = learner.model[0].model
        body.load_state_dict(dict(zip(body.state_dict(), weights)))
        learner.freeze()
    learner.fine_tune(epochs)
    probs, truth = learner.tta()
    right, total = right + int((probs.argmax(1) == truth).sum()), total + len(truth)
print(json.dumps({"accuracy": right / total, "seconds": time.perf_counter() - start, "epochs": epochs}))
"""


def auto(data: Path, workspace: Path, minutes: float, goal: str) -> dict[str, Any]:
    """Run the command; returns a row of the table."""
    workspace.mkdir(parents=True)
    options = ["--time", f"{60 * minutes:.0f}s", "--goal", goal]
    command = [sys.executable, "-m", "kaggle_kit", "auto", str(data.resolve()), *options]
    with (workspace / "auto.log").open("w") as log:
        done = subprocess.run(command, cwd=workspace, stdout=log, stderr=subprocess.STDOUT, check=False)
    entries = [json.loads(line) for line in (workspace / "auto" / "auto.jsonl").read_text().splitlines()]
    blends = [entry for entry in entries if entry["kind"] == "blended"]
    if not blends:
        raise SystemExit(f"no submission after {minutes:g} minutes (exit code {done.returncode}); see {workspace / 'auto.log'}")
    best, record = blends[-1], json.loads((workspace / "submissions" / f"{blends[-1]['blend']}.json").read_text())
    return {
        "data": data.name,
        "minutes": minutes,
        "metric": record["scores"]["metric"],
        "score": round(best["score"], 4),
        "verdict": best["verdict"],
        "first after s": round(blends[0]["used"]),
        "first score": round(blends[0]["score"], 4),
        "used s": round(entries[-1]["used"]),
        "runs": len(best["runs"]),
    }


def has_fastai(python: str) -> bool:
    """Whether that Python can import it."""
    return subprocess.run([python, "-c", "import fastai.vision.all"], capture_output=True, check=False).returncode == 0


def fastai(python: str, workspace: Path, minutes: float) -> dict[str, Any]:
    """The same folds by fastai, in the same time."""
    from kaggle_kit import Project
    from kaggle_kit.models import find_weights
    from kaggle_kit.tables import read_folds

    project = Project.open(workspace)
    paths = {row.id: str(row.path.resolve()) for row in project.competition.train}
    table = read_folds(project.workspace.folds_path("folds"))
    folds = []
    for fold in range(table.n_splits):
        held_out = set(table.split(fold)[1].tolist())
        folds.append([(paths[row_id], table.labels[row][0], row in held_out) for row, row_id in enumerate(table.ids)])
    weights = str(find_weights(MODEL, True).path)
    settings = {"folds": folds, "model": MODEL, "weights": weights, "seconds": 60 * minutes, "workers": available_cpus()}
    (workspace / "fastai.json").write_text(json.dumps(settings))
    (workspace / "fastai_folds.py").write_text(FASTAI)
    command = [python, "fastai_folds.py", "fastai.json"]
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"fastai failed:\n{done.stderr[-3000:]}")
    facts: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="competitions that kk init understands without questions")
    parser.add_argument("--minutes", type=float, nargs="+", default=[10.0, 30.0])
    parser.add_argument("--goal", default="balanced")
    parser.add_argument("--fastai", default=sys.executable, metavar="PYTHON", help="a Python that can import fastai")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="a new folder for the workspaces, which are kept")
    parser.add_argument("--out", type=Path, default=RESULTS / "auto.json")
    arguments = parser.parse_args()
    facts, rows, beside = hardware(), [], has_fastai(arguments.fastai)
    if not beside:
        say(f"{arguments.fastai} cannot import fastai; it is left out of the table")
    with tempfile.TemporaryDirectory() as folder:
        kept = (arguments.keep or Path(folder)).resolve()
        for data in arguments.folders:
            for minutes in arguments.minutes:
                workspace = kept / f"{data.name}-{minutes:g}m"
                row = auto(data, workspace, minutes, arguments.goal)
                if beside:
                    found = fastai(arguments.fastai, workspace, minutes)
                    row |= {"fastai accuracy": round(found["accuracy"], 4), "fastai s": round(found["seconds"])}
                say(json.dumps(row))
                rows.append(row)
    print_table(rows)
    print(describe(facts))
    write_results(arguments.out, rows, facts, goal=arguments.goal)


if __name__ == "__main__":
    main()
