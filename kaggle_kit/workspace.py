"""Where things lie in a workspace: any folder with a ``kk.yaml``."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from kaggle_kit import files
from kaggle_kit.errors import ConfigError, MissingFileError
from kaggle_kit.fold_names import fold_folder
from kaggle_kit.registry import shortened

CONFIG_NAME = "kk.yaml"
LATEST = "latest"
_PLAIN = re.compile(r"[\w-][\w.-]*")
_LONGEST = 200  # bytes; a file name has at most 255, and suffixes follow


@dataclass(frozen=True, slots=True)
class Workspace:
    """The paths of one workspace; nothing is created by looking.

    Attributes:
        other_runs: where runs go instead of ``runs/``, as the trials of ``kk tune`` do.
    """

    root: Path
    other_runs: Path | None = None

    @property
    def config_path(self) -> Path:
        return self.root / CONFIG_NAME

    @property
    def runs_dir(self) -> Path:
        return self.root / "runs" if self.other_runs is None else self.other_runs

    @property
    def cache_dir(self) -> Path:
        return self.root / ".kk_cache"

    def locate(self, file: Path | str) -> Path:
        """Return ``file`` in the workspace if it is there, else as it was given."""
        inside = self.root / file
        return inside if inside.exists() else Path(file)

    def folds_path(self, name: str) -> Path:
        return _plain_path(self.root / "folds", name, "folds", ".csv")

    def labels_path(self, name: str) -> Path:
        return _plain_path(self.root / "labels", name, "review of labels", ".csv")

    def run_dir(self, run: str) -> Path:
        return _plain_path(self.runs_dir, run, "run")

    def fold_dir(self, run: str, fold: int) -> Path:
        return self.run_dir(run) / fold_folder(fold)

    def tune_dir(self, study: str) -> Path:
        return _plain_path(self.root / "tune", study, "study")

    @property
    def submissions_dir(self) -> Path:
        return self.root / "submissions"

    def submission_path(self, name: str) -> Path:
        return _plain_path(self.submissions_dir, name, "submission", ".csv")

    def latest_submission(self) -> Path:
        """Return the submission that ``kk blend`` wrote last: the one that ``submissions/latest`` names.

        The pointer is a text file with a name, since links need rights on Windows and are not kept in Kaggle's archives. In
        workspaces without one it is the newest submission that has a record.

        Raises:
            MissingFileError: there is none.
        """
        with contextlib.suppress(OSError, ValueError, ConfigError):
            named = self.submission_path(files.read_bytes(self.submissions_dir / LATEST, most=1000).decode().strip())
            if named.is_file():
                return named
        recorded = [path for path in self.submissions_dir.glob("*.csv") if path.with_suffix(".json").is_file()]
        if not recorded:
            raise MissingFileError(f"no submission in {self.submissions_dir}. Run `kk blend` first.")
        return max(recorded, key=lambda path: (path.stat().st_mtime_ns, path.name))


def open_workspace(root: Path | str = ".") -> Workspace:
    """Return the workspace at ``root``.

    Raises:
        MissingFileError: ``root`` has no ``kk.yaml``.
    """
    workspace = Workspace(Path(root))
    if not workspace.config_path.is_file():
        raise MissingFileError(
            f"no {CONFIG_NAME} in {workspace.root.resolve()}. Run `kk init DATA_DIR` there first, or go to your workspace."
        )
    return workspace


def plain_name(name: str, kind: str) -> str:
    """Return ``name`` if it can name a file anywhere: letters, digits, ``.``, ``_`` and ``-``, with no dot in front.

    Args:
        kind: what it names, for the message: "run".

    Raises:
        ConfigError: it cannot.
    """
    if not _PLAIN.fullmatch(name) or len(name.encode(errors="replace")) > _LONGEST:
        raise ConfigError(
            f"{kind} name must be a plain file name, of letters, digits, . _ and -, at most {_LONGEST} of them and without "
            f"a leading dot, got {shortened(name)}."
        )
    return name


def _plain_path(folder: Path, name: str, kind: str, suffix: str = "") -> Path:
    """The path of what is called ``name``; what is there already may have any name that stays in its folder."""
    inside = bool(name) and name == Path(name).name and not name.startswith(".") and "\0" not in name
    if inside and len(name.encode(errors="replace")) <= _LONGEST and (folder / f"{name}{suffix}").exists():
        return folder / f"{name}{suffix}"
    return folder / f"{plain_name(name, kind)}{suffix}"
