"""Configuration: errors that name the key, overrides that change nothing but their entry."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from kaggle_kit import config as cfg
from kaggle_kit.config import ALIASES, Config, RunConfig, Section, build_run_config, changed, derive, load_config, override
from kaggle_kit.errors import ConfigError, MissingFileError

COMPETITION = {
    "name": "zoo",
    "data_dir": "data",
    "task": "multiclass",
    "classes": ["ant", "1", "no"],
    "train": {"layout": "folders", "dirs": ["train"]},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "kk.yaml", {"competition": COMPETITION, "run": {"seed": 3, "schedule": {"epochs": 7}}})


def write(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return path


class TestLoading:
    def test_sections_and_defaults(self, path: Path) -> None:
        config = load_config(path)
        assert config.competition.classes == ["ant", "1", "no"]
        assert (config.run.seed, config.run.schedule.epochs, config.run.schedule.name) == (3, 7, "cosine")
        assert config.folds.n_folds == 5

    def test_overrides_go_to_the_run_and_keep_its_other_entries(self, path: Path) -> None:
        run = load_config(path, ["epochs=2", "model=resnet18", "optimizer.weight_decay=0.01", "image_size=[64, 48]"]).run
        assert (run.schedule.epochs, run.model.name, run.optimizer.weight_decay) == (2, "resnet18", 0.01)
        assert run.data.image_size == (64, 48)
        assert run.seed == 3

    def test_a_run_file_replaces_the_run(self, path: Path, tmp_path: Path) -> None:
        recipe = write(tmp_path / "recipe.yaml", {"model": {"name": "vit_tiny"}})
        run = load_config(path, ["epochs=2"], run_file=recipe).run
        assert (run.model.name, run.schedule.epochs, run.seed) == ("vit_tiny", 2, 0)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match=r"kk\.yaml does not exist. Run `kk init DATA_DIR` first"):
            load_config(tmp_path / "kk.yaml")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"a: [1", "is not valid YAML"),
            (b"\xff\xfe\xfa", "is not valid YAML"),
            (b"- 1\n", "should hold sections such as `competition:`, found list"),
            (b"", "found NoneType"),
        ],
    )
    def test_not_a_configuration(self, tmp_path: Path, content: bytes, message: str) -> None:
        (tmp_path / "kk.yaml").write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            load_config(tmp_path / "kk.yaml")

    def test_no_python_objects_from_yaml(self, tmp_path: Path) -> None:
        (tmp_path / "kk.yaml").write_text("competition: !!python/object/apply:os.getcwd []\n")
        with pytest.raises(ConfigError, match="is not valid YAML"):
            load_config(tmp_path / "kk.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clases": []}, r"unknown key 'competition\.clases'\. Did you mean 'classes'\?"),
        ({"classes": ["a", 1, True]}, r"competition\.classes: class names must be quoted text, found 1, True"),
        ({"classes": []}, r"competition\.classes"),
        ({"task": "binary"}, "task binary needs 2 classes, got 3"),
        ({"task": "regression"}, r"competition\.task: .*'binary', 'multiclass' or 'multilabel'"),
        ({"name": None}, r"competition\.name"),
        ({"train": {"layout": "csv"}}, r"competition\.train\.dirs is missing"),
    ],
)
def test_bad_competition(tmp_path: Path, change: dict, message: str) -> None:
    path = write(tmp_path / "kk.yaml", {"competition": {**COMPETITION, **change}})
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epocs": 5}, "unknown key 'epocs'. Did you mean 'epochs'"),
        ({"epochs": 5}, "unknown key 'epochs'. In a file it is 'schedule.epochs'"),
        ({"optimizer": {"wieght_decay": 1}}, r"unknown key 'optimizer\.wieght_decay'\. Did you mean 'weight_decay'"),
        ({"optimizer": {"lr": -1}}, r"optimizer\.lr: Input should be greater than 0, got -1"),
        ({"data": {"image_size": 4}}, "image_size must be at least 8 pixels, got 4"),
        ({"data": {"image_size": "big"}}, r"data\.image_size: Input should be a valid integer"),
        ({"model": {"pretrained": 3.5}}, r"model\.pretrained: Input should be a valid boolean, got 3.5"),
        ({"data": {"samples_per_epoch": "twice"}}, r"data\.samples_per_epoch: .*got 'twice'"),
        ({"loss": {"class_weights": {"ant": -1}}}, r"loss\.class_weights\.ant: Input should be greater than 0, got -1"),
        ({"model": "resnet18"}, "model: Input should be a valid dictionary"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0, got -1"),
    ],
)
def test_bad_run(content: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_run_config(content, source="recipe.yaml")


def test_every_wrong_key_is_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        build_run_config({"optimizer": {"lr": 0}, "seeed": 1}, source="recipe.yaml")
    assert "optimizer.lr" in str(caught.value)
    assert "Did you mean 'seed'" in str(caught.value)


def test_an_unknown_option_is_explained_from_the_command_line(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"options: unknown key 'epocs'\. Did you mean 'epochs'"):
        load_config(path, ["epocs=5"])


def test_an_option_of_an_inner_section_is_found(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"options: unknown key 'crop_pct'\. Did you mean 'data\.crop_pct'\?"):
        load_config(path, ["crop_pct=1"])


def test_what_is_wrong_in_the_file_is_not_blamed_on_the_options(tmp_path: Path) -> None:
    path = write(tmp_path / "kk.yaml", {"competition": COMPETITION, "run": {"seed": -1}})
    with pytest.raises(ConfigError, match=r"kk\.yaml: run\.seed"):
        load_config(path, ["epochs=5"])


class TestOverride:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("lr=1e-3", 0.001),
            ("lr=0.5", 0.5),
            ("lr=2", 2.0),
        ],
    )
    def test_numbers_as_people_write_them(self, text: str, expected: float) -> None:
        """YAML takes 1e-3 for text."""
        assert derive(RunConfig(), [text]).optimizer.lr == expected

    def test_values_are_yaml(self) -> None:
        assert override({}, ["a.b=[1, x]", "c=null", "d=true", "e=", "g=a=b"]) == {
            "a": {"b": [1, "x"]},
            "c": None,
            "d": True,
            "e": "",
            "g": "a=b",
        }

    def test_the_input_is_left_alone_and_the_last_one_wins(self) -> None:
        content = {"schedule": {"epochs": 1, "name": "step"}}
        assert override(content, ["epochs=2", "epochs=3"]) == {"schedule": {"epochs": 3, "name": "step"}}
        assert content == {"schedule": {"epochs": 1, "name": "step"}}

    @pytest.mark.parametrize("text", ["epochs", "=5", ""])
    def test_without_key_or_value(self, text: str) -> None:
        with pytest.raises(ConfigError, match="expected key=value"):
            override({}, [text])

    def test_not_yaml(self) -> None:
        with pytest.raises(ConfigError, match=r"the value of 'lr' is not YAML: '\[1'"):
            override({}, ["lr=[1"])
        with pytest.raises(ConfigError, match="is not YAML: '2020-99-99'"):
            override({}, ["seed=2020-99-99"])

    def test_below_a_plain_value(self) -> None:
        with pytest.raises(ConfigError, match=r"'seed\.x' cannot be set: 'seed' is 3, not a section"):
            override({"seed": 3}, ["seed.x=1"])


@pytest.mark.parametrize("alias", ALIASES)
def test_every_alias_leads_to_an_entry(alias: str) -> None:
    section: type[Section] = RunConfig
    *sections, leaf = ALIASES[alias].split(".")
    for name in sections:
        annotation = section.model_fields[name].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, Section)
        section = annotation
    assert leaf in section.model_fields


def test_derive_returns_a_new_configuration() -> None:
    base = RunConfig()
    assert derive(base, ["epochs=2"]).schedule.epochs == 2
    assert base.schedule.epochs == RunConfig().schedule.epochs
    with pytest.raises(ConfigError, match="tune"):
        derive(base, ["lr=-1"], source="tune")
    with pytest.raises(ValidationError):
        base.seed = 4


def test_changed_leaves_what_is_none() -> None:
    folds = changed(cfg.FoldsConfig(n_folds=4), {"n_folds": None, "seed": 2})
    assert (folds.n_folds, folds.seed) == (4, 2)
    with pytest.raises(ConfigError, match="n_folds"):
        changed(folds, {"n_folds": 0})


class TestFingerprint:
    def test_changes_with_what_shapes_the_result(self) -> None:
        base = RunConfig().fingerprint
        for text in ("seed=1", "lr=0.5", "model=x", "image_size=64", "augment=none", "ema=0.9"):
            assert derive(RunConfig(), [text]).fingerprint != base, text

    def test_does_not_change_with_hardware(self) -> None:
        base = RunConfig().fingerprint
        for text in ("workers=3", "devices=2", "precision=bf16", "data.eval_batch_size=7"):
            assert derive(RunConfig(), [text]).fingerprint == base, text

    def test_survives_the_record(self) -> None:
        config = derive(RunConfig(), ["image_size=[64, 48]", "lr=1e-3"])
        again = build_run_config(config.model_dump(mode="json"), source="run.json")
        assert again == config
        assert again.fingerprint == config.fingerprint


def test_config_survives_a_dump() -> None:
    config = Config(competition=COMPETITION)
    assert cfg.build_config(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json"))), source="x") == config


def test_a_retired_entry_is_ignored_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = {"competition": COMPETITION, "run": {"augment": {"where": "device", "preset": "none"}}}
    path = write(tmp_path / "kk.yaml", content)
    with caplog.at_level("INFO"):
        config = load_config(path)
        config = load_config(path)
    assert config.run.augment.preset == "none"
    assert [record.getMessage().count("augment.where") for record in caplog.records] == [1]
    record = {**RunConfig().model_dump(mode="json"), "augment": {"where": "auto"}}
    assert build_run_config(record, source="run old").fingerprint == RunConfig().fingerprint
    with pytest.raises(ConfigError, match="wher"):
        derive(RunConfig(), ["augment.wher=auto"])


def test_keys_that_came_later_count_once_they_are_set():
    """What 0.1.0 trained stays current: at their defaults such keys are not in the fingerprint."""
    plain = RunConfig()
    assert "head" not in plain.shaping()["model"]
    assert "logit_adjustment" not in plain.shaping()["loss"]
    assert derive(plain, ["loss.logit_adjustment=1"]).shaping()["loss"]["logit_adjustment"] == 1
    assert derive(plain, ["model.head.pool=gem"]).fingerprint != plain.fingerprint


def test_classes_that_look_like_numbers_may_stand_in_groups_without_quotes():
    made = derive(RunConfig(), ["specialists.groups=[[3, 8], [1, 'seven']]", "strategy=specialists", "init_from=base"])
    assert made.specialists.groups == [["3", "8"], ["1", "seven"]]
    with pytest.raises(ConfigError, match="found twice: 3"):
        derive(RunConfig(), ["specialists.groups=[[3, '3']]"])
