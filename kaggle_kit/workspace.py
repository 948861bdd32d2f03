"""Where things lie in a workspace: any folder with a ``kk.yaml``."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from kaggle_kit.errors import ConfigError, MissingFileError

CONFIG_NAME = "kk.yaml"
LATEST = "latest"


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

    def folds_path(self, name: str) -> Path:
        return self.root / "folds" / f"{_plain(name, 'folds')}.csv"

    def run_dir(self, run: str) -> Path:
        return self.runs_dir / _plain(run, "run")

    def fold_dir(self, run: str, fold: int) -> Path:
        return self.run_dir(run) / f"fold{fold}"

    def tune_dir(self, study: str) -> Path:
        return self.root / "tune" / _plain(study, "study")

    @property
    def submissions_dir(self) -> Path:
        return self.root / "submissions"

    def submission_path(self, name: str) -> Path:
        return self.submissions_dir / f"{_plain(name, 'submission')}.csv"

    def latest_submission(self) -> Path:
        """Return the submission that ``kk blend`` wrote last: the one that ``submissions/latest`` names.

        The pointer is a text file with a name, since links need rights on Windows and are not kept in Kaggle's archives. In
        workspaces without one it is the newest submission that has a record.

        Raises:
            MissingFileError: there is none.
        """
        with contextlib.suppress(OSError, ValueError, ConfigError):
            named = self.submission_path((self.submissions_dir / LATEST).read_text(encoding="utf-8").strip())
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


def _plain(name: str, kind: str) -> str:
    """A name becomes a file name, so it must not leave its folder."""
    if not name or name != Path(name).name or name.startswith("."):
        raise ConfigError(f"{kind} name must be a plain file name without folders or a leading dot, got {name!r}.")
    return name
