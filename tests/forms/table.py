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
import others
import two_classes
from form import FORMS, OTHERS, Form
from whole import Outcome, run

MODULES = (two_classes, one_label, many_labels, others)
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

"""
_HEAD = """| competition | what kk concludes | what you type | score | check |
| --- | --- | --- | --- | --- |"""
_BETWEEN = """
## Others

Made-up competitions whose files stand otherwise (`tests/forms/others.py`): HDF5 with groups or ids, four arrays in one file, a
folder an image, bands in an archive, the long form, several photographs an id. The same rules read them.

"""


def row(form: Form, outcome: Outcome) -> str:
    """Return a line of the table."""
    typed = " ".join(["kk init DATA", *(f"--{text.replace('=', ' ')}" for text in form.typed)])
    score = "" if outcome.score != outcome.score else f"{outcome.score:.3f}"
    return f"| {form.slug} | {outcome.concluded} | `{typed}` | {score} | {outcome.check} |"


def outcome_of(form: Form) -> tuple[str, str]:
    """Take a competition the whole way; return its line of the table, and what is wrong with it."""
    lacking = [package for package in form.needs if importlib.util.find_spec(package) is None]
    if lacking:
        return "", f"needs {', '.join(lacking)}"
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        try:
            outcome = run(form, Path(root) / "here")
        except Exception:
            return "", traceback.format_exc(limit=-3)
    print(f"{row(form, outcome)} {time.monotonic() - began:.0f} s, kernel: {outcome.kernel}", flush=True)
    beaten = outcome.score <= form.better if form.lower else outcome.score >= form.better
    return row(form, outcome), "" if form.refused or beaten else f"scored {outcome.score:.3f}, expected {form.better}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slugs", nargs="*", help="only these; then docs/competitions.md is left alone")
    chosen = parser.parse_args().slugs
    logging.disable(logging.WARNING)
    found = {slug: outcome_of(form) for slug, form in (FORMS | OTHERS).items() if not chosen or slug in chosen}
    failed = [f"{slug}: {wrong}" for slug, (_, wrong) in found.items() if wrong]
    for text in failed:
        print(f"FAILED {text}")
    parts = [[found[slug][0] for slug in some if found.get(slug, ("",))[0]] for some in (FORMS, OTHERS)]
    print(f"\n{len(parts[0])} of {len(FORMS)} competitions, {len(parts[1])} of {len(OTHERS)} made-up ones")
    if not chosen:
        DOCS.write_text("\n".join([_OPENING + _HEAD, *parts[0], _BETWEEN + _HEAD, *parts[1], ""]), encoding="utf-8")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
