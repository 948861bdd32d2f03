"""The model card of an export: what it tells apart, how well, made from what, and how it is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_kit import __version__, files
from kaggle_kit.competition import Setup
from kaggle_kit.report.subjects import Subject
from kaggle_kit.report.survey import class_table
from kaggle_kit.tables import shown

if TYPE_CHECKING:
    from kaggle_kit.export.run import ExportResult

_MOST = 50
"""Classes in the table of the data."""
_USE = {
    "onnx": "    pip install numpy pillow onnxruntime\n    python predict.py IMAGE...",
    "openvino": "    model = openvino.Core().compile_model('{file}', 'CPU')\n    probabilities = model(images)[0]",
    "torchscript": "    model = torch.jit.load('{file}')\n    probabilities = model(images)",
    "torch-export": "    model = torch.export.load('{file}').module()\n    probabilities = model(images)",
}


def write_card(path: Path, setup: Setup, subject: Subject, result: ExportResult) -> None:
    """Write ``README.md`` of an export."""
    parts = [_head(setup, result), _use(result), _score(subject, result), _data(setup), _models(result), _verified(result)]
    files.write_text(path, "\n\n".join(parts) + "\n")


def _head(setup: Setup, result: ExportResult) -> str:
    competition = setup.competition
    several = "of which each image may have several" if competition.multilabel else "of which each image has one"
    return (
        f"# {result.name}\n\nClassifies images of {competition.name} into {len(competition.classes)} classes, {several}. "
        f"Exported by kaggle_kit {__version__}.\n\nIt knows these classes only: to an image of something else it gives one "
        "of them, too."
    )


def _use(result: ExportResult) -> str:
    how = _USE[result.format].format(file=result.models["file"][0])
    return (
        f"## Use\n\n{how}\n\nWhat comes out are probabilities, in the order of `classes.json`. `preprocessing.json` says what "
        "each model file takes and its weight in the mean: `inside` true are bytes (batch, height, width, channels), false "
        "float32 (batch, channels, height, width) after (value / 255 - mean) / std. `SHA256SUMS` is for `sha256sum -c`."
    )


def _score(subject: Subject, result: ExportResult) -> str:
    scored, distilled = subject.scored, result.distilled
    name = scored.metric.name
    between = "" if scored.interval is None else f" (95 % interval {scored.interval})"
    table: Mapping[int, tuple[float, ...]]
    if distilled is None:
        what = "The export is the mean of all folds' models, which has no such rows of its own."
        head, table = f"| fold | {name} |\n|---|---|", {fold: (score,) for fold, score in scored.fold_scores.items()}
    else:
        what = (
            f"The export is one model of all images, which has no such rows of its own: it learnt from the labels and from the "
            f"{distilled.models} models of run {distilled.teacher}, which score {distilled.teacher_score:.4f}. Each fold here "
            f"learnt from the model of {distilled.teacher} that had not seen its rows either."
        )
        head, table = f"| fold | {name} | of {distilled.teacher} |\n|---|---|---|", distilled.fold_scores
    rows = [f"| {fold} | {' | '.join(f'{score:.4f}' for score in scores)} |" for fold, scores in table.items()]
    seen = f"{name} {scored.score:.4f}{between} over {len(scored):,} out-of-fold rows, each predicted by models that had not"
    return "\n".join([f"## Score\n\n{seen} seen it. {what}\n", head, *rows])


def _data(setup: Setup) -> str:
    competition = setup.competition
    counts = class_table(competition).set_index("class")["images"]
    listed = [f"| {_cell(name)} | {counts[name]:,} |" for name in list(competition.classes)[:_MOST]]
    more = len(competition.classes) - _MOST
    rest = [f"| and {more:,} more, see classes.json | |"] if more > 0 else []
    head = f"## Data\n\n{len(competition.train):,} training images of {competition.name}.\n"
    return "\n".join([head, "| class | images |", "|---|---|", *listed, *rest])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _models(result: ExportResult) -> str:
    columns = [str(name) for name in result.models]
    rows = ["| " + " | ".join(_cell(str(cell)) for cell in row) + " |" for row in result.models.itertuples(index=False)]
    licences = shown(dict.fromkeys(map(str, result.models["licence"])))
    taught = "" if result.distilled is None else f" Of those of run {result.distilled.teacher}: {result.distilled.licence}."
    return "\n".join(
        [
            f"## Models\n\nLicence of the pretrained weights that they began with: {licences}.{taught}\n",
            f"| {' | '.join(columns)} |",
            "|---" * len(columns) + "|",
            *rows,
        ]
    )


def _verified(result: ExportResult) -> str:
    said = result.agreement
    lines = [
        f"Loaded afresh, the model files say of {said.rows} training images what `kk predict` says: probabilities differ by at "
        f"most {said.furthest:.1g}, by the same pixels."
    ]
    if said.script_furthest is not None:
        lines.append(
            f"`predict.py` decodes and resizes by itself: its probabilities differ by at most {said.script_furthest:.1g}, and "
            f"it names the same class for {said.script_same} of {said.rows}."
        )
    return "\n\n".join(["## Verified", *lines, *(f"Note: {note}." for note in result.notes)])
