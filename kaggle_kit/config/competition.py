"""The section ``competition`` of kk.yaml: what the data looks like. ``kk init`` writes it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from kaggle_kit.choices import CONTAINERS, FORMS, LAYOUTS
from kaggle_kit.config.fields import Count, OneOf, Positive, Section, Share, When, described, one_of
from kaggle_kit.metrics import METRICS, require_metric

_FOLDERS = When("layout", "folders")
_CSV = When("layout", "csv", "coco")
_NAMES = When("layout", "names")
_LABELS = When("form", "labels", "ranked", "long")


class ContainerConfig(Section):
    """A file that holds images, and is unpacked into the workspace."""

    path: str = described("the file, relative to data_dir; of DICOM files their folder")
    kind: Annotated[str, one_of(CONTAINERS)] = described("what it is")
    to: str = described("the folder that its images become, as if it lay in data_dir")
    options: dict[str, Any] = Field({}, description="the shape of its images, and the range of their values")


class ChannelsConfig(Section):
    """The channels of images that are no colours, in the order of their files."""

    names: list[str] = Field(min_length=2, max_length=64, description="what they are called")
    mean: list[Share] = described("mean of each, of values 0 to 1; networks see values less this, divided by std")
    std: list[Positive] = described("standard deviation of each")

    @model_validator(mode="after")
    def _of_one_length(self) -> ChannelsConfig:
        if not len(self.names) == len(self.mean) == len(self.std):
            raise ValueError(f"names, mean and std must be as many, got {len(self.names)}, {len(self.mean)}, {len(self.std)}")
        if len(self.names) == 3:
            raise ValueError("three channels are read as red, green and blue; leave channels null")
        return self


class TrainDataConfig(Section):
    """Where the training images and labels are. Paths are relative to ``data_dir``."""

    layout: Annotated[str, one_of(LAYOUTS)] = described("where labels come from")
    dirs: list[str] = described("the folders that hold a folder per class, or with a csv the images")
    class_level: Annotated[Literal["first", "last", "path"], _FOLDERS] = Field(
        "first", description="of nested folders the first below dirs, the last, or the whole path names the class"
    )
    val_dirs: Annotated[list[str], _FOLDERS] = Field(
        [], description="those of dirs that are validated on, as fold 0 of `kk folds --scheme column`"
    )
    pattern: Annotated[str | None, _NAMES] = Field(None, description="how file names tell labels: {label}.{number}")
    csv: Annotated[str | None, _CSV] = Field(None, description="the table with the labels")
    val_csv: Annotated[str | None, _CSV] = Field(
        None, description="a second table with the same columns, whose rows are validated on as fold 0 of scheme column"
    )
    image_column: Annotated[str | None, _CSV] = Field(
        None, description="names the images; with or without folder and extension"
    )
    id_columns: Annotated[list[str], _CSV] = Field(
        [], description="the columns whose cells, joined by _, are the ids, where an id has several images"
    )
    label_columns: Annotated[list[str], _CSV] = Field([], description="one column of labels, or one 0/1 column per class")
    class_separator: Annotated[str | None, _CSV] = Field(
        None, description="stands between id and class where the table has a row for each; null: it has a row an image"
    )
    label_separator: Annotated[str | None, _CSV] = Field(None, description="stands between several labels in one cell")
    group_column: Annotated[str | None, _CSV] = Field(None, description="rows of one group stay in one fold")
    group_pattern: str | None = Field(
        None, description="an expression of which the first part in brackets, found in an id, names its group: `([^_]+)_`"
    )
    fold_column: Annotated[str | None, _CSV] = Field(None, description="the folds of `kk folds --scheme column`")
    train_only_dirs: list[str] = Field([], description="folders of extra images, trained on but never validated on")
    train_only_column: Annotated[str | None, _CSV] = Field(
        None, description="a 0/1 column; its 1 marks rows that are trained on but never validated on"
    )
    label_map: dict[str, str | None] = Field(
        {}, description="label as it stands in the data -> the label to read instead; null leaves the row out"
    )

    @field_validator("group_pattern")
    @classmethod
    def _expression(cls, value: str | None) -> str | None:
        try:
            if value is not None and re.compile(value).groups < 1:
                raise ValueError(f"group_pattern needs a part in brackets that names the group, got {value!r}")
        except re.error as error:
            raise ValueError(f"group_pattern {value!r} is no regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _grouped_once(self) -> TrainDataConfig:
        if self.group_column is not None and self.group_pattern is not None:
            raise ValueError("group_column and group_pattern both say which rows belong together; keep one")
        return self


class TestDataConfig(Section):
    """Where the test images are. Without ``csv`` the ids come from the sample submission, or else from the files."""

    __test__ = False

    dirs: list[str] = described("the folders where the test images lie")
    csv: str | None = Field(None, description="lists the test images")
    image_column: str | None = Field(None, description="the column of that csv that names the images")
    id_column: str | None = Field(None, description="its column of ids, where they are not the names of the images")


class SubmissionConfig(Section):
    """The form of ``sample_submission.csv``."""

    sample: str | None = Field(None, description="the sample submission; without one, ids and class names are written")
    id_column: str = Field("id", description="the column of ids")
    form: Annotated[str, one_of(FORMS)] = Field("label", description="what its cells hold")
    columns: dict[str, str] = Field(
        {},
        description="target column, or of the long form the end of an id, -> class; a single column maps to an empty text",
    )
    value_column: Annotated[str | None, When("form", "long")] = Field(None, description="the column of probabilities")
    guesses: Annotated[Count, When("form", "ranked")] = Field(5, description="classes of a cell, the likeliest first")
    indices: Annotated[dict[str, int], When("form", "index")] = Field(
        {}, description="class -> the integer that the grader expects"
    )
    separator: Annotated[str, _LABELS] = Field(" ", description="stands between the labels of a cell, or an id and its class")
    threshold: Annotated[Share, When("form", "labels")] = Field(
        0.5, description="a class is written when its probability reaches this"
    )
    empty_label: Annotated[str | None, When("form", "labels")] = Field(
        None, description="what is written for no label; null: the most probable one"
    )

    @property
    def score_threshold(self) -> float:
        """The probability from which a class counts as named when rows are scored; 0.5 in forms that name none by threshold."""
        return self.threshold if self.form == "labels" else 0.5


class CompetitionConfig(Section):
    """The competition: its data, task, metric and classes."""

    name: str = Field(description="the competition's name", min_length=1, max_length=10_000)
    data_dir: str = described("the competition's files, relative to kk.yaml or absolute")
    containers: list[ContainerConfig] = Field(
        [], description="files that hold images or other files; each is unpacked once into the workspace"
    )
    task: Literal["binary", "multiclass", "multilabel"] = described("how many classes there are, and how many a row has")
    metric: Annotated[str, OneOf(lambda: METRICS, require_metric)] = Field(
        "accuracy", description="how Kaggle scores, or an own function in the workspace as file.py:function"
    )
    classes: list[str] = Field(
        min_length=1,
        description="the order of columns everywhere, of two the positive last; folds and runs are bound to it",
    )
    channels: ChannelsConfig | None = Field(
        None, description="the channels of images that have other than three; null: colours or grey"
    )
    open_class: str | None = Field(
        None, description="a class without an appearance of its own, as new_whale: not trained on, ranked by a threshold"
    )
    train: TrainDataConfig = described("where the training images and labels are")
    test: TestDataConfig | None = Field(None, description="where the test images are; null: there are none")
    submission: SubmissionConfig = Field(SubmissionConfig(), description="the form of the submission")

    @field_validator("classes", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        """YAML reads an unquoted 1, no or 2020-01-01 as something else than the text that names the class."""
        if isinstance(value, list) and any(not isinstance(name, str) for name in value):
            wrong = [repr(name) for name in value if not isinstance(name, str)]
            raise ValueError(f"class names must be quoted text, found {', '.join(wrong[:5])}")
        return value

    @model_validator(mode="after")
    def _fits_task(self) -> CompetitionConfig:
        if self.task == "binary" and len(self.classes) != 2:
            raise ValueError(f"task binary needs 2 classes, got {len(self.classes)}")
        if self.open_class is not None and (self.task != "multiclass" or self.open_class not in self.classes):
            raise ValueError(f"open_class must be one of the classes of a multiclass task, got {self.open_class!r}")
        return self
