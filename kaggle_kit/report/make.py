"""``kk report``: the page of a run or a blend, or of several beside each other."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kaggle_kit import files
from kaggle_kit.competition import Setup
from kaggle_kit.images.decode import Progress
from kaggle_kit.report.blocks import Section, scripts_of
from kaggle_kit.report.compare import compare_sections
from kaggle_kit.report.pages import BESIDE_PAGE, IN_PAGE, PageResult, write_page
from kaggle_kit.report.pictures import take_pictures
from kaggle_kit.report.sections import Page, make_sections
from kaggle_kit.report.subjects import Subject, find_subjects
from kaggle_kit.units import format_duration
from kaggle_kit.workspace import Workspace

REPORT = "report"
_LONGEST = 100


@dataclass(frozen=True, repr=False)
class ReportResult(PageResult):
    """A page that was written.

    Attributes:
        subjects: what it is about.
        n_bytes: of the page; images in a folder beside it come on top.
        left_out: sections that do not apply, and why.
    """

    path: Path
    subjects: tuple[str, ...]
    n_bytes: int
    seconds: float
    left_out: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return where the page is, and its size."""
        return f"wrote {self.path} ({self.n_bytes / 1e6:.1f} MB, in {format_duration(self.seconds)})"


def make_report(
    setup: Setup,
    names: Sequence[str] = (),
    *,
    gradcam: str = "",
    progress: Progress | None = None,
) -> ReportResult:
    """Write ``report/<name>.html`` about a run or a blend, or ``report/compare-<names>.html`` about several.

    Args:
        names: of runs and blends; none: the newest blend, else the newest run.
        gradcam: ids of images with commas between them, or a number of the surest mistakes; "" for none.

    Raises:
        MissingFileError: there is no such run or blend.
        DataError, FoldError: its files cannot be used, or several have nothing in common.
        ConfigError: ``gradcam`` names no row.
        StorageError: the page cannot be written.
    """
    started = time.monotonic()
    workspace, subjects = setup.workspace, find_subjects(setup, names)
    path = page_path(workspace, [subject.name for subject in subjects])
    if len(subjects) == 1:
        return write_subject(workspace, subjects[0], path, gradcam=gradcam, started=started, progress=progress)
    *most, last = (subject.name for subject in subjects)
    title = f"{', '.join(most)} and {last} compared"
    with files.lock_beside(path):
        sections, left_out = compare_sections(workspace, subjects, path, progress)
        return _write(path, title, sections, left_out, started, [subject.name for subject in subjects])


def write_subject(
    workspace: Workspace,
    subject: Subject,
    path: Path,
    *,
    gradcam: str = "",
    started: float | None = None,
    first: Sequence[Section] = (),
    progress: Progress | None = None,
) -> ReportResult:
    """Write the page of one subject, after ``first`` sections of the caller; arguments and errors as of :func:`make_report`."""
    started = time.monotonic() if started is None else started
    title = f"{subject.kind.capitalize()} {'on ' if subject.kind == 'evaluation' else ''}{subject.name}"
    with files.lock_beside(path):  # the images beside a page are those of one call
        page = Page(workspace, subject, take_pictures(subject, path, progress), gradcam)
        sections, left_out = make_sections(page)
        return _write(path, title, [*first, *sections], left_out, started, [subject.name])


def page_path(workspace: Workspace, names: Sequence[str]) -> Path:
    """Return where the page of runs and blends called ``names`` lies."""
    if len(names) == 1:
        return workspace.root / REPORT / f"{names[0]}.html"
    joined = re.sub(r"[^\w.-]+", "-", "-".join(["compare", *names]))[:_LONGEST]
    return workspace.root / REPORT / f"{joined}.html"


def _write(
    path: Path,
    title: str,
    sections: Sequence[Section],
    left_out: Sequence[tuple[str, str]],
    started: float,
    names: Sequence[str],
) -> ReportResult:
    links = [(section.anchor, section.heading) for section in sections]
    beside = path.with_name(f"{path.stem}_images").is_dir()
    write_page(
        path,
        "sections.html",
        scripts=scripts_of(sections),
        allowed=BESIDE_PAGE if beside else IN_PAGE,
        title=title,
        sections=sections,
        links=links,
        left_out=left_out,
    )
    why = tuple(f"{heading}: {reason}" for heading, reason in left_out)
    return ReportResult(path, tuple(names), path.stat().st_size, time.monotonic() - started, why)
