"""Where things lie in a workspace: any folder with a ``kk.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kaggle_kit.errors import ConfigError, MissingFileError

CONFIG_NAME = "kk.yaml"


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

    def submission_path(self, name: str) -> Path:
        return self.root / "submissions" / f"{_plain(name, 'submission')}.csv"


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
