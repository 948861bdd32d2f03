"""What the models of a run are called, and where they lie."""

import pytest

from kaggle_kit.fold_names import FULL, fold_folder, fold_folders, fold_name, fold_number, fold_of_folder


@pytest.mark.parametrize("fold", [0, 3, 12, FULL])
def test_names_and_folders_lead_back_to_the_fold(tmp_path, fold):
    assert fold_number(fold_name(fold)) == fold
    assert fold_of_folder(tmp_path / fold_folder(fold)) == fold


def test_the_folders_of_a_run_are_found_in_order_and_nothing_else_is(tmp_path):
    assert fold_folders(tmp_path / "no run") == {}
    for name in ("fold10", "fold2", "full", "fold", "foldx", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "fold3").touch()
    assert list(fold_folders(tmp_path)) == [FULL, 2, 10]
    assert fold_folders(tmp_path)[2] == tmp_path / "fold2"
