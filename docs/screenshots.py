"""Make the pictures of docs/screenshots: each page of `kk` on the demo's handwritten digits, as a browser shows it.

    python docs/screenshots.py [--only tune,run] [--work FOLDER]      # or: make screenshots

It wants Playwright and a Chromium of the system (Debian: apt-get install chromium). Training takes about a minute on two CPUs;
with --work what is trained is kept and not trained again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "screenshots"
WINDOW = {"width": 1200, "height": 800}
WIDTH, QUALITY = 900, 60
OPTIONS: dict[str, Any] = {
    **{"model": "resnet10t", "pretrained": False, "image_size": 32, "epochs": 5, "lr": 3e-3, "batch_size": 64},
    **{"augment": "shift", "data.crop_pct": 1.0, "schedule.warmup_epochs": 1},
}


@dataclass(frozen=True)
class Shot:
    """One picture.

    Attributes:
        page: file in ``report/`` or ``tune/``; "" for the page of labels, which is served.
        at: the section that is scrolled to.
        click: a selector of what is clicked before.
    """

    page: str
    at: str = ""
    click: str = ""
    scheme: str = "light"


SHOTS: dict[str, Shot] = {
    "data": Shot("report/data.html"),
    "run": Shot("report/resnet.html"),
    "run-dark": Shot("report/resnet.html", at="map", scheme="dark"),
    "confusion": Shot("report/resnet.html", at="confusion", click=".pairs button"),
    "blend": Shot("report/blend.html", at="weights"),
    "compare": Shot("report/compare-resnet-mixup.html"),
    "labels": Shot(""),
    "evaluate": Shot("report/evaluation-labelled.html"),
    "tune": Shot("tune/tune/report.html", at="importances"),
}
"""Name of the picture -> what it shows."""


def make_pages(folder: Path) -> Any:
    """Do the job on the digits and write all pages; return the project."""
    from kaggle_kit import Project, demo

    demo.write_competition(folder / "data", folder / "answers.csv")
    project = Project.init(folder / "data", folder / "work", name="digits", force=True)
    project.look()
    project.folds(n_folds=2)
    project.train(run="resnet", **OPTIONS)
    project.train(run="mixup", **{**OPTIONS, "augment.mixup": 0.4})
    project.predict(tta="multiscale")
    project.blend(name="blend", method="weights", force=True)
    project.report("resnet", gradcam="8")
    project.report("blend")
    project.report("resnet", "mixup")
    for row in pd.read_csv(folder / "answers.csv", dtype=str).itertuples():
        place = folder / "labelled" / row.label / f"{row.id}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "data" / "test" / place.name, place)
    with contextlib.chdir(project.workspace.root):
        project.evaluate(Path("../labelled"), runs="resnet,mixup")
    project.tune(trials=8, **{**OPTIONS, "epochs": 2})
    return project


@contextlib.contextmanager
def served(project: Any) -> Iterator[str]:
    """Serve the page of labels; yield its address."""
    from kaggle_kit.labels.server import Desk, ReviewServer

    issues, classes = project.labels(table=True), project.competition.classes
    path = project.workspace.labels_path("review")
    with ReviewServer(Desk(path, classes, issues.suspects, multilabel=False), "Labels to review") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.address
        server.shutdown()


def take(project: Any, names: Sequence[str]) -> None:
    """Photograph pages and keep them, reduced."""
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        raise SystemExit("no browser: install chromium (Debian: apt-get install chromium)")
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright, served(project) as address:
        browser = playwright.chromium.launch(executable_path=executable)
        for name in names:
            shot = SHOTS[name]
            page = browser.new_context(viewport=WINDOW, color_scheme=shot.scheme).new_page()
            page.goto((project.workspace.root / shot.page).resolve().as_uri() if shot.page else address)
            page.wait_for_load_state("networkidle")
            if shot.at:
                page.evaluate("id => document.getElementById(id).scrollIntoView()", shot.at)
            if shot.click:
                page.locator(shot.click).first.click()
            keep(page.screenshot(), FOLDER / f"{name}.webp")
        browser.close()


def keep(png: bytes, path: Path) -> None:
    """Write a picture in the width of a page of documentation."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    size = WIDTH, round(picture.height * WIDTH / picture.width)
    picture.resize(size, Image.Resampling.LANCZOS).save(path, quality=QUALITY, method=6)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def main(arguments: Sequence[str]) -> None:
    """Make the pictures that the arguments name, by default all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SHOTS), help="names of pictures, with commas between them")
    parser.add_argument("--work", type=Path, help="where the pages are made; by default a temporary folder")
    given = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        folder = given.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        take(make_pages(folder), given.only.split(","))


if __name__ == "__main__":
    main(sys.argv[1:])
