from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
from blended_case import Blended

from kaggle_kit.competition import IMAGE_SUFFIXES


def status(case: Blended, name: str) -> tuple[str, str]:
    line = case.line(name)
    return line.status, line.evidence


@pytest.mark.parametrize("form", ["label", "index", "labels", "probability", "positive"])
def test_a_sound_submission_passes(blended: Callable[..., Blended], form: str) -> None:
    report = blended(form=form, n_classes=2 if form == "positive" else 4).check()
    assert [check.status for check in report.checks if check.name.startswith("form")] == ["passed"] * 6


def test_no_sample_submission_is_no_fault(blended: Callable[..., Blended]) -> None:
    case = blended(sample=False)
    assert status(case, "form: columns")[0] == status(case, "form: ids")[0] == "passed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"\xef\xbb\xbf" + data, "byte-order mark"),
        (lambda data: data.decode().encode("utf-16"), "not UTF-8"),
        (lambda data: data[: data.rindex(b",")], "header's 2 cells"),
        (lambda data: data.splitlines(keepends=True)[0], "a header and no rows"),
        (lambda data: b"", "is empty"),
    ],
)
def test_the_file(blended: Callable[..., Blended], change: Callable[[bytes], bytes], message: str) -> None:
    case = blended()
    case.path.write_bytes(change(case.path.read_bytes()))
    assert status(case, "form: file")[0] == "failed"
    assert message in status(case, "form: file")[1]


def test_columns_must_be_the_samples(blended: Callable[..., Blended]) -> None:
    case = blended(form="probability", n_classes=4)
    frame = case.frame()
    sound = frame.columns.tolist()
    case.write(frame[[sound[0], *sound[:0:-1]]])
    assert "the order differs" in status(case, "form: columns")[1]
    case.write(frame.drop(columns=sound[2]).assign(extra="0"))
    assert f"lacks '{sound[2]}'; has besides 'extra'" in status(case, "form: columns")[1]


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        (lambda row_id: row_id.removesuffix(".png"), "they differ by extension: wanted 'test_00000.png', found 'test_00000'"),
        (lambda row_id: f"test/{row_id}", "they differ by folder"),
        (str.upper, "are not in it (TEST_00000.PNG"),
    ],
)
def test_ids_must_be_spelt_as_in_the_sample(
    blended: Callable[..., Blended], rename: Callable[[str], str], message: str
) -> None:
    case = blended()
    case.write(case.frame().assign(id=lambda frame: frame["id"].map(rename)))
    assert status(case, "form: ids")[0] == "failed"
    assert message in status(case, "form: ids")[1]


def test_ids_missing_extra_and_twice(blended: Callable[..., Blended]) -> None:
    case = blended()
    frame = case.frame()
    case.write(frame.iloc[3:])
    assert "3 ids of the sample submission are missing (test_00000.png" in status(case, "form: ids")[1]
    case.write(pd.concat([frame, frame.tail(2)]))
    assert "2 ids stand more than once: test_00038.png" in status(case, "form: ids")[1]


def test_row_order_does_not_matter(blended: Callable[..., Blended]) -> None:
    case = blended()
    case.write(case.frame().sample(frac=1, random_state=0))
    assert case.check().passed


def test_a_stale_sample_shows_against_the_images(blended: Callable[..., Blended]) -> None:
    case = blended()
    folder = case.workspace.root / "data" / "test_images"
    (folder / "test_00000.png").rename(folder / "new.png")
    line = case.line("form: test images")
    assert line.status == "failed"
    assert "1 have no row (new); 1 rows have no image (test_00000)" in line.evidence


def test_images_that_are_elsewhere_are_no_verdict(blended: Callable[..., Blended]) -> None:
    case = blended()
    (case.workspace.root / "data" / "test_images").rename(case.workspace.root / "moved")
    assert status(case, "form: test images")[0] == "inconclusive"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("nan", "NaN or infinite: row 2"),
        ("-inf", "NaN or infinite"),
        ("1.5", "from "),
        ("", "no numbers: ''"),
        ("0", "do not sum to 1"),
    ],
)
def test_values_of_probabilities(blended: Callable[..., Blended], cell: str, message: str) -> None:
    case = blended(form="probability", n_classes=4)
    frame = case.frame()
    column = frame.columns[1]
    frame.loc[0, column] = cell if cell != "0" else str(float(frame.loc[0, column]) / 2 + 0.4)
    case.write(frame)
    failed = [check for check in case.check().failed if check.name.startswith("form")]
    assert any(message in check.evidence for check in failed)


@pytest.mark.parametrize(
    ("cell", "message"), [("", "1 empty cells in 'label', rows 2"), ("class 77", "none of the 4 classes: 'class 77'")]
)
def test_values_of_labels(blended: Callable[..., Blended], cell: str, message: str) -> None:
    case = blended(n_classes=4)
    frame = case.frame()
    frame.loc[0, "label"] = cell
    case.write(frame)
    assert any(message in check.evidence for check in case.check().failed)


def test_everything_one_class_and_everything_the_same(blended: Callable[..., Blended]) -> None:
    case = blended(n_classes=4)
    case.write(case.frame().assign(label="class 1"))
    assert status(case, "form: spread") == ("warning", "every row's most probable class is 'class 1'")
    case = blended(form="probability", n_classes=4)
    frame = case.frame()
    frame[frame.columns[1:]] = "0.25"
    case.write(frame)
    assert status(case, "form: spread") == ("warning", "all 40 rows say the same")


def test_a_constant_column_is_named(blended: Callable[..., Blended]) -> None:
    case = blended(form="probability", n_classes=4, task="multilabel", metric="roc_auc_columns")
    case.write(case.frame().assign(**{"class 2": "0.1"}))
    assert status(case, "form: spread") == ("warning", "constant columns: class 2")


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_suffix_of_an_image_counts(blended: Callable[..., Blended], suffix: str) -> None:
    case = blended(n_test=8)
    for image in (case.workspace.root / "data" / "test_images").iterdir():
        image.rename(image.with_suffix(suffix))
    assert status(case, "form: test images")[0] == "passed"
