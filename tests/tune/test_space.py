"""Spaces: what a file may say, which error names what, and what a trial draws."""

import optuna
import pytest

from kaggle_kit.config import RunConfig, as_overrides, derive
from kaggle_kit.errors import ConfigError, MissingFileError
from kaggle_kit.tune.defaults import LADDERS, SPACES, default_space
from kaggle_kit.tune.space import KINDS, apply_values, build_space, read_space, value_of

RUN = derive(RunConfig(), ["model=test_resnet", "pretrained=false"])


def draws(space, n=40):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.draw(study.ask()) for _ in range(n)]


def space_of(content, run=RUN):
    return build_space(content, run, source="space.yaml")


EXAMPLES = {
    "float": ("model.drop_rate", [0.0, 0.5]),
    "log": ("optimizer.lr", [1e-5, 1e-2]),
    "int": ("schedule.epochs", [2, 9]),
    "log-int": ("data.batch_size", [4, 64]),
    "categorical": ("augment.preset", ["light", "heavy"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_draws_within_its_range_what_a_configuration_takes(kind):
    key, values = EXAMPLES[kind]
    for drawn in draws(space_of({key: {kind: values}})):
        changed = apply_values(RUN, drawn)
        assert value_of(changed, key) == drawn[key]
        assert drawn[key] in values if kind == "categorical" else values[0] <= drawn[key] <= values[1]


def test_short_keys_steps_and_numbers_that_yaml_reads_as_text(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("lr: {log: [1e-5, 1e-2]}\nmixup: {float: [0, 0.8], step: 0.2}\n")
    space = read_space(path, RUN)
    assert [its.key for its in space.dimensions] == ["optimizer.lr", "augment.mixup"]
    assert space.dimensions[0].values == (1e-5, 1e-2)
    assert {round(drawn["augment.mixup"] / 0.2, 6) % 1 for drawn in draws(space)} == {0.0}


def test_an_entry_is_searched_only_where_its_condition_holds():
    space = space_of(
        {
            "optimizer.momentum": {"float": [0.5, 0.95], "when": {"optimizer": "sgd"}},  # before what it depends on
            "optimizer": {"categorical": ["adamw", "sgd"]},
        }
    )
    for drawn in draws(space):
        assert ("optimizer.momentum" in drawn) == (drawn["optimizer.name"] == "sgd")
    assert {drawn["optimizer.name"] for drawn in draws(space)} == {"adamw", "sgd"}


def test_a_condition_on_an_entry_that_is_not_searched_does_not_hold():
    space = space_of(
        {
            "model": {"categorical": ["test_resnet", "test_vit"]},
            "optimizer": {"categorical": ["adamw", "sgd"], "when": {"model": "test_vit"}},
            "optimizer.momentum": {"float": [0.5, 0.95], "when": {"optimizer": ["sgd"]}},
        }
    )
    for drawn in draws(space):
        assert ("optimizer.name" in drawn) == (drawn["model.name"] == "test_vit")
        assert ("optimizer.momentum" in drawn) == (drawn.get("optimizer.name") == "sgd")


def test_choices_may_be_lists_and_sections():
    sizes = [None, 64, [48, 64]]
    space = space_of({"data.image_size": {"categorical": sizes}, "model.options": {"categorical": [{}, {"act_layer": "gelu"}]}})
    drawn = draws(space)
    assert {str(values["data.image_size"]) for values in drawn} == {"None", "64", "[48, 64]"}
    changed = apply_values(RUN, {"data.image_size": [48, 64], "model.options": {"act_layer": "gelu"}})
    assert changed.data.image_size == (48, 64)
    assert changed.model.options == {"act_layer": "gelu"}


def test_small_numbers_survive_as_numbers_even_in_free_sections():
    changed = apply_values(RUN, {"optimizer.options": {"eps": 1e-09}, "optimizer.lr": 1e-05})
    assert changed.optimizer.options == {"eps": 1e-09}
    assert changed.optimizer.lr == 1e-05


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"optimizer.lrr": {"log": [1e-5, 1e-2]}}, ["optimizer.lrr", "Did you mean 'lr'"]),
        ({"lr": {"log": [0, 1e-2]}}, ["lr", "above 0"]),
        ({"lr": {"log": [1e-2, 1e-5]}}, ["lr", "low must not exceed high"]),
        ({"lr": {"logg": [1e-5, 1e-2]}}, ["lr", "'logg'", "Did you mean 'log'"]),
        ({"lr": {"log": [1e-5, 1e-2], "float": [0, 1]}}, ["lr", "exactly one"]),
        ({"lr": {"log": [1e-5]}}, ["lr", "[low, high]"]),
        ({"lr": {"log": ["a", 1]}}, ["lr", "a number", "'a'"]),
        ({"lr": {"log": [1e-5, 1], "step": 0.1}}, ["lr", "step"]),
        ({"lr": 3}, ["lr", "expected a range"]),
        ({"lr": {"log": [1e-5, 1]}, "optimizer.lr": {"log": [1e-5, 1]}}, ["optimizer.lr", "twice"]),
        ({"epochs": {"int": [1.5, 4]}}, ["epochs", "whole number"]),
        ({"label_smoothing": {"float": [0, 1.5]}}, ["loss.label_smoothing", "1.5"]),
        ({"augment": {"categorical": []}}, ["augment", "list of choices"]),
        ({"augment": {"categorical": ["light", "light"]}}, ["augment", "differ"]),
        ({"folds": {"categorical": ["a", "b"]}}, ["folds", "same for all trials"]),
        ({"hardware.precision": {"categorical": ["fp32", "bf16"]}}, ["hardware.precision", "same for all trials"]),
        ({"mixup": {"float": [0, 1], "when": {"model": "a"}}}, ["augment.mixup: when", "'model.name' is not in the space"]),
        ({"mixup": {"float": [0, 1], "when": {"lr": 1}}, "lr": {"log": [1e-3, 1]}}, ["augment.mixup: when", "no categorical"]),
        (
            {"mixup": {"float": [0, 1], "when": {"augment": "ligth"}}, "augment": {"categorical": ["light", "heavy"]}},
            ["augment.mixup: when", "'ligth' is no choice"],
        ),
        (
            {
                "augment": {"categorical": ["light"], "when": {"optimizer": "sgd"}},
                "optimizer": {"categorical": ["sgd"], "when": {"augment": "light"}},
            },
            ["augment.preset", "optimizer.name", "circle"],
        ),
    ],
)
def test_errors_name_the_key_and_what_is_wrong(content, words):
    with pytest.raises(ConfigError) as error:
        space_of(content)
    for word in words:
        assert word in str(error.value)


def test_files_that_are_no_space(tmp_path):
    with pytest.raises(MissingFileError, match="nowhere"):
        read_space(tmp_path / "nowhere.yaml", RUN)
    path = tmp_path / "space.yaml"
    for text in ("- a\n", "", "a: [b"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"space\.yaml"):
            read_space(path, RUN)


def test_locate_gives_the_values_within_the_space():
    run = derive(RUN, ["lr=3e-3", "optimizer=sgd", "mixup=0.7"])
    space = space_of(
        {
            "lr": {"log": [1e-4, 1e-2]},
            "head_lr": {"log": [1e-4, 1e-2]},  # none: the same as lr
            "optimizer": {"categorical": ["sgd", "adamw"]},
            "mixup": {"float": [0.0, 0.5]},  # the present value lies outside
            "weight_decay": {"float": [0.0, 0.1], "when": {"optimizer": "adamw"}},
            "data.image_size": {"categorical": [None, [48, 64]]},
        }
    )
    assert space.locate(run) == {
        "optimizer.lr": 3e-3,
        "optimizer.head_lr": 3e-3,
        "optimizer.name": "sgd",
        "data.image_size": None,
    }


class TestDefault:
    SEARCHED = (
        "optimizer.lr",
        "optimizer.head_lr",
        "optimizer.weight_decay",
        "optimizer.layer_decay",
        "model.drop_path_rate",
        "augment.preset",
        "augment.mixup",
        "loss.label_smoothing",
        "data.image_size",
        "schedule.epochs",
    )

    @pytest.mark.parametrize(
        "overrides",
        [
            [],
            ["weight_decay=0", "lr=1", "head_lr=0.5", "epochs=1"],
            ["mixup=2", "label_smoothing=0.5", "model.drop_path_rate=0.7", "layer_decay=0.7", "image_size=224"],
            ["image_size=[48, 64]", "weight_decay=3"],
        ],
    )
    def test_holds_the_present_configuration_and_draws_valid_ones(self, overrides):
        run = derive(RUN, overrides)
        space = default_space(run)
        assert tuple(its.key for its in space.dimensions) == self.SEARCHED
        assert set(space.locate(run)) == set(self.SEARCHED)
        for drawn in draws(space, 10):
            apply_values(run, drawn)

    @pytest.mark.parametrize("strategy", SPACES)
    def test_each_strategy_has_one_that_holds_the_present_configuration(self, strategy):
        run = derive(RUN, [f"strategy={strategy}"])
        space = default_space(run, [run.model.name])
        assert set(space.locate(run)) == {its.key for its in space.dimensions}
        for drawn in draws(space, 10):
            apply_values(run, drawn)

    def test_chooses_from_models(self):
        space = default_space(RUN, ["test_resnet", "test_vit", "test_resnet"])
        assert space.dimensions[0].key == "model.name"
        assert space.dimensions[0].values == ("test_resnet", "test_vit")

    @pytest.mark.parametrize("preset", ["none", "shift", "light", "heavy"])
    def test_never_mirrors_where_the_present_preset_does_not(self, preset):
        space = default_space(derive(RUN, [f"augment={preset}"]))
        its = next(its for its in space.dimensions if its.key == "augment.preset")
        assert its.values == next(ladder for ladder in LADDERS if preset in ladder)

    def test_leaves_the_size_of_architectures_that_have_only_one(self):
        space = default_space(derive(RUN, ["model=vit_tiny_patch16_224"]))
        assert "data.image_size" not in [its.key for its in space.dimensions]

    def test_of_other_strategies_must_be_written(self):
        with pytest.raises(ConfigError, match="--space FILE"):
            default_space(RUN.model_copy(update={"strategy": "mine"}))


def test_overrides_are_what_the_command_line_takes():
    values = {"optimizer.lr": 1e-05, "data.image_size": [48, 64], "augment.preset": "light", "optimizer.head_lr": None}
    assert as_overrides(values) == [
        "optimizer.lr=1.0e-05",
        "data.image_size=[48, 64]",
        "augment.preset=light",
        "optimizer.head_lr=null",
    ]
    assert derive(RUN, as_overrides(values)).optimizer.lr == 1e-05
