import json

import pytest

from kaggle_kit import files, runs
from kaggle_kit.check.report import FAILED, INCONCLUSIVE, PASSED
from kaggle_kit.tables import Predictions, read_predictions

PARTS = ("contents: test images", "contents: training images")


@pytest.mark.parametrize(("folder", "name"), [("test_images", PARTS[0]), ("train_images", PARTS[1])])
def test_exchanged_images_fail_and_are_named(folder, name, blended):
    """The pixels of two images exchanged under their names: ids, labels and counts stay as they were."""
    case = blended()
    assert {part: case.line(part).status for part in PARTS} == dict.fromkeys(PARTS, PASSED)
    one, other = sorted((case.workspace.root / "data" / folder).iterdir())[3:5]
    pixels = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(pixels)
    line = case.line(name)
    assert line.status == FAILED
    assert one.stem in line.evidence
    assert other.stem in line.evidence
    assert "contents of 2 of" in line.evidence
    assert [check.name for check in case.check().failed] == [name]


def test_records_that_say_nothing_of_contents_are_inconclusive(blended):
    case = blended()
    for fold in range(3):
        path = case.workspace.fold_dir("run0", fold)
        record = json.loads((path / runs.FOLD_RECORD).read_text())
        files.write_json(path / runs.FOLD_RECORD, {key: value for key, value in record.items() if key != "contents"})
        held = read_predictions(path / runs.TEST)
        meta = {key: value for key, value in held.meta.items() if key != "contents"}
        Predictions(held.ids, held.probs, held.classes, meta).write(path / runs.TEST)
    assert {part: case.line(part).status for part in PARTS} == dict.fromkeys(PARTS, INCONCLUSIVE)
    assert case.check().passed
