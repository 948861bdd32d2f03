import json

import numpy as np
import pytest
from factories import METADATA_KEY, make_workspace
from safetensors.numpy import save_file

from kaggle_kit import runs
from kaggle_kit.blending.blend import blend
from kaggle_kit.check import require_passed
from kaggle_kit.errors import FoldError, SubmissionError
from kaggle_kit.runs.model_header import read_model_record


def test_a_blend_refuses_a_run_that_has_seen_what_it_is_judged_by(tmp_path):
    made = make_workspace(tmp_path, n_runs=2)
    assert blend(made.setup).path is not None
    path = made.workspace.fold_dir("run1", 2) / runs.MODEL
    start = {"competition": made.competition.name, "run": "first", "folds_fingerprint": made.folds.fingerprint}
    for fold, leaks in ((2, False), (0, True)):
        record = {**read_model_record(path), "seen": [{**start, "fold": fold}]}
        save_file({"w": np.zeros(2, np.float32)}, str(path), metadata={METADATA_KEY: json.dumps(record)})
        if leaks:
            with pytest.raises(FoldError, match=r"run run1 cannot be blended; .*fold 0 of run 'first'"):
                blend(made.setup)
        else:
            blend(made.setup)
    assert blend(made.setup, runs=["run0"]).path is not None


def began_from(made, run, pretrained):
    """Make a run one of version 0.1.0 that began from ``pretrained``: its models do not say so."""
    path = made.workspace.run_dir(run) / runs.RUN_RECORD
    record = json.loads(path.read_text())
    record["config"]["model"]["pretrained"] = pretrained
    record.pop("version", None)
    path.write_text(json.dumps(record))


def runs_line(made):
    report = blend(made.setup, runs=["run1"]).report
    return report, next(check for check in report.checks if check.name == "contract: runs")


def test_a_run_of_version_0_1_0_is_judged_by_the_weights_that_its_configuration_names(tmp_path):
    made = make_workspace(tmp_path, n_runs=2)
    began_from(made, "run1", "runs/run0/fold0/model.safetensors")
    with pytest.raises(FoldError, match=r"run run1 cannot be blended; .*fold 0 of run 'run0'"):
        blend(made.setup)
    began_from(made, "run1", "weights/of_timm.safetensors")
    report, line = runs_line(made)
    assert (line.status, report.verdict, report.exit_code) == ("inconclusive", "NOT PROVEN", 3)
    assert report.headline.startswith("NOT PROVEN: nothing independent shows that no model was scored on images that it was tr")
    with pytest.raises(SubmissionError, match="not proven: nothing independent shows that no model was scored on images"):
        require_passed(report.path, root=made.workspace.root)
    assert "began from" in line.evidence
    assert "not here any more" in line.evidence
    began_from(made, "run1", True)
    report, line = runs_line(made)
    assert (line.status, report.verdict) == ("passed", "PASSED")
