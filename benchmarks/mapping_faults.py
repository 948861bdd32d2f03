"""Which faults of class order, ids and preprocessing does `kk check` catch, and how often does it cry wolf?

    python benchmarks/mapping_faults.py [--workspace DIR ...] [--sound 252] [--out benchmarks/results]

Injects every fault of `mapping_fault_list.py` into every workspace, one at a time, and then checks sound submissions. Synthetic
workspaces are made up by tests/factories.py; real finished ones (with runs and predictions) are copied first. What takes hours
may be done in parts: ``--only digits --sound 0 --out DIR``, ``--only --sound 63 --first 63 --out DIR`` …; ``--join DIR …`` then
shows all.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import shutil
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from common import cpu_name
from mapping_changes import write_foreign
from mapping_fault_list import FAULTS, INSIDE, Fault
from mapping_real_faults import REAL_FAULTS
from mapping_scene import SYNTHETIC, Scene, edit_everywhere, make_base, open_scene

from kaggle_kit.check.readback import Answers, read_answers, read_cells
from kaggle_kit.choices import BLENDERS
from kaggle_kit.errors import KaggleKitError

CAUGHT, MISSED, NO_CHANGE, INCONCLUSIVE, NOT_PROVEN = "caught", "NOT CAUGHT", "no change", "inconclusive", "not proven"
RESULTS = "mapping_faults.json"
MARKS = {CAUGHT: "caught", MISSED: "MISSED", NO_CHANGE: "no change", INCONCLUSIVE: "inconcl.", NOT_PROVEN: "not proven"}


@dataclass(frozen=True)
class Outcome:
    """One fault in one workspace. ``changed`` is the share of rows whose answer it changed."""

    fault: str
    workspace: str
    result: str
    changed: float
    by: str
    message: str


def judge(fault: Fault, name: str, base: Path, sound: Answers, folder: Path) -> Outcome:
    """Inject ``fault`` into a copy of ``base`` and see what notices."""
    scene = open_scene(base, folder, seed=sum(map(ord, fault.name)))
    try:
        if fault.name.startswith("foreign"):  # what it says is to be compared with what that model says
            write_foreign(open_scene(base, folder / "foreign"), lambda table: table)
            sound = read_answers(read_cells(folder / "foreign" / "submissions" / scene.path.name), scene.form, scene.classes)
        fault.inject(scene)
        report = scene.blend() if fault.before_blend else scene.check()
    except KaggleKitError as error:
        message = str(error).replace(f"{folder}/", "")
        return Outcome(fault.name, name, CAUGHT, 1.0, f"kk {'blend' if fault.before_blend else 'check'} refuses", message)
    changed = share_changed(sound, scene.answers())
    if report.failed:
        failed = report.failed
        names = ", ".join(dict.fromkeys(check.name for check in failed))
        return Outcome(fault.name, name, CAUGHT, changed, names, failed[0].evidence)
    if changed == 0:
        return Outcome(fault.name, name, NO_CHANGE, 0.0, "", "the submission says what it said before")
    if report.unproven:
        return Outcome(fault.name, name, NOT_PROVEN, changed, "verdict", report.headline)
    open_questions = report.having("inconclusive")
    if open_questions:
        return Outcome(fault.name, name, INCONCLUSIVE, changed, open_questions[0].name, open_questions[0].evidence)
    return Outcome(fault.name, name, MISSED, changed, "", "")


def share_changed(sound: Answers, found: Answers | None) -> float:
    """Share of rows whose answer is another one than in the sound submission; 1 when a grader would refuse the file."""
    if found is None or len(set(found.ids)) != len(found.ids) or set(found.ids) != set(sound.ids):
        return 1.0
    now, then = found.take(sound.ids), sound.values
    if sound.exact:
        return float(np.mean(np.abs(now - then).max(axis=1) > 1e-3))
    return float(np.mean((now != then).any(axis=1)))


def run_faults(name: str, base: Path, folder: Path, faults: tuple[Fault, ...]) -> list[Outcome]:
    """All faults that the workspace's form can have."""
    sound_scene = open_scene(base, folder / "sound")
    failed = [f"{check.name}: {check.evidence}" for check in sound_scene.blend().failed]
    sound = sound_scene.answers()
    if sound is None or failed:
        raise SystemExit(f"{name}: the workspace is not sound before any fault: {failed}")
    outcomes = []
    for number, fault in enumerate(faults):
        if sound_scene.form.form in fault.forms:
            target = folder / f"fault{number}"
            outcomes.append(judge(fault, name, sound_scene.workspace.root, sound, target))
            shutil.rmtree(target)
    return outcomes


SOUND_VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "unequal": {"imbalance": 1.0},
    "very unequal": {"imbalance": 2.0},
    "confusable": {"confusable": 2},
    "confusable and unequal": {"confusable": 1, "imbalance": 1.5},
    "few rows": {"n_train": 90, "n_test": 40, "control": 60},
    "weak": {"accuracy": 0.5},
    "poor": {"accuracy": 0.0},
    "class weights": {"imbalance": 1.0, "confusable": 1},
}
"""Sound submissions that look suspicious. "class weights" also scales the columns, as training with class weights does."""


def sound_options(name: str, variant: str) -> dict[str, Any]:
    """Smaller than the faulty ones, to be many."""
    options = dict(SOUND_VARIANTS[variant])
    classes = len(SYNTHETIC[name].get("class_names", ())) or SYNTHETIC[name]["n_classes"]
    options["confusable"] = min(options.get("confusable", 0), classes // 2)
    if options.get("accuracy") == 0.0:
        options["accuracy"] = 0.5 if SYNTHETIC[name]["form"] in ("labels", "positive") or classes == 4 else 1 / classes
    if variant == "few rows":
        options["n_train"] = max(options["n_train"], 3 * classes)
    else:
        options["n_train"], options["n_test"] = max(400, 8 * classes), 150
    return {"n_folds": 3, "control": 128, **options}


def weigh_classes(scene: Scene) -> None:
    """Scale the columns of every file by random class weights: another threshold, the same order of rows in each contrast."""
    weights = np.exp(scene.rng.normal(0, 1.0, len(scene.classes))).astype(np.float32)

    def change(probs: Any) -> Any:
        if scene.competition.multilabel:
            odds = probs / np.maximum(1 - probs, 1e-6) * weights
            return odds / (1 + odds)
        weighted = probs * weights
        return weighted / weighted.sum(axis=1, keepdims=True)

    for fold in scene.folds():
        edit_everywhere(fold, change, scene.rng)


def run_sound(numbers: range, folder: Path) -> list[dict[str, Any]]:
    """Check sound submissions, each made by its number; the failed checks of each are false alarms."""
    results = []
    for number in numbers:
        name = list(SYNTHETIC)[number % len(SYNTHETIC)]
        variant = list(SOUND_VARIANTS)[(number // len(SYNTHETIC)) % len(SOUND_VARIANTS)]
        method = list(BLENDERS)[number % len(BLENDERS)]
        base = folder / f"sound{number}"
        make_base(base, name, **sound_options(name, variant), seed=1000 + number)
        scene = open_scene(base, base / "scene", seed=number, method=method)
        if variant == "class weights":
            weigh_classes(scene)
        report = scene.blend()
        write_foreign(scene, lambda table: table)
        made_elsewhere = scene.check()
        results.append(
            {
                "foreign": made_elsewhere.verdict,
                "foreign failed": [f"{check.name}: {check.evidence}" for check in made_elsewhere.failed],
                "verdict": report.verdict,
                "workspace": name,
                "variant": variant,
                "method": method,
                "seed": 1000 + number,
                "failed": [f"{check.name}: {check.evidence}" for check in report.failed],
                "warnings": [check.name for check in report.having("warning")],
                "inconclusive": [check.name for check in report.having("inconclusive")],
            }
        )
        shutil.rmtree(base)
    return results


def print_faults(outcomes: list[Outcome], names: list[str]) -> None:
    """A row a fault, a column a workspace, then who caught it."""
    by_fault: dict[str, dict[str, Outcome]] = {}
    for outcome in outcomes:
        by_fault.setdefault(outcome.fault, {})[outcome.workspace] = outcome
    print("| fault | " + " | ".join(names) + " | caught by |")
    print("|---|" + "---|" * (len(names) + 1))
    for fault, row in by_fault.items():
        marks = [MARKS[row[name].result] if name in row else "n/a" for name in names]
        by = Counter(part for outcome in row.values() if outcome.result == CAUGHT for part in outcome.by.split(", "))
        print(f"| {fault} | " + " | ".join(marks) + " | " + ", ".join(part for part, _ in by.most_common(4)) + " |")
    print(
        "\nn/a: the workspace's submission form cannot have this fault. no change: the fault leaves every answer as it was.\n"
    )
    print("| fault | workspace | rows changed | caught by | message |\n|---|---|---|---|---|")
    for fault, row in by_fault.items():
        caught = [outcome for outcome in row.values() if outcome.result == CAUGHT]
        shown = caught[:1] + [outcome for outcome in row.values() if outcome.result in (MISSED, INCONCLUSIVE, NOT_PROVEN)]
        for outcome in shown:
            message = " ".join(outcome.message.split())[:230].replace("|", "/")
            by = outcome.by.split(", ")[0] if outcome.result == CAUGHT else f"{outcome.result}: {outcome.by}"
            print(f"| {fault} | {outcome.workspace} | {outcome.changed:.0%} | {by} | {message} |")


def print_summary(outcomes: list[Outcome], sound: list[dict[str, Any]], seconds: float) -> None:
    counts = Counter(outcome.result for outcome in outcomes)
    changing = [outcome for outcome in outcomes if outcome.changed > 0]
    caught = sum(outcome.result == CAUGHT for outcome in changing)
    print(f"\n{len(outcomes)} injections: " + ", ".join(f"{count} {result}" for result, count in counts.most_common()) + ".")
    print(f"Of {len(changing)} that changed the submission's meaning, {caught} were caught.")
    alarms = [result for result in sound if result["failed"]]
    print(f"{len(sound)} sound submissions: {len(alarms)} false alarms.")
    for result in alarms:
        where = ", ".join(str(result[key]) for key in ("workspace", "variant", "method", "seed"))
        print(f"  {where}: {result['failed'][0][:200]}")
    accused = [result for result in sound if result["foreign failed"]]
    print(f"{len(sound)} sound files of another model: {len(accused)} false alarms.")
    for result in accused:
        print(f"  {result['workspace']}, {result['variant']}, {result['seed']}: {result['foreign failed'][0][:200]}")
    for kind in ("verdict", "foreign"):
        print(f"  {kind}: " + ", ".join(f"{verdict} {n}" for verdict, n in Counter(one[kind] for one in sound).most_common()))
    for kind in ("warnings", "inconclusive"):
        tally = Counter(name for result in sound for name in result[kind])
        print(f"  {kind} among them: " + (", ".join(f"{name} {count}" for name, count in tally.most_common()) or "none"))
    print(f"{seconds:.0f} s on one core of {machine()}.")


def machine() -> str:
    return f"{cpu_name() or platform.machine()} ({os.cpu_count()} CPUs)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, action="append", default=[], help="a finished workspace; may be repeated")
    parser.add_argument("--only", nargs="*", default=list(SYNTHETIC), help="synthetic workspaces to use")
    parser.add_argument("--sound", type=int, default=252, help="sound submissions to check")
    parser.add_argument("--first", type=int, default=0, help="number of the first sound submission")
    parser.add_argument(
        "--join", type=Path, nargs="*", default=[], help="folders with results to show together; nothing is run"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    outcomes, sound, seconds = read_results(options.join) if options.join else run_all(options)
    print_faults(outcomes, list(dict.fromkeys(outcome.workspace for outcome in outcomes)))
    print_summary(outcomes, sound, seconds)
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"hardware": machine(), "seconds": seconds, "faults": [asdict(outcome) for outcome in outcomes], "sound": sound}
    (options.out / RESULTS).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_results(folders: list[Path]) -> tuple[list[Outcome], list[dict[str, Any]], float]:
    """What earlier calls found, with their seconds."""
    found = [json.loads((folder / RESULTS).read_text(encoding="utf-8")) for folder in folders]
    outcomes = [Outcome(**outcome) for one in found for outcome in one["faults"]]
    return outcomes, [sound for one in found for sound in one["sound"]], sum(one["seconds"] for one in found)


def run_all(options: argparse.Namespace) -> tuple[list[Outcome], list[dict[str, Any]], float]:
    """All faults and sound submissions that were asked for, and the seconds that they took."""
    logging.disable(logging.WARNING)
    start, outcomes = perf_counter(), list[Outcome]()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in options.only:
            outcomes += run_faults(name, make_base(folder / name, name), folder / f"{name}-faults", FAULTS + INSIDE)
        for workspace in options.workspace:
            name = f"{workspace.resolve().name} (real)"
            outcomes += run_faults(name, workspace, folder / f"{name}-real", FAULTS + REAL_FAULTS)
        sound = run_sound(range(options.first, options.first + options.sound), folder)
    return outcomes, sound, perf_counter() - start


if __name__ == "__main__":
    main()
