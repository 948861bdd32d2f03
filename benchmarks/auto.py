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

from common import RESULTS, describe, hardware, print_table, say, write_results
from first_submission import has_fastai, rows_of_folds, run_fastai

MODEL = "tf_efficientnet_lite0"
FASTAI = """
import json, sys, time
from fastai.vision.all import *
settings = json.load(open(sys.argv[1]))
weights = list(torch.load(settings["weights"], map_location="cpu", weights_only=True).values())

def learner_of(rows):  # path, label, held out
    frame = pd.DataFrame(rows, columns=["path", "label", "valid"])
    loaders = ImageDataLoaders.from_df(
        frame, path="/", fn_col="path", label_col="label", valid_col="valid", bs=32, num_workers=settings["workers"],
        item_tfms=Resize(256), batch_tfms=[*aug_transforms(size=224), Normalize.from_stats([0.5] * 3, [0.5] * 3)],
    )
    learner = vision_learner(loaders, settings["model"], pretrained=False, normalize=False, metrics=accuracy)
    body = learner.model[0].model
    body.load_state_dict(dict(zip(body.state_dict(), weights)))
    learner.freeze()
    return learner

start = time.perf_counter()
learner_of(settings["folds"][0]).fit_one_cycle(1)  # tells how long an epoch takes, the frozen one being the cheaper
each, left = 1.5 * (time.perf_counter() - start), settings["seconds"] - (time.perf_counter() - start)
epochs, right, total = max(1, int(left / len(settings["folds"]) / each) - 1), 0, 0
for rows in settings["folds"]:
    learner = learner_of(rows)
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
                    folds = rows_of_folds(workspace)
                    found = run_fastai(arguments.fastai, workspace, FASTAI, MODEL, folds=folds, seconds=60 * minutes)
                    row |= {"fastai accuracy": round(found["accuracy"], 4), "fastai s": round(found["seconds"])}
                say(json.dumps(row))
                rows.append(row)
    print_table(rows)
    print(describe(facts))
    write_results(arguments.out, rows, facts, goal=arguments.goal)


if __name__ == "__main__":
    main()
