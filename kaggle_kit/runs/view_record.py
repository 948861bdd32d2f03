"""``runs/<run>/views.json`` as a value: the views that ``kk predict --tta auto`` chose; its one reader and one writer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from kaggle_kit import files
from kaggle_kit.errors import ConfigError, DataError, MissingFileError
from kaggle_kit.fold_names import FULL, fold_of_folder
from kaggle_kit.runs.record import explain

VIEWS_RECORD = "views.json"


@dataclass(frozen=True)
class ViewsRecord:
    """The views of a run.

    Attributes:
        mixes: fold -> the views of its model, chosen without the rows that the fold is validated on.
        pool: what was chosen from.
        inputs: fingerprint of models, rows and images that the choice rests on.
        models: fold -> sha256 of its model.
        metric: what ``before`` and ``after`` are, of the out-of-fold rows without views and with the chosen ones.
        honest: whether no row was viewed in a way that was chosen by it, which a single fold does not allow.
    """

    mixes: dict[int, str]
    pool: tuple[str, ...]
    inputs: str
    models: dict[int, str]
    metric: str
    before: float
    after: float
    honest: bool = True
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def of_all_models(self) -> dict[int, str]:
        """Also of the model of all data, which has no rows to choose views by and takes those that most folds have."""
        texts = list(self.mixes.values())
        return {**self.mixes, FULL: max(texts, key=texts.count)}

    @property
    def name(self) -> str:
        """What prediction files call the views: their text where all folds have the same, else a name of its own."""
        texts = set(self.mixes.values())
        return texts.pop() if len(texts) == 1 else f"auto-{files.fingerprint(sorted(self.mixes.items()))[:8]}"


def read_views(run: Path) -> ViewsRecord:
    """Read the record of the run in folder ``run``.

    Raises:
        ConfigError: there is none, so no views were chosen.
        DataError: it is damaged.
    """
    path = run / VIEWS_RECORD
    try:
        content = files.read_json(path, made_by="kk predict --tta auto")
    except MissingFileError as error:
        raise ConfigError(f"no views were chosen for run {run.name}. Run `kk predict --run {run.name} --tta auto`.") from error
    try:
        return TypeAdapter(ViewsRecord).validate_python(content)
    except ValidationError as error:
        raise DataError(f"{path}: {explain(error)}. Delete it and run `kk predict --tta auto` again.") from error


def write_views(run: Path, record: ViewsRecord) -> None:
    """Write the record of the run in folder ``run``."""
    files.write_json(run / VIEWS_RECORD, asdict(record))


def views_of_model(model: Path) -> str:
    """Return the views that were chosen for a model file in a fold's folder.

    Raises:
        ConfigError: none were, or the file lies in no run.
    """
    folder = model.absolute().parent
    fold, record = fold_of_folder(folder), read_views(folder.parent)
    if fold is None or fold not in record.of_all_models:
        raise ConfigError(f"no views were chosen for {model}. Run `kk predict --tta auto` again.")
    if fold != FULL and record.models.get(fold) != files.file_fingerprint(model):
        raise ConfigError(f"{model} was trained again after its views were chosen. Run `kk predict --tta auto` again.")
    return record.of_all_models[fold]
