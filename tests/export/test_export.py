"""What ``kk export`` writes says what ``kk predict`` says, in every format, and is not written otherwise."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from handmade_run import CLASSES, make_world, save_fresh, write_image
from PIL import Image

from kaggle_kit import files, runs
from kaggle_kit.choices import EXPORTS
from kaggle_kit.errors import ConfigError, DataError, ExportError
from kaggle_kit.export import ExportOptions, distil, export_distilled, export_models, members, standalone
from kaggle_kit.export import run as exporting
from kaggle_kit.export.formats import Format
from kaggle_kit.images.decode import decode_image
from kaggle_kit.images.transforms import ImageSpec, eval_transform, prepare
from kaggle_kit.inference.folder import find_models, predict_folder
from kaggle_kit.inference.predict import Compute
from kaggle_kit.project_parts import student_and_teacher
from kaggle_kit.runs import BlendedRun, BlendRecord, BlendScores, write_blend_record
from kaggle_kit.runs.provenance import seen_by
from kaggle_kit.runs.scored import scored_run

COMPUTE = Compute(engine="torch", device="cpu", workers=0)


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path)


def need(format: str) -> None:
    for package in exporting._NEEDS.get(format, ((), ""))[0]:
        pytest.importorskip(package)


def how_of(folder: Path) -> list[dict]:
    return json.loads((folder / "preprocessing.json").read_text())["models"]


def said_by(folder: Path, format: str, images: Path) -> np.ndarray:
    """What the files of an export say of a folder of images, from nothing but what the folder states."""
    found = 0.0
    for how in how_of(folder):
        compute = EXPORTS[format].read(folder / how["file"])
        seen = [standalone.read(path, how) for path in sorted(images.iterdir())]
        batch = np.stack(seen)
        if not how["inside"]:
            batch = ((batch / 255 - how["mean"]) / how["std"]).transpose(0, 3, 1, 2).astype(np.float32)
        parts = [compute(batch[:1]), compute(batch[1:])]  # of any length
        found = found + how["weight"] * np.concatenate(parts)
    return found


@pytest.mark.parametrize("format", EXPORTS)
@pytest.mark.parametrize("inside", [True, False])
def test_every_format_says_what_kk_predict_says(world, tmp_path, format, inside):
    need(format)
    result = export_models(world.setup, "r", ExportOptions(tmp_path / "out", format, inside))
    images = world.competition.test[0].path.parent
    expected = predict_folder(find_models(world.workspace.run_dir("r")), images, compute=COMPUTE)
    assert np.abs(said_by(tmp_path / "out", format, images) - expected.probs).max() < 2e-3  # PNG, resized by predict.py
    assert 0 <= result.agreement.furthest < 1e-4
    assert result.agreement.rows > 20
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert record["agreement"]["furthest"] == result.agreement.furthest
    assert record["models"][0]["folds"] == {str(fold): files.file_fingerprint(world.fold(fold) / runs.MODEL) for fold in (0, 1)}
    classes = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert tuple(classes["classes"]) == CLASSES.names
    assert (tmp_path / "out" / "predict.py").exists() == (format == "onnx")


def test_the_folder_is_whole_and_says_what_it_is(world, tmp_path):
    out = tmp_path / "out"
    result = export_models(world.setup, "r", ExportOptions(out))
    lines = (out / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert set(sums) == {path.name for path in out.iterdir()} - {"SHA256SUMS"}
    assert all(hashlib.sha256((out / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())
    card = (out / "README.md").read_text()
    assert "| ä b | 10 |" in card
    assert f"at most {result.agreement.furthest:.1g}" in card
    assert "accuracy" in card
    assert result.models["licence"].tolist() == ["apache-2.0"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out-building")]


def test_a_model_that_says_something_else_is_refused_and_leaves_nothing(world, tmp_path, monkeypatch):
    form: Format = EXPORTS["torchscript"]

    def mixed_up(path):
        compute = form.read(path)
        return lambda images: compute(images)[:, ::-1]

    monkeypatch.setitem(EXPORTS._entries, "torchscript", replace_value(EXPORTS, replace(form, read=mixed_up)))
    with pytest.raises(ExportError, match=r"differs by 0\.\d+.*Nothing was kept"):
        export_models(world.setup, "r", ExportOptions(tmp_path / "out", "torchscript"))
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out-building*"))


def replace_value(registry, value):
    from kaggle_kit.registry import Entry

    return Entry("torchscript", registry.helps["torchscript"], value)


def test_what_a_format_cannot_write_is_said_in_a_sentence(world, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("no such operator\nand much more")

    form: Format = EXPORTS["torchscript"]
    monkeypatch.setitem(EXPORTS._entries, "torchscript", replace_value(EXPORTS, replace(form, write=fail)))
    with pytest.raises(ExportError, match=r"no such operator.*--format") as raised:
        export_models(world.setup, "r", ExportOptions(tmp_path / "out", "torchscript"))
    assert "\n" not in str(raised.value)


def test_the_script_runs_without_torch_and_names_what_kk_predict_names(world, tmp_path):
    pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    export_models(world.setup, "r", ExportOptions(out))
    images = tmp_path / "new"
    paths = [write_image(images / f"{number}.png", 50 + number, size=(90 + 40 * number, 70)) for number in range(4)]
    expected = predict_folder(find_models(world.workspace.run_dir("r")), images, compute=COMPUTE)
    hidden = "; ".join(f"sys.modules[{name!r}] = None" for name in ("torch", "kaggle_kit", "cv2", "timm", "pandas"))
    code = f"import runpy, sys; {hidden}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, str(out / "predict.py"), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == list(map(str, paths))
    assert [line[1] for line in lines] == expected.classes.top(expected.probs)
    assert np.abs(np.array([float(line[2]) for line in lines]) - expected.probs.max(axis=1)).max() < 1e-3


def spec_entry(spec: ImageSpec) -> dict:
    return {
        "size": spec.size, "prepare": spec.prepare_size, "resize": spec.resize_size, "fit": spec.fit,
        "interpolation": spec.interpolation, "fill": spec.fill,
    }  # fmt: skip


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(300, 211), (20, 25), (90, 30), (33, 47)])
def test_the_script_sees_the_pixels_that_the_models_were_trained_on(tmp_path, fit, interpolation, size):
    spec = ImageSpec(40, 48, interpolation=interpolation, fit=fit, crop_pct=0.9)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    expected = eval_transform(spec)(prepare(decode_image(tmp_path / "a.png"), spec.prepare_size))
    found = standalone.read(tmp_path / "a.png", spec_entry(spec))
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert difference.max() <= 1  # OpenCV's fixed point rounds otherwise now and then
    assert difference.mean() < 0.2


@pytest.mark.parametrize("kind", ["turned", "transparent", "grey", "large"])
def test_the_script_reads_files_as_the_one_decoder_does(tmp_path, kind):
    rng = np.random.default_rng(1)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    image, path, options = small.resize((80, 60), Image.Resampling.BICUBIC), tmp_path / "a.jpg", {"quality": 95}
    if kind == "turned":
        exif = Image.Exif()
        exif[274] = 6
        options["exif"] = exif
    elif kind == "transparent":
        image, path, options = image.copy(), tmp_path / "a.png", {}
        image.putalpha(Image.fromarray(rng.integers(0, 256, (60, 80), dtype=np.uint8)))
    elif kind == "grey":
        image = image.convert("L")
    else:
        image = small.resize((900, 700), Image.Resampling.BICUBIC)  # read at an eighth of its size
    image.save(path, **options)
    spec = ImageSpec(40, 40)
    expected = eval_transform(spec)(prepare(decode_image(path, min_size=spec.prepare_size), spec.prepare_size))
    difference = np.abs(standalone.read(path, spec_entry(spec)).astype(int) - expected.astype(int))
    assert difference.max() <= 2


def add_run(world, name: str) -> None:
    """A second run like the first, with other models."""
    source, target = world.workspace.run_dir("r"), world.workspace.run_dir(name)
    files.write_json(target / runs.RUN_RECORD, {**json.loads((source / runs.RUN_RECORD).read_text()), "name": name})
    for fold in (0, 1):
        about = {"competition": "c", "run": name, "fold": fold, "folds_fingerprint": world.folds.fingerprint}
        path = target / f"fold{fold}"
        loaded = save_fresh(path / runs.MODEL, seed=7 + fold, size=(40, 40), task=world.competition.task, **about)
        files.write_bytes(path / runs.OOF, (world.fold(fold) / runs.OOF).read_bytes())
        files.write_json(path / runs.FOLD_RECORD, {"state": "finished", "model_fingerprint": loaded.fingerprint})


def add_blend(world, method: str, parameters: dict, **more) -> None:
    names = ("r", "s")
    models = {name: {f.fold: f.record.model_fingerprint for f in runs.read_run(world.workspace, name).folds} for name in names}
    path = world.workspace.submission_path("b")
    blend = {"method": method, "n_runs": 2, "n_classes": 3, "multilabel": False, "parameters": parameters}
    entries = tuple(BlendedRun(name, models=models[name]) for name in names)
    record = BlendRecord(
        name="b", folds="folds", folds_fingerprint=world.folds.fingerprint, runs=entries, method=method, blend=blend,
        scores=BlendScores("accuracy", 1.0, 1.0, 30), **more,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("id,label\n")
    write_blend_record(path, record)
    files.write_bytes(path.with_suffix(".oof.parquet"), (world.fold(0) / runs.OOF).read_bytes())


def test_a_blend_is_a_file_for_each_run_with_its_weight(world, tmp_path):
    add_run(world, "s")
    add_blend(world, "weights", {"weights": [3.0, 1.0]}, views="hflip")
    result = export_models(world.setup, "b", ExportOptions(tmp_path / "out", "torchscript"))
    assert [(how["file"], how["weight"], how["size"]) for how in how_of(tmp_path / "out")] == [
        ("model-1.pt", 0.75, [32, 32]),
        ("model-2.pt", 0.25, [40, 40]),
    ]
    assert any("views hflip" in note for note in result.notes)
    images = world.competition.test[0].path.parent
    parts = [predict_folder(find_models(world.workspace.run_dir(name)), images, compute=COMPUTE).probs for name in ("r", "s")]
    found = said_by(tmp_path / "out", "torchscript", images)
    assert np.abs(found - (0.75 * parts[0] + 0.25 * parts[1])).max() < 2e-3


@pytest.mark.parametrize(
    ("method", "parameters"),
    [("gmean", {}), ("rank", {}), ("auto", {"chosen": "power", "exponent": 2.0}), ("mean", {"open_column": 0})],
)
def test_a_blend_that_is_no_weighted_mean_is_refused(world, tmp_path, method, parameters):
    add_run(world, "s")
    add_blend(world, method, parameters)
    with pytest.raises(ConfigError, match=r"no weighted mean.*mean or weights or"):
        export_models(world.setup, "b", ExportOptions(tmp_path / "out", "torchscript"))


def test_a_run_that_was_trained_on_since_is_no_longer_the_blend(world, tmp_path):
    add_run(world, "s")
    add_blend(world, "mean", {})
    record = json.loads((world.fold(1) / runs.FOLD_RECORD).read_text())
    files.write_json(world.fold(1) / runs.FOLD_RECORD, {**record, "model_fingerprint": "0" * 64})
    with pytest.raises(DataError, match="blend"):
        export_models(world.setup, "b", ExportOptions(tmp_path / "out", "torchscript"))


def test_several_labels_travel_with_their_thresholds(tmp_path):
    world = make_world(tmp_path, task="multilabel")
    result = export_models(world.setup, "r", ExportOptions(tmp_path / "out", "torchscript"))
    assert result.agreement.furthest < 1e-4
    about = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert (about["task"], about["thresholds"]) == ("multilabel", [0.5, 0.5, 0.5])


def test_an_earlier_export_is_replaced_and_nothing_else(world, tmp_path):
    out, options = tmp_path / "out", ExportOptions(tmp_path / "out", "torchscript")
    export_models(world.setup, "r", options)
    (out / "stray").write_text("")
    export_models(world.setup, "r", options)
    assert not (out / "stray").exists()
    (out / "export.json").unlink()
    with pytest.raises(ConfigError, match=r"holds .*--to"):
        export_models(world.setup, "r", options)
    assert (out / "model.pt").exists()


def test_models_keep_their_weights_and_mode(world, tmp_path, monkeypatch):
    """ONNX's exporter puts the model back into the mode that the outermost module was in."""
    pytest.importorskip("onnx")
    kept = []
    monkeypatch.setattr(members, "load_model", lambda path, load=members.load_model: kept.append(load(path)) or kept[-1])
    export_models(world.setup, "r", ExportOptions(tmp_path / "out"))
    assert kept
    for loaded in kept:
        assert not any(module.training for module in loaded.model.modules())
        again = save_fresh(tmp_path / "x.safetensors", seed=kept.index(loaded))
        mine, theirs = loaded.model.state_dict(), again.model.state_dict()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


STUDENT = ("model=test_resnet", "pretrained=false", "epochs=1", "image_size=32", "hardware.accelerator=cpu")


def distilled(world, out: Path, *entries: str):
    lesson = student_and_teacher(world.setup, "r", [*STUDENT, *entries], distil=True)
    return export_distilled(*lesson, ExportOptions(out, "torchscript"))


def test_the_folds_of_a_run_are_distilled_into_one_model_that_is_scored_beside_them(world, tmp_path):
    result = distilled(world, tmp_path / "out")
    student = runs.read_run(world.workspace, result.name)
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert record["models"][0]["folds"] == {"full": student.full.record.model_fingerprint}
    images = world.competition.test[0].path.parent
    alone = predict_folder(find_models(student.full.path), images, compute=COMPUTE)
    assert np.abs(said_by(tmp_path / "out", "torchscript", images) - alone.probs).max() < 2e-3
    scored, teacher = (scored_run(world.workspace, run) for run in (student, world.run))
    assert (result.distilled.score, result.distilled.teacher_score) == (scored.score, teacher.score)
    assert result.distilled.fold_scores == {fold: (scored.fold_scores[fold], teacher.fold_scores[fold]) for fold in (0, 1)}
    assert result.distilled.text in result.describe()
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| 1 | {scored.fold_scores[1]:.4f} | {teacher.fold_scores[1]:.4f} |" in card
    assert "the 2 models of run r" in card


def test_no_fold_of_a_distilled_run_has_heard_of_rows_that_it_is_scored_on(world, tmp_path):
    student = runs.read_run(world.workspace, distilled(world, tmp_path / "out").name)
    seen = {fold.fold: {(one.run, one.fold) for one in seen_by(fold.path / runs.MODEL)} for fold in student.finished_models()}
    assert seen == {fold: {("r", fold), (student.name, fold)} for fold in (0, 1)} | {
        -1: {("r", 0), ("r", 1), (student.name, -1)}
    }


def test_distilling_goes_on_where_it_was_killed_and_trains_nothing_twice(world, tmp_path, monkeypatch):
    def interrupted(setup, options, train=distil.train_run, **more):
        if options.fold == "full":
            raise KeyboardInterrupt
        return train(setup, options, **more)

    monkeypatch.setattr(distil, "train_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        distilled(world, tmp_path / "out")
    (student,) = set(runs.list_runs(world.workspace)) - {"r"}
    before = [path.stat().st_mtime_ns for path in sorted(world.workspace.run_dir(student).glob("fold*/model.safetensors"))]
    assert len(before) == 2
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    first = distilled(world, tmp_path / "out")
    again = distilled(world, tmp_path / "out")
    after = [path.stat().st_mtime_ns for path in sorted(world.workspace.run_dir(student).glob("fold*/model.safetensors"))]
    assert (first.name, before) == (student, after)
    assert again == replace(first, models=again.models)
    assert distilled(world, tmp_path / "out", "teacher.mix=0.9").name != student


def test_what_cannot_be_distilled_is_said_before_anything_is_trained(world, tmp_path):
    with pytest.raises(ConfigError, match="--distil needs the name"):
        student_and_teacher(world.setup, None, [], distil=True)
    with pytest.raises(ConfigError, match=r"epochs=3: entries are for --distil"):
        student_and_teacher(world.setup, "r", ["epochs=3"], distil=False)
    with pytest.raises(DataError, match=r"no run 'b'"):
        student_and_teacher(world.setup, "b", [], distil=True)
    with pytest.raises(ConfigError, match=r"timm has no model"):
        student_and_teacher(world.setup, "r", ["model=resnett18"], distil=True)
    write_image(tmp_path / "out" / "holiday.png", 0)
    with pytest.raises(ConfigError, match=r"holds holiday\.png; choose another folder with --to"):
        distilled(world, tmp_path / "out")
    world.competition = replace(world.competition, open_class="2")  # no run of such a competition can be exported
    with pytest.raises(ConfigError, match="from a blend"):
        distilled(world, tmp_path / "new")
    assert runs.list_runs(world.workspace) == ["r"]
