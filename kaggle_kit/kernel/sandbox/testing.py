"""``kk kernel test``: a built kernel runs here as it would at Kaggle, on the visible and on a hidden test set."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

from kaggle_kit import files
from kaggle_kit import runs as run_files
from kaggle_kit.blending import fitted_from_dict
from kaggle_kit.blending.sources import align_test
from kaggle_kit.check import Check, CheckReport, record_path
from kaggle_kit.check.report import INCONCLUSIVE, Status
from kaggle_kit.competition import Setup
from kaggle_kit.errors import ConfigError, KaggleKitError, MissingFileError
from kaggle_kit.kernel.build import DATASET, KERNEL
from kaggle_kit.kernel.bundle import Bundle, read_bundle
from kaggle_kit.kernel.image import ImageList, canonical, load_image
from kaggle_kit.kernel.runtime import SUBMISSION, prior_rows
from kaggle_kit.kernel.sandbox.environment import Environment, make_environment
from kaggle_kit.kernel.sandbox.inputs import (
    TestImage,
    copy_test_data,
    hidden_images,
    is_packed,
    visible_images,
    write_all_data,
    write_dataset,
    write_hidden_ids,
    write_hidden_rows,
    write_test_data,
)
from kaggle_kit.kernel.sandbox.session import Isolation, Session, find_isolation, require_client, run_session
from kaggle_kit.kernel.training import WORKSPACE
from kaggle_kit.kernel.wheels import TRAINING_NEEDS
from kaggle_kit.results import Result, plain
from kaggle_kit.tables import Predictions, read_predictions, shown
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)

TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2
"""How far a probability may be from that of ``kk blend``; weights in 16 bits are another model."""
RECORD = "test.json"
_TIMEOUT = 9 * 3600.0
_SEARCH = 3  # times as long as a session that trains: features, heads and a blend should fit
_SHOWN_LINES = 3


@dataclass(frozen=True, repr=False)
class KernelTest(Result):
    """How a kernel did.

    Attributes:
        sessions: how each run of the notebook went, with what it printed.
        report: the verdict; its path is the notebook's.
        isolation: how the network was kept away.
    """

    sessions: tuple[Session, ...]
    report: CheckReport
    isolation: str

    @property
    def passed(self) -> bool:
        return self.report.passed

    @property
    def exit_code(self) -> int:
        """What ``kk kernel test`` ends with: as ``kk check`` would."""
        return self.report.exit_code

    @property
    def parts(self) -> tuple[Result, ...]:
        return (self.report,)

    def describe(self) -> str:
        """Return what the notebook printed in each session."""
        lines = []
        for session in self.sessions:
            lines.append(f"--- {session.name}: {session.seconds:.0f} s, peak memory {session.peak_bytes / 1e9:.1f} GB")
            lines += session.lines
            lines += [f"ended early: {session.error}"] if session.error else []
        return "\n".join([*lines, f"network: {self.isolation}"])

    def to_dict(self) -> dict[str, Any]:
        """Return how each session went, and the verdict."""
        keys = ("name", "error", "seconds", "peak_bytes", "lines")
        sessions = [{key: plain(getattr(session, key)) for key in keys} for session in self.sessions]
        return {"sessions": sessions, "isolation": self.isolation, "check": self.report.to_dict()}


@dataclass(frozen=True)
class _Common:
    """What all sessions share."""

    folder: Path
    setup: Setup
    bundle: Bundle
    notebook: Path
    image: ImageList
    isolation: Isolation
    root: Path
    limit: int | None
    timeout: float

    @property
    def data_dir(self) -> Path:
        return self.setup.data_dir

    @property
    def source(self) -> Path:
        """The data as they came, containers closed."""
        return (self.setup.workspace.root / self.setup.config.competition.data_dir).resolve()

    @property
    def slugs(self) -> tuple[str, str]:
        """Last parts of the addresses of dataset and competition."""
        about = files.read_json(self.folder / KERNEL / "kernel-metadata.json", made_by="kk kernel build")
        return str(about["dataset_sources"][0]).partition("/")[2], str(about["competition_sources"][0])

    def place(self, name: str, data: str, competition: str) -> Path:
        """Mount the dataset for a session; return where the competition's folder is to be."""
        write_dataset(self.folder / DATASET, self.root / name / "input" / data)
        return self.root / name / "input" / competition

    def run(self, name: str, root: Path, variables: Mapping[str, str] | None = None) -> Session:
        """A session of its own, in an environment that nothing was installed in before."""
        logger.info("%s: running the notebook", name)
        foreign = foreign_wheels(self.bundle.wheels)
        brought = {canonical(wheel.partition("-")[0]) for wheel in self.bundle.wheels} - foreign.keys()
        alone = not self.isolation.prefix
        environment = make_environment(root / "venv", self.image, without=brought, beside=foreign, block_network=alone)
        return run_session(
            name,
            self.notebook,
            root,
            environment=environment,
            isolation=self.isolation,
            timeout=self.timeout,
            variables=variables,
        )


def test_kernel(
    folder: Path,
    setup: Setup,
    *,
    image_list: Path | None = None,
    limit: int | None = None,
    session_seconds: float = 60.0,
    timeout: float = _TIMEOUT,
    keep: Path | None = None,
) -> KernelTest:
    """Run the kernel in ``folder`` twice, offline, with only what the image holds; write ``folder/test.json``.

    An inference kernel is run on the visible test set, where it must give what ``kk blend`` gave, and on a hidden one with
    other ids and an unreadable image; of images in containers that is other rows of a table of pixels, or inconclusive, and of
    several images an id fewer ids. A training kernel is run for a short session, and for one that goes on from its output.

    Args:
        image_list: ``pip freeze`` of a Kaggle session; by default the list that comes with the package.
        limit: take the first so many test images only.
        session_seconds: budget of the first session of a training kernel; one that searches has twice three times as much.
        timeout: seconds that one cell may take.
        keep: a folder for inputs, outputs and executed notebooks; by default they are thrown away.

    Raises:
        DependencyError: what executes notebooks is not installed.
        MissingFileError: ``folder`` holds no kernel.
        ConfigError: it was built anew meanwhile.
        KaggleKitError: the sandbox could not be made.
    """
    require_client()
    folder = Path(folder)
    notebook = next((folder / KERNEL).glob("*.ipynb"), None)
    if notebook is None:
        raise MissingFileError(f"no notebook in {folder / KERNEL}. Run `kk kernel build` first.")
    bundle, image, isolation = read_bundle(folder / DATASET), load_image(image_list), find_isolation()
    with tempfile.TemporaryDirectory(prefix="kk-kernel-") as temporary:
        root = Path(temporary).resolve() if keep is None else Path(keep).resolve()
        common = _Common(folder, setup, bundle, notebook, image, isolation, root, limit, timeout)
        checks: list[Check] = []
        sessions: list[Session] = []
        for session, found in _STEPS[bundle.kind](common, session_seconds):
            sessions.append(session)
            checks += found
        checks.insert(0, _packages(sessions[0].environment, image, bundle))
    report = CheckReport(notebook, tuple(checks), files.file_fingerprint(notebook), {})
    created = datetime.now(UTC).isoformat(timespec="seconds")
    times = {one.name: {"seconds": round(one.seconds, 1), "peak_bytes": one.peak_bytes} for one in sessions}
    with files.lock_beside(folder):
        if read_bundle(folder / DATASET).build != bundle.build:
            raise ConfigError(f"{folder} was built anew while it was tested. Run `kk kernel test` again.")
        files.write_json(folder / RECORD, {**report.to_dict(), "build": bundle.build, "sessions": times, "created": created})
    return KernelTest(tuple(sessions), report, isolation.words)


def _inference(common: _Common, _seconds: float) -> Iterator[tuple[Session, list[Check]]]:
    """The visible test set, then a hidden one mounted elsewhere; of a packed one what can be imitated."""
    data, competition = common.slugs
    config, expected = common.setup.config.competition, _expected(common)
    packed = is_packed(common.setup.competition, config)
    visible = visible_images(common.setup.competition, common.data_dir, None if packed else common.limit)
    place = common.place("visible", data, competition)
    if packed:
        copy_test_data(place, config, common.source)
    else:
        write_test_data(place, visible, config, common.data_dir)
    session = common.run("visible", common.root / "visible")
    checks = [*_ran(session, common), *_compared(common, session, visible, expected)]
    place = common.place("hidden", f"datasets/owner/{data}", f"competitions/{competition}")
    if packed:
        hidden = write_hidden_rows(place, visible, config, common.source)
        if hidden is None:
            hidden = write_hidden_ids(place, common.setup.competition, config, common.data_dir)
    else:
        hidden = hidden_images(visible)
        write_test_data(place, hidden, config, common.data_dir)
    if hidden is None:
        why = "no other test set can be made of images in such containers; the visible one was given as it is"
        yield session, [*checks, Check("hidden: notebook", INCONCLUSIVE, why)]
        return
    yield session, checks
    session = common.run("hidden", common.root / "hidden")
    yield session, [*_ran(session, common), *_compared(common, session, hidden, expected)]


def _training(common: _Common, seconds: float) -> Iterator[tuple[Session, list[Check]]]:
    """A session that is too short, then one with its output attached."""
    yield from _two_sessions(common, {"KK_BUDGET_SECONDS": str(seconds)}, {}, _trained)


def _auto(common: _Common, seconds: float) -> Iterator[tuple[Session, list[Check]]]:
    """Two sessions of the same length, the second with the output of the first attached: a whole search would take hours."""
    short = {"KK_BUDGET_SECONDS": str(_SEARCH * seconds)}
    yield from _two_sessions(common, short, short, _searched)


def _two_sessions(
    common: _Common, first_has: dict[str, str], second_has: dict[str, str], judged: Callable[[_Common, Session], Check]
) -> Iterator[tuple[Session, list[Check]]]:
    session = _session(common, "first", first_has)
    yield session, _ran(session, common)
    if session.error:
        return
    session = _session(common, "second", second_has, after=session)
    yield session, [*_ran(session, common), judged(common, session)]


def _session(common: _Common, name: str, variables: Mapping[str, str], after: Session | None = None) -> Session:
    """Run the notebook with the output of an earlier session attached.

    At Kaggle every session sees the same paths, and where the weights lie is part of a run: so all sessions are held in one
    place, and what a session has left is moved aside.
    """
    data, competition = common.slugs
    place = common.root / "session"
    write_dataset(common.folder / DATASET, place / "input" / data)
    write_all_data(place / "input" / competition, common.source)
    if after is not None:
        (place / "input" / "notebooks").mkdir()
        after.working.rename(place / "input" / "notebooks" / "output")
    session = common.run(f"{name} session", place, variables)
    kept = place.rename(common.root / name)
    return replace(session, working=kept / session.working.name, executed=kept / "told" / session.executed.name)


_STEPS = {"inference": _inference, "training": _training, "auto": _auto}
"""Kind of a kernel -> the sessions that it is tried in."""


def _trained(common: _Common, session: Session) -> Check:
    """The second session went on from the first, and all folds are finished."""
    name, run = "second session: folds", str(common.bundle.plan()["run"])
    if session.error:
        return Check(name, "failed", "the notebook did not end")
    found = run_files.read_run(Workspace(session.working / WORKSPACE), run)
    done = [fold for fold in found.folds if fold.finished]
    went_on = any("going on from" in line for line in session.lines)
    text = f"{len(done)} of {len(found.folds)} folds finished, {'going on from the first' if went_on else 'begun anew'}"
    return Check(name, "passed" if went_on and len(done) == len(found.folds) else "failed", text)


def _searched(_common: _Common, session: Session) -> Check:
    """The second session went on from the first, and there is a submission."""
    name = "second session: search"
    if session.error:
        return Check(name, "failed", "the notebook did not end")
    if not any("going on from" in line for line in session.lines):
        return Check(name, "failed", "begun anew, although the output of the first session was there")
    if not (session.working / SUBMISSION).is_file():
        text = "going on from the first; two sessions of this length are too short for a submission on this machine"
        return Check(name, INCONCLUSIVE, text)
    return Check(name, "passed", "going on from the first, with a submission")


def foreign_wheels(wheels: Iterable[str]) -> dict[str, str]:
    """Return canonical name -> version of the wheels that this Python cannot install: those compiled for the image's."""
    ours = set(sys_tags())
    parsed = [parse_wheel_filename(wheel) for wheel in wheels]
    return {name: str(version) for name, version, _, tags in parsed if not tags & ours}


def _packages(environment: Environment, image: ImageList, bundle: Bundle) -> Check:
    """Where this environment is unlike the image."""
    python = ".".join(map(str, sys.version_info[:2]))
    text = f"{len(environment.packages)} packages of the image, {len(bundle.wheels)} wheels from the dataset"
    unlike = [f"Python {python} (image: {image.python})"] if python != image.python else []
    foreign = foreign_wheels(bundle.wheels)
    unlike += [f"{name} {version} of this machine (the wheel is for another Python)" for name, version in foreign.items()]
    ours = {canonical(name) for name in TRAINING_NEEDS}
    unlike += sorted(environment.differing, key=lambda text: text.split()[0] not in ours)  # what we import ourselves first
    if not unlike:
        return Check("packages", "passed", text)
    return Check("packages", "warning", f"{text}; {len(unlike)} other versions than the image's: {shown(unlike)}")


def _ran(session: Session, common: _Common) -> list[Check]:
    """The notebook ran to its end without a network, and left its inputs alone; then what it found out itself."""
    time = f"{session.seconds:.1f} s, peak memory {session.peak_bytes / 1e9:.2f} GB"
    if session.error:
        last = [line.strip() for line in session.error.splitlines() if line.strip()][-_SHOWN_LINES:]
        checks = [
            Check(f"{session.name}: notebook", "failed", f"after {time}: {' / '.join(last)}", "See what it printed above.")
        ]
    else:
        checks = [Check(f"{session.name}: notebook", "passed", f"ran to its end in {time}")]
    status: Status = "passed" if common.isolation.prefix else "warning"
    checks.append(Check(f"{session.name}: network", status, common.isolation.words))
    if session.changed:
        checks.append(Check(f"{session.name}: inputs", "failed", f"changed: {shown(session.changed)}"))
    else:
        checks.append(Check(f"{session.name}: inputs", "passed", "read only, and as they were"))
    if session.missing:
        checks.append(
            Check(f"{session.name}: confinement", "warning", f"not possible on this machine: {'; '.join(session.missing)}")
        )
    else:
        checks.append(Check(f"{session.name}: confinement", "passed", "no privileges, read-only files, hidden home folder"))
    record = record_path(session.working / SUBMISSION)
    if record.is_file():
        own = files.read_json(record, made_by="the notebook")["checks"]
        checks += [replace(check, name=f"{session.name}: {check.name}") for check in (Check(**one) for one in own)]
    return checks


def _expected(common: _Common) -> Predictions:
    """What ``kk blend`` gives for the visible test set: from its file, or for runs that were only named, from theirs."""
    plan = common.bundle.plan()
    if plan["blend_name"]:
        return read_predictions(common.setup.workspace.submission_path(plan["blend_name"]).with_suffix(".probs.parquet"))
    chosen = [run_files.read_run(common.setup.workspace, str(run["name"])) for run in plan["runs"]]
    aligned, _ = align_test(common.setup.workspace, common.setup.competition, chosen, run_files.TEST)
    return Predictions(aligned.ids, fitted_from_dict(plan["blend"]).apply(aligned.stack), common.setup.competition.classes)


def _compared(common: _Common, session: Session, images: list[TestImage], expected: Predictions) -> list[Check]:
    """Each image has what it has at home, under whatever id; an unreadable one has the shares of the training data."""
    name, path = f"{session.name}: kk blend", (session.working / SUBMISSION).with_suffix(".probs.parquet")
    if not path.is_file():
        return [Check(name, "failed", "there is no submission")]
    plan, classes = common.bundle.plan(), common.setup.competition.classes
    tolerance = HALF_TOLERANCE if plan["half"] else TOLERANCE
    try:
        made = read_predictions(path).align(classes, here="kk.yaml", there=path.name)
        sound = [image for image in images if image.origin is not None]
        here = made.take([image.id for image in sound]).probs
        home = expected.align(classes, here="kk.yaml")
        where = {row_id: row for row, row_id in enumerate(home.ids)}
        there = home.probs[[where[str(image.origin)] for image in sound]]
    except KaggleKitError as error:
        return [Check(name, "failed", str(error))]
    furthest = float(np.abs(here - there).max())
    other = sum(one != two for one, two in zip(classes.top(here), classes.top(there), strict=True))
    text = f"{len(sound):,} rows, furthest probability {furthest:.1e} away (at most {tolerance:g}), {other} other labels"
    same = furthest <= tolerance and (other == 0 or common.setup.competition.multilabel or plan["half"])
    checks = [Check(name, "passed" if same else "failed", text, "" if same else "Look for another engine, version or order.")]
    broken = [image.id for image in images if image.origin is None]
    if broken:
        shares = np.array(plan["prior"], dtype=np.float32)
        wanted = prior_rows(shares, len(broken), multilabel=common.setup.competition.multilabel)
        prior = np.abs(made.take(broken).probs - wanted).max() <= TOLERANCE
        words = f"{len(broken)} of {len(images)} rows, {'the shares of the training data' if prior else 'something else'}"
        checks.append(Check(f"{session.name}: unreadable image", "passed" if prior else "failed", words))
    return checks
