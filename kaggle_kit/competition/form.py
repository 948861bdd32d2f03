"""From the sample submission to the form wanted: label, index, labels, probability or positive."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kaggle_kit.competition import order
from kaggle_kit.competition.layouts.labels import SEPARATORS, split_cell
from kaggle_kit.competition.questions import Asker
from kaggle_kit.competition.records import TrainReading
from kaggle_kit.competition.sample import Sample, describe
from kaggle_kit.competition.scan import Tree
from kaggle_kit.config import SubmissionConfig
from kaggle_kit.errors import ClassMappingError, DataError
from kaggle_kit.metrics import METRICS, Metric
from kaggle_kit.tables import Classes, shown

_METRICS = {
    "label": "accuracy",
    "index": "accuracy",
    "labels": "f1_macro",
    "ranked": "map_{guesses}",
    "probability": "log_loss",
    "long": "log_loss",
    "positive": "roc_auc",
}
_MEANINGS = {
    "label": "one class name",
    "index": "one integer that stands for a class",
    "labels": "several class names in a cell",
    "ranked": "several guesses, the likeliest first, of which one is right",
    "positive": "the probability of the positive class",
}
_OPEN = re.compile(r"new[_ -]\w+|unknown\w*|unidentified|none[_ -]of.*", re.IGNORECASE)
"""Names of classes that may have no appearance of their own."""
_MOST_PLAUSIBLE = 20
"""Classes that are numbers and more than these are values of a scale."""


@dataclass(frozen=True)
class Goal:
    """What is to be predicted, and in which form."""

    task: str
    classes: list[str]
    submission: SubmissionConfig


def two_classes(asker: Asker, train: TrainReading, sample: Sample | None, metric: Metric | None) -> TrainReading:
    """Make two classes of several where the probability of any but one of them is wanted.

    That is so where the metric is of two classes and the sample submission has one column of numbers.
    """
    names = train.names
    wanted = metric is not None and metric.two_classes and sample is not None and len(sample.targets) == 1
    if not wanted or len(names) <= 2 or train.multilabel:
        asker.given("negative_class")
        return train
    named = metric.name if metric is not None else ""
    text = f"metric {named} is of two classes, and there are {len(names)}. Which is the negative one, against all others?"
    options = {name: f"the probability of any class but {name!r} is wanted" for name in names}
    negative = asker.ask("negative_class", text, options)
    other = f"not {negative}"
    config = train.config.model_copy(update={"label_map": {name: other for name in names if name != negative}})
    asker.find(f"{shown(map(repr, (name for name in names if name != negative)))} become one class {other!r} (label_map).")
    return replace(train, config=config, names=(negative, other))


def infer_goal(
    asker: Asker, data_dir: Path, tree: Tree, train: TrainReading, sample: Sample | None, metric: Metric | None
) -> Goal:
    """Task, order of classes and form of the submission.

    Raises:
        ClassMappingError: the sample submission's columns are not the classes.
        DataError: its cells fit no form.
    """
    task = "multilabel" if train.multilabel else "binary" if len(train.names) == 2 else "multiclass"
    if sample is None:
        form = "labels" if train.multilabel else "label"
        return _positive_last(
            asker, Goal(task, order.usual(train.names), SubmissionConfig.model_validate({"form": form})), metric
        )
    asker.find(f"{describe(sample)}; {len(sample.frame):,} rows.")
    if len(sample.targets) > 1:
        classes, submission = _columns(asker, data_dir, tree, train, sample)
        task = "multilabel" if train.multilabel else "binary" if len(classes) == 2 else "multiclass"
        return Goal(task, classes, submission)
    classes = order.usual(train.names)
    form = _form(asker, train, sample, task, metric)
    fields: dict[str, object] = {
        "sample": sample.file,
        "id_column": sample.id_column,
        "form": form,
        "columns": {sample.targets[0]: ""},
    }
    if form == "index":
        fields["indices"] = _indices(asker, data_dir, tree, train, sample)
    if form in ("labels", "ranked"):
        fields["separator"] = _separator(train, sample)
    if form == "ranked":
        stated = metric.guesses if metric is not None else 0
        fields["guesses"] = min(max(sample.most_guesses, stated), len(classes))
    goal = Goal("multilabel" if form == "labels" else task, classes, SubmissionConfig.model_validate(fields))
    return _positive_last(asker, goal, metric)


def infer_metric(asker: Asker, goal: Goal, metric: Metric | None, *, given: bool = True) -> str:
    """The metric given or known, else the usual one of the form: the data never says how it is scored.

    Args:
        given: whether the user named it, rather than what is known of the competition.

    Raises:
        DataError: it is not defined for the task.
    """
    multilabel = goal.task == "multilabel"
    fitting = [name for name, one in METRICS.items() if _fits(one, goal)]
    if metric is not None:
        if not (metric.multilabel if multilabel else metric.single_label):
            raise DataError(f"metric {metric.name} is not defined for a {goal.task} task; choose one of {', '.join(fitting)}.")
        if given:
            asker.find(f"the metric is {metric.name}, as given.")
        if metric.ordered:
            asker.find(
                f"metric {metric.name} counts how far a class is off: their order is {', '.join(goal.classes[:12])}, that of "
                "`classes` in kk.yaml. Use it: model.head.name=ordinal, or regression with loss=squared_grade, and "
                "`kk blend --method grades`."
            )
        return metric.name
    default = _METRICS[goal.submission.form].format(guesses=goal.submission.guesses)
    if goal.submission.form == "probability" and multilabel:
        hint = " Probability columns of several labels are also scored by mean column-wise ROC AUC (roc_auc_columns)."
    elif goal.submission.form == "probability":
        hint = " Probability columns are also scored by mean column-wise ROC AUC (roc_auc_columns)."
    elif len(goal.classes) > 2 and all(map(order.is_integer, goal.classes)) and len(goal.classes) < _MOST_PLAUSIBLE:
        hint = " If the classes are grades, it is often quadratic kappa (qwk)."
    else:
        hint = ""
    asker.find(
        f"the data does not say how it is scored; {default} is usual for this form. If the competition's page says another, "
        f"set it with --metric ({', '.join(name for name in fitting if name != default)}, or file.py:function).{hint}"
    )
    return default


def infer_open_class(asker: Asker, goal: Goal) -> str | None:
    """A class of all that is none of the others, such as new_whale, if one is chosen or known; such names are pointed out."""
    likely = [name for name in goal.classes if _OPEN.fullmatch(name)] if goal.task == "multiclass" else []
    given = asker.given("open_class")
    proposed = [*likely, *([given] if given in goal.classes and given not in likely else [])]
    if not proposed or len(goal.classes) < 3:
        return None
    options = {"none": "each class has an appearance of its own"}
    options |= {name: f"{name!r} is all that is none of the others: it is ranked by a threshold" for name in proposed}
    text = "is there a class without an appearance of its own, such as that of all unknown animals?"
    chosen = asker.ask("open_class", text, options, default="none")
    return None if chosen == "none" else chosen


def _fits(metric: Metric, goal: Goal) -> bool:
    """Whether a metric is defined for the task."""
    if goal.task == "multilabel":
        return metric.multilabel
    return metric.single_label and (not metric.two_classes or goal.task == "binary")


def _columns(
    asker: Asker, data_dir: Path, tree: Tree, train: TrainReading, sample: Sample
) -> tuple[list[str], SubmissionConfig]:
    """One probability column per class, in the sample's own order."""
    text = [target for target in sample.targets if not all(map(_is_number, sample.frame[target]))]
    if text:
        raise DataError(
            f"{sample.file}: column {shown(map(repr, text))} holds text; beside the id column {sample.id_column!r} expected "
            "one column, or one numeric column per class. Run `kk init` with --choose sample=none, or correct the file."
        )
    columns = _match(train.names, sample.targets)
    if columns is None and all(map(order.is_integer, _stripped(sample.targets))):
        bare = _stripped(sample.targets)
        indices = order.choose_indices(
            asker, train.names, bare, data_dir=data_dir, tables=_others(tree, train, sample), in_table=train.in_table
        )
        by_index = {index: name for name, index in indices.items()}
        if set(by_index) == {int(number) for number in bare}:
            columns = {target: by_index[int(number)] for target, number in zip(sample.targets, bare, strict=True)}
    if columns is None:
        here, there = Classes(train.names), Classes(sample.targets)
        raise ClassMappingError(
            here.difference(there, here="the training data", there=sample.file)
            + " Expected a column for every class; correct one of the two, or set `columns` in kk.yaml by hand after "
            "--choose sample=none."
        )
    classes = list(columns.values())
    empty = [name for name in classes if name not in train.names]
    if empty:
        asker.find(f"{sample.file} has classes without any training image: {shown(map(repr, empty))}.")
    renamed = {column: name for column, name in columns.items() if column != name}
    if renamed:
        asker.find(f"columns are matched to classes: {shown(f'{column!r} is {name!r}' for column, name in renamed.items())}.")
    asker.find("the form wanted is one probability column per class; the classes keep the sample submission's order.")
    if len(classes) == 2 and order.says_no(classes):
        classes = order.usual(classes)
    fields: dict[str, object] = {"sample": sample.file, "id_column": sample.id_column, "columns": columns}
    fields["form"] = "probability" if sample.separator is None else "long"
    if sample.separator is not None:
        fields |= {"separator": sample.separator, "value_column": sample.value_column}
    return classes, SubmissionConfig.model_validate(fields)


def _match(names: Sequence[str], targets: Sequence[str]) -> dict[str, str] | None:
    """Target column -> class: equal names, else equal but for what all columns share, else but for case and blanks."""
    if set(names) <= set(targets):
        return {target: target for target in targets}
    bare = _stripped(targets)
    if set(names) <= set(bare) and len(set(bare)) == len(bare):
        return dict(zip(targets, bare, strict=True))
    loose = {_loosely(name): name for name in names}
    keys = [_loosely(target) for target in targets]
    if len(loose) == len(names) == len(targets) and set(keys) == set(loose):
        return {target: loose[key] for target, key in zip(targets, keys, strict=True)}
    return None


def _stripped(targets: Sequence[str]) -> list[str]:
    """``targets`` without the words that all of them begin and end with, as in class_1, class_2."""
    start = _shared_start(list(targets))
    # To the last separator, else to the first digit: of class_1 and class_10 the prefix is "class_", not "class_1".
    separated = re.match(r".*[\W_]", start)
    start = separated.group() if separated else re.split(r"\d", start)[0]
    rest = [target.removeprefix(start) for target in targets]
    end = _shared_start([target[::-1] for target in rest])[::-1]
    separator = re.search(r"[\W_]", end)
    return [target.removesuffix(end[separator.start() :]) for target in rest] if separator else rest


def _shared_start(texts: Sequence[str]) -> str:
    """The characters that all ``texts`` begin with."""
    low, high = min(texts), max(texts)
    return next((low[:count] for count, (one, two) in enumerate(zip(low, high, strict=False)) if one != two), low)


def _loosely(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _form(asker: Asker, train: TrainReading, sample: Sample, task: str, metric: Metric | None) -> str:
    """The form of a single target column, from its cells and the metric."""
    default, settled = _evident_form(train, sample, task, metric)
    numeric = all(map(_is_number, sample.values))
    allowed = ["labels"] if task == "multilabel" else ["label", "index", *(["positive"] if task == "binary" else [])]
    allowed += [] if task == "multilabel" else ["labels", *(["ranked"] if len(train.names) > 2 else [])]
    if default is None and not numeric:
        allowed.remove("index")
    elif default is None and task == "binary":
        allowed = ["positive", "label"] if set(sample.values) <= set(train.names) else ["positive", "index", "label"]
    elif default is None:
        allowed.remove("labels")
        allowed.sort(key=lambda form: form != "index")  # the likeliest first, so that its own questions are found, too
    example = f"such as {sample.values[0]!r}" if sample.values else "all empty"
    text = (
        f"column {sample.targets[0]!r} of {sample.file} holds cells {example}; the classes are "
        f"{shown(map(repr, train.names))}. What goes there?"
    )
    if default is None and task == "binary":
        text += " A metric says it, too: --metric roc_auc or log_loss wants a probability, --metric accuracy a class."
    reason = f"the form wanted is {_MEANINGS[default]}: {settled}." if default and settled else None
    return asker.ask("form", text, {form: _MEANINGS[form] for form in allowed}, default=default, settled=reason)


def _evident_form(train: TrainReading, sample: Sample, task: str, metric: Metric | None) -> tuple[str | None, str | None]:
    """The default form and why it is certain; no reason where it is only likely, no form where nothing is safe."""
    values, names = set(sample.values), set(train.names)
    numbers = [value for value in values if _is_number(value)]
    if task == "multilabel":
        return _evident_labels(train, sample, numbers)
    if sample.most_guesses > 1 and _holds_guesses(sample, names):
        return "ranked", f"a cell holds up to {sample.most_guesses} classes, and a row of the training data has one"
    if not values:
        return "label", None
    if len(numbers) == len(values):
        return _evident_of_numbers(train, sample, task, metric)
    if values <= names:
        return "label", f"its cells are class names ({shown(map(repr, sample.values))})"
    split = {part for value in values for sign in SEPARATORS.values() for part in split_cell(value, sign)}
    return (None, None) if split & names else ("label", None)


def _evident_of_numbers(train: TrainReading, sample: Sample, task: str, metric: Metric | None) -> tuple[str | None, str | None]:
    """:func:`_evident_form` of cells that are all numbers."""
    values, names = set(sample.values), set(train.names)
    if any(float(value) % 1 for value in values):
        if task == "binary":
            return "positive", f"column {sample.targets[0]!r} holds fractions, and there are two classes"
        raise _fractions(train, sample)
    if task == "binary":
        if metric is not None and metric.needs == "probs":
            return "positive", f"metric {metric.name} scores probabilities"
        constant = len(values) == 1  # it may stand for a class or for a probability, which score differently
        if values <= names and (metric is not None or not constant):
            return "label", f"its cells are class names ({shown(map(repr, sample.values))})"
        return None, None
    if values <= names:
        return "label", f"its cells are class names ({shown(map(repr, sample.values))})"
    if train.config.layout == "coco":
        return "label", "a category is called by its id"
    # The integer 0 where classes are 1..153 may be an index or a placeholder; other names leave only an index.
    return (None, None) if all(map(order.is_integer, names)) else ("index", "integers that are no class names")


def _holds_guesses(sample: Sample, names: Collection[str]) -> bool:
    """Whether cells of several words hold classes, each once."""
    rows = [value.split() for value in sample.values if len(value.split()) > 1 and value not in names]
    known = sum(word in names for row in rows for word in row)
    return bool(rows) and 2 * known >= sum(map(len, rows)) and all(len(row) == len(set(row)) for row in rows)


def _fractions(train: TrainReading, sample: Sample) -> DataError:
    """The error for one column of fractions and more than two classes."""
    target, count = sample.targets[0], len(train.names)
    if all(map(_is_number, train.names)) and count >= _MOST_PLAUSIBLE:
        return DataError(
            f"{sample.file} wants a number ({target!r}, such as {sample.values[0]!r}), and the training data has {count} "
            "different ones: that is a regression, and kaggle_kit classifies images. To predict classes of your own, put them "
            "into a column and use --choose sample=none."
        )
    return DataError(
        f"{sample.file} has one column of fractions ({target!r}), but there are {count} classes. Expected labels, integers or "
        "one column per class. If it is the probability of any class but one, name a metric of two classes (--metric "
        "roc_auc); else correct the file, or use --choose sample=none."
    )


def _evident_labels(train: TrainReading, sample: Sample, numbers: Sequence[str]) -> tuple[str, str]:
    if numbers and not all(map(order.is_integer, train.names)):
        raise DataError(
            f"{sample.file} has integers ({shown(map(repr, numbers))}) for several labels in a cell, and the classes are "
            "names. Translate the labels by `label_map` in kk.yaml after --choose sample=none, or correct the file."
        )
    return "labels", "rows have several labels, and there is one column"


def _indices(asker: Asker, data_dir: Path, tree: Tree, train: TrainReading, sample: Sample) -> dict[str, int]:
    tables = _others(tree, train, sample)
    found = [value for value in sample.values if _is_number(value)]
    return order.choose_indices(asker, train.names, found, data_dir=data_dir, tables=tables, in_table=train.in_table)


def _others(tree: Tree, train: TrainReading, sample: Sample) -> list[str]:
    used = {sample.file, train.config.csv, train.config.val_csv}
    return [table for table in tree.tables if table not in used]


def _separator(train: TrainReading, sample: Sample) -> str:
    """As in the sample's cells; where they hold one name each, as in the training table; else one that no name holds."""
    names = set(train.names)
    for sign in SEPARATORS.values():
        if any(len(parts := split_cell(value, sign)) > 1 and set(parts) <= names for value in sample.values):
            return sign
    plain = [sign for sign in (" ", *SEPARATORS.values()) if not any(sign in name for name in names)]
    return train.config.label_separator or (plain or [" "])[0]


def _positive_last(asker: Asker, goal: Goal, metric: Metric | None) -> Goal:
    """For two classes, put the positive one last; it matters only where its probability is written or scored."""
    if goal.task != "binary":
        return goal
    names = goal.classes
    target = next(iter(goal.submission.columns), "")
    named = [name for name in names if _loosely(name) == _loosely(target)]
    default = named[0] if len(named) == 1 else names[-1]
    against = [name for name in names if {f"not {other}" for other in names} & {name}]
    default = against[0] if len(against) == 1 else default
    certain = len(named) == 1 or len(against) == 1 or order.says_no(names)
    matters = goal.submission.form == "positive" or (metric is not None and metric.needs == "probs")
    settled = f"of the two classes {default!r} is the positive one." if certain or not matters else None
    options = {name: f"{name!r} is what is looked for" for name in names}
    text = "which of the two classes is the positive one?"
    chosen = asker.ask("positive_class", text, options, default=default if settled else None, settled=settled)
    return Goal(goal.task, [*(name for name in names if name != chosen), chosen], goal.submission)


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False
