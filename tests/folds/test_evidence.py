"""Signs that rows are related: a column or a part of the id in which images that look alike agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kaggle_kit.competition import Competition, ImageRow
from kaggle_kit.config import SubmissionConfig, TrainDataConfig
from kaggle_kit.folds import Duplicates
from kaggle_kit.folds.evidence import with_evidence
from kaggle_kit.tables import Classes

ROWS, GROUPS = 120, 30
OWNER = [f"o{row % GROUPS}" for row in range(ROWS)]
KIND = ["cat" if row % GROUPS < GROUPS // 2 else "dog" for row in range(ROWS)]
PAIRS = [(row, row + GROUPS) for row in range(12)]


def made(root: Path, ids: list[str], **columns: list[str]) -> tuple[Competition, TrainDataConfig]:
    """A competition of ``ids`` whose table has further columns."""
    pd.DataFrame({"image": ids, "label": KIND, **columns}).to_csv(root / "train.csv", index=False)
    rows = tuple(ImageRow(row_id, root / row_id, (kind,)) for row_id, kind in zip(ids, KIND, strict=True))
    train = TrainDataConfig(layout="csv", dirs=["."], csv="train.csv", image_column="image", label_columns=["label"])
    form = SubmissionConfig()
    return Competition("c", "binary", "accuracy", Classes(("cat", "dog")), rows, (), form, None, "f"), train


def alike(ids: list[str], pairs: list[tuple[int, int]]) -> Duplicates:
    return Duplicates("near", tuple(sorted((("train", ids[one]), ("train", ids[other])) for one, other in pairs)))


def warned(root: Path, ids: list[str], pairs: list[tuple[int, int]], **columns: list[str]) -> str:
    competition, train = made(root, ids, **columns)
    found = with_evidence(alike(ids, pairs), competition, root, train)
    assert found is not None
    return " ".join(found.warnings)


IDS = [f"i{row:03}" for row in range(ROWS)]


def test_a_column_in_which_like_images_agree_is_named(tmp_path: Path) -> None:
    colour = [("red", "blue")[row % 2] for row in range(ROWS)]
    text = warned(tmp_path, IDS, PAIRS, maker=OWNER, colour=colour)
    assert "12 of 12 pairs" in text
    assert "group_column: 'maker'" in text
    assert "30 groups" in text


def test_a_part_of_the_id_is_named(tmp_path: Path) -> None:
    ids = [f"{owner}_{row}.jpg" for row, owner in enumerate(OWNER)]
    assert "group_pattern: '([^/_-]+)[_-]" in warned(tmp_path, ids, PAIRS)


def test_what_the_class_explains_is_no_evidence(tmp_path: Path) -> None:
    """Names that go with the class: like images agree in them because they are of one class."""
    breed = [f"{kind}{row % GROUPS % 7}" for row, kind in enumerate(KIND)]
    rng = np.random.default_rng(0)
    cats = [row for row in range(ROWS) if KIND[row] == "cat"]
    pairs = [tuple(map(int, rng.choice(cats, 2, replace=False))) for _ in range(12)]
    assert not warned(tmp_path, IDS, pairs, breed=breed, kind=[f"{kind}s" for kind in KIND])  # type: ignore[arg-type]


@pytest.mark.parametrize("pairs", [[], PAIRS[:4]])
def test_few_pairs_say_nothing(tmp_path: Path, pairs: list[tuple[int, int]]) -> None:
    assert not warned(tmp_path, IDS, pairs, maker=OWNER)


def test_rows_that_are_kept_together_already_say_nothing(tmp_path: Path) -> None:
    competition, train = made(tmp_path, IDS, maker=OWNER)
    rows = tuple(ImageRow(row.id, row.path, row.labels, owner) for row, owner in zip(competition.train, OWNER, strict=True))
    grouped = Competition(**{**{name: getattr(competition, name) for name in competition.__dataclass_fields__}, "train": rows})
    found = with_evidence(alike(IDS, PAIRS), grouped, tmp_path, train)
    assert found is not None
    assert not found.warnings
    assert with_evidence(None, grouped, tmp_path, train) is None
