import pytest
import torch

from kaggle_kit.choices import SCHEDULES
from kaggle_kit.config import ScheduleConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.training.schedules import build_schedule, restore_schedule, schedule_state

EPOCHS, PER_EPOCH = 6, 5


def made(name, *, greater_is_better=True, **options):
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr, "lr_scale": scale} for lr, scale in ((1.0, 1), (0.5, 0.1))
    ]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9)
    config = ScheduleConfig(name=name, epochs=EPOCHS, **options)
    return optimizer, build_schedule(optimizer, config, updates_per_epoch=PER_EPOCH, greater_is_better=greater_is_better)


def rates(optimizer, schedule, start=0, stop=EPOCHS * PER_EPOCH, score=0.5):
    found = []
    for update in range(start, stop):
        found.append([group["lr"] for group in optimizer.param_groups])
        schedule.step_update(update + 1)
        if (update + 1) % PER_EPOCH == 0:
            schedule.step((update + 1) // PER_EPOCH, score)
    return found


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_positive_bounded_and_keep_the_groups_apart(name):
    found = rates(*made(name))
    assert all(0 <= first <= 1 + 1e-9 for first, _ in found)
    assert max(first for first, _ in found) > 0.9
    assert all(second <= 0.05 + 1e-9 for _, second in found)


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_climbs(name):
    found = [first for first, _ in rates(*made(name, warmup_epochs=1.0))]
    assert 0 < found[0] < 0.1
    assert found[0] < found[2] < found[4] < 1


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("stop", [3, 10, 17])
def test_a_restored_schedule_goes_on_exactly(name, stop):
    options = {"options": {"patience": 0}} if name == "plateau" else {}
    whole = rates(*made(name, warmup_epochs=0.5, **options))
    optimizer, schedule = made(name, warmup_epochs=0.5, **options)
    begun = rates(optimizer, schedule, 0, stop)
    saved, state = optimizer.state_dict(), schedule_state(schedule)
    optimizer, schedule = made(name, warmup_epochs=0.5, **options)
    optimizer.load_state_dict(saved)
    restore_schedule(schedule, state)
    assert begun + rates(optimizer, schedule, stop) == whole


def test_shapes():
    cosine = [first for first, _ in rates(*made("cosine", min_lr=0.1))]
    assert cosine[0] == 1
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[-1] == pytest.approx(0.1, abs=0.01)
    restarts = [first for first, _ in rates(*made("warm_restarts", options={"cycles": 3}))]
    assert [index for index in range(1, 30) if restarts[index] > restarts[index - 1]] == [10, 20]
    step = [first for first, _ in rates(*made("step", options={"decay_epochs": 2, "decay_rate": 0.5}))]
    assert sorted(set(step)) == [0.25, 0.5, 1.0]
    cyclic = [first for first, _ in rates(*made("cyclic", options={"cycles": 2, "floor": 0.2}))]
    assert min(cyclic) == pytest.approx(0.2)
    onecycle = [first for first, _ in rates(*made("onecycle"))]
    assert onecycle[0] == pytest.approx(1 / 25)
    assert onecycle.index(max(onecycle)) == 9


def test_plateau_decays_only_when_the_score_stalls():
    optimizer, schedule = made("plateau", greater_is_better=False, options={"patience": 1, "decay_rate": 0.5})
    for epoch, loss in enumerate([1.0, 0.5, 0.5, 0.5, 0.4], 1):
        schedule.step(epoch, loss)
    schedule.step_update(25)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_wrong_choices_are_refused():
    with pytest.raises(ValueError, match=r"unknown schedule 'cosin'. Did you mean 'cosine'"):
        made("cosin")
    with pytest.raises(ConfigError, match="nonsense"):
        made("cyclic", options={"nonsense": 1})
    with pytest.raises(ConfigError, match="nonsense"):
        made("cosine", options={"nonsense": 1})
    with pytest.raises(ConfigError, match="warmup_epochs must be below"):
        made("cosine", warmup_epochs=6)
