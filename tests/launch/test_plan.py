from dataclasses import replace

import pytest
from small_workspace import make_small

from kaggle_kit.errors import ConfigError
from kaggle_kit.launch.measure import plan_run
from kaggle_kit.launch.plan import MARGIN, Option, Plan, Rates, Work
from kaggle_kit.launch.proposals import less, more

HOUR = 3600.0
WORK = Work(folds=5, epochs=10, n_train=40_000, n_valid=10_000, n_test=5_000)
# By hand: 5 x 10 x 8,000 / 20 = 20,000 s; 12 x 10,000 / 100 = 1,200 s; 5 x 5,000 / 100 = 250 s.
PLAN = Plan("model", "cpu", "fp32", (224, 224), 32, Rates(train=20.0, predict=100.0), WORK, limit=9 * HOUR)


def test_the_cost_model():
    assert PLAN.rates.seconds(WORK) == (20_000, 1_200, 250)
    assert PLAN.seconds == 21_450
    assert PLAN.fits
    assert not replace(PLAN, limit=21_450 * (1 + MARGIN) - 1).fits


def test_validations_are_those_in_turn_and_by_another_engine():
    slow = replace(PLAN.rates, validate=10.0)
    times = {every: slow.seconds(replace(WORK, validate_every=every))[1] for every in (1, 4, 0)}
    # Before the first epoch and after those in turn and the last, at 10 images a second; and once by `kk predict`, at 100.
    assert times == pytest.approx({1: 11 * 1_000 + 100, 4: 4 * 1_000 + 100, 0: 100})
    assert slow.times(2).seconds(WORK) == pytest.approx([seconds / 2 for seconds in slow.seconds(WORK)])


def test_devices_share_the_folds_and_views_multiply_the_prediction():
    assert PLAN.rates.seconds(replace(WORK, devices=2)) == (12_000, 720, 250)  # three folds after one another
    assert PLAN.rates.seconds(replace(WORK, devices=8))[0] == 4_000
    assert PLAN.rates.seconds(replace(WORK, views=4))[2] == 4 * (250 + 100)


def test_what_is_proposed_fits_and_the_next_step_would_not():
    plan = replace(PLAN, limit=3 * HOUR, work=replace(WORK, views=4))
    assert not plan.fits
    options = {option.text.split()[0].split("=")[0]: option for option in less(plan)}
    assert all(option.seconds <= plan.limit * (1 - MARGIN) for option in options.values())
    assert options["epochs"].text == "epochs=4 instead of 10"
    assert not replace(plan, work=replace(plan.work, epochs=5)).fits
    assert options["--fold"].text == "--fold 0-1: 2 of 5 folds"
    assert not replace(plan, work=plan.work.first_folds(3)).fits
    assert "image_size=128" in options["image_size"].text
    assert "--devices 3" in options["--launcher"].text
    assert "--tta" not in options  # would not be enough


def test_sizes_that_are_not_square_keep_their_shape():
    plan = replace(PLAN, limit=3 * HOUR, image_size=(256, 512))
    assert any("image_size=[160, 320]" in option.text for option in less(plan))


def test_what_more_would_fit():
    ((option),) = list(more(PLAN))
    epochs = int(option.text.removeprefix("up to epochs="))
    assert replace(PLAN, work=replace(WORK, epochs=epochs)).fits
    assert not replace(PLAN, work=replace(WORK, epochs=epochs + 1)).fits


def test_more_epochs_are_proposed_within_bounds():
    ((option),) = list(more(replace(PLAN, limit=10_000 * HOUR)))
    assert option.text == "up to epochs=100, 10 times as many; the time would do for more"


def test_the_text_says_the_figures():
    text = replace(PLAN, limit=HOUR, options=(Option("epochs=1 instead of 10", 1800.0),)).describe()
    for part in ("20.0 img/s", "5 folds x 10 epochs x 8,000 images", "5:33:20", "does not fit into 1:00:00", "epochs=1"):
        assert part in text
    assert "too much already" in replace(PLAN, limit=1.0).describe()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_small(tmp_path_factory.mktemp("plan"))


def test_a_measurement_leaves_nothing_behind(small):
    before = sorted(small.workspace.root.rglob("*"))
    setup = small.setup("optimizer.accumulate=2", "mixup=0.2", "pretrained=true")  # weights are not looked for
    plan = plan_run(setup, fold="0-1", limit="1h", seconds=0.5, tta="hflip", devices=2)
    assert sorted(small.workspace.root.rglob("*")) == before
    assert plan.rates.train > 0
    assert plan.rates.predict > 0
    assert plan.rates.validate is not None
    assert plan.work == Work(folds=2, epochs=2, n_train=48, n_valid=24, n_test=9 + 36, views=2, devices=2)
    assert (plan.image_size, plan.limit, plan.fits) == ((32, 32), HOUR, True)


@pytest.mark.parametrize(
    ("overrides", "options", "message"),
    [
        (("strategy=probe",), {}, "just train"),
        ((), {"devices": 0}, "devices must be at least 1"),
        ((), {"limit": "soon"}, "duration"),
        ((), {"fold": "7"}, r"0\.\.2"),
    ],
)
def test_what_cannot_be_planned(small, overrides, options, message):
    with pytest.raises(ConfigError, match=message):
        plan_run(small.setup(*overrides), **options)
