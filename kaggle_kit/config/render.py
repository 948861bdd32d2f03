"""The text of a new kk.yaml: every entry explained, every name quoted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import yaml

from kaggle_kit.config import CompetitionConfig, FoldsConfig, RunConfig, SubmissionConfig, TestDataConfig, TrainDataConfig
from kaggle_kit.metrics import METRICS

_WIDE = 2**31


def quote(text: str) -> str:
    """``text`` as a double-quoted YAML scalar on one line, so that yes, 0001 and #x stay text."""
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=_WIDE)).rstrip("\n")


def render(config: CompetitionConfig, folds: FoldsConfig) -> str:
    """The whole file."""
    blocks = [
        "# Written by `kk init`. Paths below data_dir are relative to it. Keep names quoted: YAML reads no as false.",
        "\n".join(_competition(config)),
        _folds(folds),
        _run(RunConfig(), config),
    ]
    return "\n\n".join(blocks) + "\n"


def _competition(config: CompetitionConfig) -> list[str]:
    lines = [
        "competition:",
        f"  name: {quote(config.name)}",
        f"  data_dir: {quote(config.data_dir)}  # relative to this file, or absolute",
        f"  task: {config.task}  # binary, multiclass or multilabel",
        f"  metric: {quote(config.metric)}  # {', '.join(METRICS)}; or module:function",
        "  # The order of columns everywhere; for two classes the positive one is last. Folds and runs are bound to it.",
        "  classes:",
        *_items(config.classes, 4),
        "  train:",
        *_train(config.train),
    ]
    if config.test is not None:
        lines += ["  test:", *_test(config.test)]
    return [*lines, "  submission:", *_submission(config.submission)]


def _train(train: TrainDataConfig) -> list[str]:
    lines = [f"    layout: {train.layout}  # folders: a folder per class; csv: a table with labels"]
    lines += _list("dirs", train.dirs, "where the class folders lie" if train.layout == "folders" else "where the images lie")
    if train.layout == "folders":
        lines.append(
            f"    class_level: {train.class_level}  # of nested folders the first, the last, or the path names the class"
        )
        if train.val_dirs:
            lines += _list("val_dirs", train.val_dirs, "those of dirs that are validated on (scheme column)")
    else:
        lines += [
            *_text("csv", train.csv, ""),
            *_text("val_csv", train.val_csv, "rows that are validated on (scheme column)"),
            *_text("image_column", train.image_column, "the ids; with or without folder and extension"),
            *_list("label_columns", train.label_columns, "one column of labels, or one 0/1 column per class"),
            *_text("label_separator", train.label_separator, "between several labels in one cell"),
            *_text("group_column", train.group_column, "rows of one group stay in one fold"),
            *_text("fold_column", train.fold_column, "for `kk folds --scheme column`"),
            *_text("train_only_column", train.train_only_column, "1: trained on, never validated on"),
        ]
    if train.train_only_dirs:
        lines += _list("train_only_dirs", train.train_only_dirs, "a folder per class: trained on, never validated on")
    if train.label_map:
        lines += ["    # label as it stands in the data -> label to read instead; null leaves the row out", "    label_map:"]
        lines += [f"      {quote(label)}: {'null' if new is None else quote(new)}" for label, new in train.label_map.items()]
    else:
        lines.append('    # label_map: {"old name": "new name", "leave out": null}')
    return lines


def _test(test: TestDataConfig) -> list[str]:
    return [
        *_list("dirs", test.dirs, "where the test images lie"),
        *_text("csv", test.csv, "lists the test images"),
        *_text("image_column", test.image_column, ""),
    ]


def _submission(submission: SubmissionConfig) -> list[str]:
    lines = [
        *_text("sample", submission.sample, "the sample submission"),
        f"    id_column: {quote(submission.id_column)}",
        f"    form: {submission.form}  # label, index, labels, probability or positive",
    ]
    if submission.columns:
        single = submission.form != "probability"
        lines.append(
            f"    columns:  # {'the column of the prediction' if single else 'column: class, in the order of the sample'}"
        )
        lines += _pairs({column: quote(name) for column, name in submission.columns.items()})
    if submission.indices:
        lines += ["    indices:  # class: the integer that the grader expects"]
        lines += _pairs({name: str(index) for name, index in submission.indices.items()})
    if submission.form == "labels":
        lines += [
            f"    separator: {quote(submission.separator)}  # between the labels of a cell",
            f"    threshold: {submission.threshold}  # a class is written when its probability reaches this",
            f"    empty_label: {'null' if submission.empty_label is None else quote(submission.empty_label)}"
            "  # written for no class; null: the most probable class",
        ]
    return lines


def _folds(folds: FoldsConfig) -> str:
    return f"""# Defaults of `kk folds`.
folds:
  scheme: {folds.scheme}  # auto, stratified, group, stratified-group, multilabel, kfold, holdout or column
  n_folds: {folds.n_folds}
  repeats: {folds.repeats}
  seed: {folds.seed}
  duplicates: {quote(folds.duplicates)}  # near, exact or "off": which alike images stay in one fold"""


def _run(run: RunConfig, config: CompetitionConfig) -> str:
    """The settings that are changed most often, at their defaults; all others are entries of the same sections."""
    auto_loss = "binary cross entropy" if config.task == "multilabel" else "cross entropy"
    return f"""# How `kk train` trains; `kk train key=value` changes an entry for one run.
run:
  seed: {run.seed}
  folds: {quote(run.folds)}  # folds/<name>.csv
  ema: {run.ema}  # decay of the averaged weights, e.g. 0.999; 0: off
  model:
    name: {quote(run.model.name)}  # any timm model, with or without tag
    pretrained: {json.dumps(run.model.pretrained)}  # true: find weights; false: none; "path": that file
    drop_rate: {run.model.drop_rate}
    drop_path_rate: {run.model.drop_path_rate}
    freeze: {run.model.freeze}  # leading groups of the backbone to freeze; -1: all of it
  data:
    image_size: {json.dumps(run.data.image_size)}  # pixels: side, or [height, width]; null: the model's own
    batch_size: {run.data.batch_size}
    workers: {json.dumps(run.data.workers)}  # loader processes; null: from the CPUs
    sampler: {quote(run.data.sampler)}  # "shuffle", or "weighted" against unequal classes
    bad_images: {run.data.bad_images}  # unreadable training images: stop or skip
  augment:
    preset: {quote(run.augment.preset)}
    mixup: {run.augment.mixup}  # alpha; 0: off
    cutmix: {run.augment.cutmix}  # alpha; 0: off
  optimizer:
    name: {quote(run.optimizer.name)}  # any of timm's
    lr: {run.optimizer.lr}
    head_lr: {json.dumps(run.optimizer.head_lr)}  # null: the same as lr
    weight_decay: {run.optimizer.weight_decay}
    layer_decay: {json.dumps(run.optimizer.layer_decay)}  # e.g. 0.75: lower rates for earlier layers
    accumulate: {run.optimizer.accumulate}  # batches per optimizer step
    clip_norm: {json.dumps(run.optimizer.clip_norm)}
  schedule:
    name: {quote(run.schedule.name)}
    epochs: {run.schedule.epochs}
    warmup_epochs: {run.schedule.warmup_epochs}
  loss:
    name: {quote(run.loss.name)}  # "auto": {auto_loss}
    label_smoothing: {run.loss.label_smoothing}
    class_weights: {json.dumps(run.loss.class_weights)}  # balanced, or a weight per class
  early_stopping:
    patience: {run.early_stopping.patience}  # epochs without a better score; 0: never
  hardware:
    precision: {run.hardware.precision}  # auto, bf16, fp16 or fp32
    devices: {run.hardware.devices}"""


def _text(key: str, value: str | None, comment: str) -> list[str]:
    if value is None:
        return []
    return [f"    {key}: {quote(value)}" + (f"  # {comment}" if comment else "")]


def _list(key: str, values: Sequence[str], comment: str) -> list[str]:
    return [f"    {key}:  # {comment}", *_items(values, 6)]


def _items(values: Sequence[str], indent: int) -> list[str]:
    return [f"{' ' * indent}- {quote(value)}" for value in values]


def _pairs(values: Mapping[str, str]) -> list[str]:
    # "? key" has no limit of length; a plain "key:" must be shorter than 1024 characters.
    return [
        f"      {quote(key)}: {value}" if len(key) < 200 else f"      ? {quote(key)}\n      : {value}"
        for key, value in values.items()
    ]
