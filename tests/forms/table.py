"""All competitions of the suite to a submission; prints the table and writes docs/competitions.md. ``make forms`` runs it."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import tempfile
import time
import traceback
from pathlib import Path

import many_labels
import one_label
import two_classes
from form import FORMS, Form
from whole import Outcome, run

MODULES = (two_classes, one_label, many_labels)
DOCS = Path(__file__).parents[2] / "docs" / "competitions.md"
_OPENING = """# Competitions

<!-- Made by `make forms` from tests/forms. Edit that. -->

Each of these competitions was laid out as Kaggle gives it, filled with small pictures, and taken to a submission with a tiny
model: `kk init`, `folds`, `train`, `predict`, `blend`, `check`, and the offline kernel on the same data. The score is that of
the page's own formula, written out in `tests/forms/graders.py`; it says that every class stands in its place, and nothing else.

`kk download SLUG` names the folder after the competition, by which `kk init` knows how its page scores. In a folder of another
name, say it: `kk init DATA --competition SLUG`, or `--metric`.

Of several images an id (rsna-breast-cancer-detection, cdiscount) each is trained on and predicted, and what is said of them
becomes one row; a class that is none of the others (new_whale) is ranked by a threshold found out of fold; models are built for
images of two, four or more channels (human-protein-atlas, statoil-iceberg), and pretrained weights are adapted to them.

| competition | what kk concludes | what you type | score | check |
| --- | --- | --- | --- | --- |
"""


def row(form: Form, outcome: Outcome) -> str:
    """Return a line of the table."""
    typed = " ".join(["kk init DATA", *(f"--{text.replace('=', ' ')}" for text in form.typed)])
    score = "" if outcome.score != outcome.score else f"{outcome.score:.3f}"
    return f"| {form.slug} | {outcome.concluded} | `{typed}` | {score} | {outcome.check} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slugs", nargs="*", help="only these; then docs/competitions.md is left alone")
    chosen = parser.parse_args().slugs
    logging.disable(logging.WARNING)
    lines, failed = [], []
    for slug, form in FORMS.items():
        if chosen and slug not in chosen:
            continue
        lacking = [package for package in form.needs if importlib.util.find_spec(package) is None]
        if lacking:
            failed.append(f"{slug}: needs {', '.join(lacking)}")
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as root:
            try:
                outcome = run(form, Path(root) / "here")
            except Exception:
                failed.append(f"{slug}: {traceback.format_exc(limit=-3)}")
                print(f"FAILED {slug}", flush=True)
                continue
        beaten = outcome.score <= form.better if form.lower else outcome.score >= form.better
        lines.append(row(form, outcome))
        if not (form.refused or beaten):
            failed.append(f"{slug}: scored {outcome.score:.3f}, expected {form.better}")
        print(f"{lines[-1]} {time.monotonic() - began:.0f} s, kernel: {outcome.kernel}", flush=True)
    print(f"\n{len(lines)} of {len(chosen or FORMS)} competitions")
    if not chosen:
        DOCS.write_text(_OPENING + "\n".join(lines) + "\n", encoding="utf-8")
    if failed:
        raise SystemExit("\n".join(failed))


if __name__ == "__main__":
    main()
