"""How often does `kk check` accuse a sound workspace, and which swap does it see from how many rows on?

    python benchmarks/false_alarms.py [--workspaces 10000] [--processes 2] [--out benchmarks/results]

Sound workspaces are drawn from out-of-fold probabilities of real models of scikit-learn's digits (`data/out_of_fold.npz`, made
by `--make-table`): some of the classes, from 10 training and 3 test rows on, other class shares in the test set, classes
without rows, folds of unequal composition whose models lean to what they saw most of, and the folds' own correlated errors.
The judging functions are those of the check; nothing is written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from factories import fake_probabilities

from kaggle_kit.check.assignment import judge_mapping
from kaggle_kit.check.cells import is_another_blend, row_orders
from kaggle_kit.check.chance import FALSE_ALARMS, LEVEL, more_lost_than_won
from kaggle_kit.check.control import FEW, VIEWS_MAY_COST, own_labels_lost, shares_fell
from kaggle_kit.check.foreign import Mistake, judge_foreign, mostly_wrong
from kaggle_kit.check.mistakes import column_orders
from kaggle_kit.check.permutation import strangers
from kaggle_kit.tables import Classes

Array = npt.NDArray[Any]
TABLE = Path(__file__).parent / "data" / "out_of_fold.npz"
STEP = 25.0
"""Probabilities are kept as round(-STEP * log(p)) in a byte each."""
FOLDS = 5


def make_table(path: Path) -> None:
    """Fit models of different strength to digits, five of each on overlapping parts; keep what they say of 1,000 other rows."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.tree import DecisionTreeClassifier

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    held, rest = order[:1000], order[1000:]
    kinds: dict[str, tuple[Any, int]] = {
        "logistic on 20 rows": (LogisticRegression(C=0.01, max_iter=500), 20),
        "logistic on 100 rows": (LogisticRegression(C=0.01, max_iter=500), 100),
        "logistic on 790 rows": (LogisticRegression(C=0.01, max_iter=500), 790),
        "neighbours on 60 rows": (KNeighborsClassifier(5), 60),
        "naive Bayes on 200 rows": (GaussianNB(var_smoothing=1e-2), 200),
        "a tree on 400 rows": (DecisionTreeClassifier(max_depth=7, min_samples_leaf=5, random_state=0), 400),
    }
    tables = np.full((len(kinds), FOLDS, len(held), 10), 1e-4)
    for number, (model, rows) in enumerate(kinds.values()):
        for fold in range(FOLDS):
            part = rest[:rows][np.arange(rows) % FOLDS != fold]
            model.fit(data.data[part], data.target[part])
            tables[number, fold][:, model.classes_] += model.predict_proba(data.data[held])
    tables /= tables.sum(axis=-1, keepdims=True)
    kept = np.clip(np.round(-STEP * np.log(tables)), 0, 255).astype(np.uint8)
    np.savez_compressed(path, kept=kept, labels=data.target[held].astype(np.uint8), kinds=list(kinds))


@dataclass(frozen=True)
class Table:
    """``probs`` (kinds, folds, rows, 10) and ``labels`` (rows,)."""

    probs: Array
    labels: Array


def read_table() -> Table:
    content = np.load(TABLE)
    return Table(np.exp(-content["kept"].astype(np.float64) / STEP), content["labels"].astype(np.int64))


@dataclass(frozen=True)
class Sound:
    """A sound workspace. ``oof`` (runs, N, C), ``test`` (runs, folds, M, C), ``other`` (M, C) of a model that is no run."""

    classes: Classes
    train: Array
    part: Array
    oof: Array
    test: Array
    control: Array
    other: Array


def draw_sound(table: Table, rng: np.random.Generator) -> Sound:
    """Draw classes, rows, folds and runs."""
    count, folds, n_runs = int(rng.choice([2, 3, 5, 10])), int(rng.choice([2, 3, 5])), int(rng.choice([1, 2]))
    digits = rng.permutation(10)[:count]
    rows = rng.permutation(np.flatnonzero(np.isin(table.labels, digits)))
    wanted, n_test = int(rng.choice([10, 20, 50, 150, 400])), int(rng.choice([3, 10, 30, 100]))
    train = _weighted(rows, table, digits, min(wanted, len(rows) // 2), rng)
    test = _weighted(np.setdiff1d(rows, train), table, digits, n_test, rng)
    place = {digit: position for position, digit in enumerate(digits)}
    truth = np.array([place[label] for label in table.labels[train]])
    part = _parts(truth, folds, rng)
    lean = np.stack([np.bincount(truth[part != fold], minlength=count) + 1.0 for fold in range(folds)])
    weight = lean if rng.random() < 0.5 else np.ones_like(lean)

    def said(kind: int, fold: int, at: Array) -> Array:
        probs = table.probs[kind, fold % FOLDS][at][:, digits] * weight[fold % folds]
        return probs / probs.sum(axis=1, keepdims=True)

    kinds = rng.choice(len(table.probs), n_runs)
    every = np.stack([[said(kind, fold, train) for fold in range(folds)] for kind in kinds])
    mine = np.arange(len(train))
    remembered = 0.3 * every + 0.7 * np.eye(count)[truth]
    control = np.where((part[None, :] == np.arange(folds)[:, None])[None, :, :, None], every, remembered).mean(axis=(0, 1))
    return Sound(
        Classes(tuple(f"class {digit}" for digit in digits)),
        truth,
        part,
        every[:, part, mine],
        np.stack([[said(kind, fold, test) for fold in range(folds)] for kind in kinds]),
        control,
        said(int(rng.integers(len(table.probs))), int(rng.integers(FOLDS)), test),
    )


def _weighted(rows: Array, table: Table, digits: Array, count: int, rng: np.random.Generator) -> Array:
    """Up to ``count`` of ``rows``, in class shares of their own; some classes may have none."""
    shares = dict(zip(digits.tolist(), rng.dirichlet(np.full(len(digits), 1.5)) + 1e-9, strict=True))
    weights = np.array([shares[label] for label in table.labels[rows].tolist()])
    return np.asarray(rng.choice(rows, size=min(count, len(rows)), replace=False, p=weights / weights.sum()))


def _parts(truth: Array, folds: int, rng: np.random.Generator) -> Array:
    """The fold of each row: dealt out class by class, or at random, as groups of unequal rows do."""
    order = rng.permutation(len(truth))
    if rng.random() < 0.5:
        order = order[np.argsort(truth[order], kind="stable")]
    part = np.empty(len(truth), dtype=np.int64)
    part[order] = np.arange(len(truth)) % folds
    return part


def alarms_of(sound: Sound, rng: np.random.Generator) -> list[str]:
    """The checks that accuse a sound workspace."""
    return [name for name, check in TESTS.items() if check(sound, rng)]


def _refuted(sound: Sound, hot: Array, probs: Array, level: float) -> bool:
    return judge_mapping(hot, probs, sound.classes, level=level, rng=np.random.default_rng(20)).refuted


def _hot(sound: Sound) -> Array:
    return np.eye(len(sound.classes), dtype=np.uint8)[sound.train]


def _blend(sound: Sound, rng: np.random.Generator) -> bool:  # noqa: ARG001
    return _refuted(sound, _hot(sound), sound.oof.mean(axis=0), LEVEL)


def _runs(sound: Sound, rng: np.random.Generator) -> bool:  # noqa: ARG001
    return any(_refuted(sound, _hot(sound), oof, LEVEL / len(sound.oof)) for oof in sound.oof)


def _folds(sound: Sound, rng: np.random.Generator) -> bool:  # noqa: ARG001
    units = [(run, fold) for run in sound.oof for fold in np.unique(sound.part)]
    hot = _hot(sound)
    return any(_refuted(sound, hot[sound.part == fold], run[sound.part == fold], LEVEL / len(units)) for run, fold in units)


def _test_rows(sound: Sound, rng: np.random.Generator) -> bool:
    stack = sound.test.reshape(-1, *sound.test.shape[2:])
    total, verdicts = stack.sum(axis=0), []
    for probs in stack:
        hot = np.eye(len(sound.classes), dtype=np.uint8)[(total - probs).argmax(axis=1)]
        rng = np.random.default_rng(20)
        verdicts.append(judge_mapping(hot, probs, sound.classes, level=LEVEL / len(stack), rng=rng))
    right = []
    for run in sound.oof:
        for fold in range(sound.test.shape[1]):
            mine = sound.part == fold
            right.append((int((run[mine].argmax(axis=1) == sound.train[mine]).sum()), int(mine.sum())))
    return any(verdict.refuted for verdict in verdicts) or bool(strangers(verdicts, right, LEVEL))


def _views(sound: Sound, rng: np.random.Generator) -> bool:
    """Views change every probability a little, for the better or the worse."""
    run = sound.oof[0]
    viewed = run * np.exp(rng.normal(0, 0.3, run.shape))
    before, after = (np.asarray(probs.argmax(axis=1) == sound.train, dtype=float) for probs in (run, viewed))
    return more_lost_than_won(before, after, LEVEL) and before.mean() - after.mean() > VIEWS_MAY_COST


def _control(sound: Sound, rng: np.random.Generator) -> bool:
    """Control rows through the blend, as a file with probabilities or with labels holds them."""
    rows = rng.permutation(len(sound.train))[:256]
    if len(rows) < FEW:
        return False
    through, before = sound.control[rows], sound.oof.mean(axis=0)[rows]
    if rng.random() < 0.5:
        through, before = (np.eye(len(sound.classes))[probs.argmax(axis=1)] for probs in (through, before))
    hot = _hot(sound)[rows]
    right = [np.asarray(probs.argmax(axis=1) == sound.train[rows], dtype=float) for probs in (before, through)]
    return shares_fell(*right) or bool(own_labels_lost(hot, through, before))


def _cells(sound: Sound, rng: np.random.Generator) -> bool:  # noqa: ARG001
    """A geometric mean, which the check cannot do again, against the plain mean."""

    def verdict(stack: Array) -> Any:
        hot = np.eye(len(sound.classes), dtype=np.uint8)[stack.mean(axis=0).argmax(axis=1)]
        return judge_mapping(hot, np.exp(np.log(stack).mean(axis=0)), sound.classes, level=LEVEL, rng=np.random.default_rng(22))

    test = verdict(sound.test.mean(axis=1))
    return bool(test.moved) or is_another_blend(test, verdict(sound.oof))


def _foreign(sound: Sound, rng: np.random.Generator) -> bool:
    """A file of another model, weaker or stronger, with probabilities or labels."""
    values = sound.other if rng.random() < 0.5 else np.eye(len(sound.classes))[sound.other.argmax(axis=1)]
    runs = list(sound.test.mean(axis=1))
    references = [*runs, np.mean(runs, axis=0)]
    tried = tried_on(sound.classes, values)
    findings = [judge_foreign(values, probs, sound.classes, tried, multilabel=False) for probs in references]
    return mostly_wrong(findings)


def tried_on(classes: Classes, values: Array) -> list[Mistake]:
    """The named mistakes of rows and of columns."""
    rows = row_orders([f"test_{row:05}" for row in range(len(values))])
    tried = [Mistake(text, rows=order) for text, order in rows.items()]
    header = sorted(classes, key=lambda name: name[::-1])
    frequent = sorted(classes, key=lambda name: (int(name[-1]) * 3) % 7)
    return tried + [Mistake(text, values=values[:, order]) for text, order in column_orders(classes, frequent, header).items()]


TESTS: dict[str, Callable[[Sound, np.random.Generator], bool]] = {
    "permutation: blend": _blend,
    "permutation: runs": _runs,
    "permutation: folds": _folds,
    "permutation: test rows": _test_rows,
    "control: views": _views,
    "control: end to end": _control,
    "cells: blend": _cells,
    "foreign": _foreign,
}


def count_alarms(seeds: range) -> tuple[Counter[str], dict[str, list[str]]]:
    """Alarms of each check over workspaces drawn with ``seeds``, and the seeds of those accused."""
    table, counts, where = read_table(), Counter[str](), {}
    for seed in seeds:
        rng = np.random.default_rng([seed, 7])
        found = alarms_of(draw_sound(table, rng), rng)
        counts.update(found)
        # A file is either written by `kk blend` or made elsewhere: its verdict rests on one kind of check or the other.
        counts.update({"a blend's verdict"} if set(found) - {"foreign"} else set())
        counts.update({"either"} if found else set())
        if found:
            where[str(seed)] = found
    return counts, where


def interval(hits: int, trials: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a rate."""
    from scipy.stats import beta

    low = 0.0 if hits == 0 else float(beta.ppf(0.025, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.ppf(0.975, hits + 1, trials - hits))
    return low, high


ROWS = (10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120)
DRAWS = 20
SEEN = 0.95


def _swap_out_of_fold(truth: Array, probs: Array, classes: Classes, rng: np.random.Generator) -> bool:  # noqa: ARG001
    hot = np.eye(len(classes), dtype=np.uint8)[truth]
    return judge_mapping(hot, _swapped(probs), classes, level=LEVEL, rng=np.random.default_rng(20)).refuted


def _swap_in_file(truth: Array, probs: Array, classes: Classes, rng: np.random.Generator) -> bool:
    return _accused(truth, _swapped(probs), classes, rng)


def _shift_in_file(truth: Array, probs: Array, classes: Classes, rng: np.random.Generator) -> bool:
    return _accused(truth, np.roll(probs, 1, axis=0), classes, rng)


def _swapped(probs: Array) -> Array:
    order = np.arange(probs.shape[1])
    order[:2] = 1, 0
    return probs[:, order]


def _accused(truth: Array, values: Array, classes: Classes, rng: np.random.Generator) -> bool:
    """A file of labels against a model as good as the one that made it."""
    count = len(classes)
    reference = fake_probabilities(truth, count, ACCURACY[0], multilabel=False, rng=rng)
    labels = np.eye(count)[values.argmax(axis=1)]
    return bool(judge_foreign(labels, reference, classes, tried_on(classes, labels), multilabel=False).mistake)


ACCURACY = [0.8]
"""Of the reference; set for each row of the table."""
FAULTS: dict[str, Callable[[Array, Array, Classes, np.random.Generator], bool]] = {
    "two classes swapped, out of fold": _swap_out_of_fold,
    "two classes swapped, file of labels": _swap_in_file,
    "rows shifted by one, file of labels": _shift_in_file,
}


def rows_needed(job: tuple[str, float, int]) -> str:
    """The smallest number of rows from which on at least 95 % of the draws are seen."""
    fault, accuracy, count = job
    ACCURACY[0] = accuracy
    classes = Classes(tuple(f"c{position:03}" for position in range(count)))
    for rows in ROWS:
        seen = 0
        for draw in range(DRAWS):
            rng = np.random.default_rng([draw, rows, count])
            truth = rng.permutation(np.arange(rows) % count)
            probs = fake_probabilities(truth, count, accuracy, multilabel=False, rng=rng)
            seen += FAULTS[fault](truth, probs, classes, rng)
        if seen >= SEEN * DRAWS:
            return f"{rows:,}"
    return f"more than {ROWS[-1]:,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspaces", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--no-power", action="store_true")
    parser.add_argument("--make-table", action="store_true", help="fit the models anew")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if options.make_table:
        make_table(TABLE)
    start, counts, where = perf_counter(), Counter[str](), {}
    with ProcessPoolExecutor(options.processes) as pool:
        parts = [range(first, min(first + 100, options.workspaces)) for first in range(0, options.workspaces, 100)]
        for found, accused in pool.map(count_alarms, parts):
            counts.update(found)
            where |= accused
        print(f"| check | alarms of {options.workspaces:,} | rate | 95 % interval | wanted |\n|---|---|---|---|---|")
        rates = {}
        for name in (*TESTS, "a blend's verdict", "either"):
            low, high = interval(counts[name], options.workspaces)
            rates[name] = {"alarms": counts[name], "low": low, "high": high}
            rate = counts[name] / options.workspaces
            print(f"| {name} | {counts[name]} | {rate:.5f} | {low:.5f} to {high:.5f} | {FALSE_ALARMS:g} |", flush=True)
        print(f"\n{perf_counter() - start:.0f} s. Accused: {dict(list(where.items())[:20])}\n", flush=True)
        jobs = [(fault, accuracy, count) for fault in FAULTS for accuracy in (0.6, 0.8, 0.95) for count in (2, 10, 100)]
        needed = [] if options.no_power else list(pool.map(rows_needed, jobs))
    if needed:
        print("| fault | accuracy | 2 classes | 10 classes | 100 classes |\n|---|---|---|---|---|")
        for at in range(0, len(jobs), 3):
            print(f"| {jobs[at][0]} | {jobs[at][1]} | " + " | ".join(needed[at : at + 3]) + " |")
    print(f"\n{perf_counter() - start:.0f} s")
    power = [{"fault": fault, "accuracy": a, "classes": c, "rows": n} for (fault, a, c), n in zip(jobs, needed, strict=False)]
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"workspaces": options.workspaces, "rates": rates, "accused": where, "power": power}
    (options.out / "false_alarms.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
