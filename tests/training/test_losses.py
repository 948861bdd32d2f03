import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kaggle_kit.choices import LOSSES
from kaggle_kit.config import HeadConfig, LossConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.tables import Classes
from kaggle_kit.training.losses import HeadLoss, build_loss, class_weights, count_right

CLASSES = Classes(("b", "a", "c"))
TRUTH = np.array([0, 0, 0, 1, 2, 2])
HOT = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]], dtype=np.uint8)
LOGITS = torch.tensor([[1.0, -2, 0.3], [0.1, 0.2, 0.7], [3, 1, -1], [0, 0, 0], [1, 2, 3], [-1, 0.5, 2]])


def loss(name, task="multiclass", truth=TRUTH, **options):
    return build_loss(LossConfig(name=name, **options), task, CLASSES, truth)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_falls_when_followed_downhill(name, task):
    if name in ("cross_entropy", "squared_grade") and task == "multilabel":
        pytest.skip("refused, see below")
    truth = HOT if task == "multilabel" else TRUTH[:4]
    targets = torch.from_numpy(truth)
    function = loss(name, task, truth, label_smoothing=0.1, class_weights="balanced")
    logits = LOGITS[:4].clone().requires_grad_()
    first = function(logits, targets)
    assert first.ndim == 0
    assert first.dtype == torch.float32
    (gradient,) = torch.autograd.grad(first, logits)
    assert function(logits - 0.1 * gradient, targets) < first


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_logits_give_a_float32_loss(name):
    assert loss(name)(LOGITS.bfloat16(), torch.from_numpy(TRUTH)).dtype == torch.float32


@pytest.mark.parametrize("weights", [None, {"a": 3.0, "b": 0.5}])
def test_cross_entropy_agrees_with_torch(weights):
    given = None if weights is None else torch.tensor([0.5, 3.0, 1.0])
    targets = torch.from_numpy(TRUTH)
    expected = F.cross_entropy(LOGITS, targets, weight=given)
    torch.testing.assert_close(loss("auto", class_weights=weights)(LOGITS, targets), expected)


def test_smoothing_agrees_with_torch():
    targets = torch.from_numpy(TRUTH)
    expected = F.cross_entropy(LOGITS, targets, label_smoothing=0.2)
    torch.testing.assert_close(loss("cross_entropy", label_smoothing=0.2)(LOGITS, targets), expected)


def test_one_hot_targets_equal_positions_and_mixed_targets_mix_the_loss():
    function = loss("cross_entropy")
    first, second = torch.from_numpy(TRUTH), torch.from_numpy(TRUTH[::-1].copy())
    hot, other = F.one_hot(first, 3).float(), F.one_hot(second, 3).float()
    torch.testing.assert_close(function(LOGITS, hot), function(LOGITS, first))
    mixed = function(LOGITS, 0.3 * hot + 0.7 * other)
    torch.testing.assert_close(mixed, 0.3 * function(LOGITS, first) + 0.7 * function(LOGITS, second))


def test_focal_without_gamma_is_the_plain_loss_and_with_it_forgives_what_is_sure():
    targets = torch.from_numpy(TRUTH)
    torch.testing.assert_close(loss("focal", focal_gamma=0)(LOGITS, targets), loss("cross_entropy")(LOGITS, targets))
    hot = torch.from_numpy(HOT)
    plain, focal = (loss(name, "multilabel", HOT, focal_gamma=0)(LOGITS[:4], hot) for name in ("bce", "focal"))
    torch.testing.assert_close(focal, plain)
    sure, unsure = torch.tensor([[6.0, 0, 0]]), torch.tensor([[0.5, 0, 0]])
    one = torch.tensor([0])
    ratio = [loss("focal")(row, one) / loss("cross_entropy")(row, one) for row in (sure, unsure)]
    assert ratio[0] < ratio[1] < 1


def test_auto_is_bce_for_multilabel():
    hot = torch.from_numpy(HOT)
    expected = F.binary_cross_entropy_with_logits(LOGITS[:4], hot.float())
    torch.testing.assert_close(loss("auto", "multilabel", HOT)(LOGITS[:4], hot), expected)


def test_balanced_weights_are_inverse_frequencies_in_class_order():
    weights = class_weights(LossConfig(class_weights="balanced"), CLASSES, TRUTH)
    np.testing.assert_allclose(weights, [6 / 9, 2, 1], rtol=1e-6)
    assert np.isfinite(class_weights(LossConfig(class_weights="balanced"), CLASSES, np.zeros(4, dtype=int))).all()
    np.testing.assert_allclose(class_weights(LossConfig(class_weights="balanced"), CLASSES, HOT), 1)


def test_weights_by_name_follow_the_class_order_and_unknown_names_are_refused():
    weights = class_weights(LossConfig(class_weights={"c": 5.0}), CLASSES, TRUTH)
    assert weights.tolist() == [1, 1, 5]
    with pytest.raises(ConfigError, match=r"do not exist: scab"):
        class_weights(LossConfig(class_weights={"scab": 2.0}), CLASSES, TRUTH)


def test_wrong_choices_are_refused():
    with pytest.raises(ValueError, match=r"unknown loss 'focla'. Did you mean 'focal'"):
        loss("focla")
    with pytest.raises(ConfigError, match="exactly one label"):
        loss("cross_entropy", "multilabel", HOT)


def test_right_rows_are_counted_as_numpy_counts_them():
    rng = np.random.default_rng(0)
    logits, mixed = rng.normal(size=(50, 4)), rng.dirichlet(np.ones(4), size=50)
    labels, several = rng.integers(0, 4, 50), (rng.random((50, 4)) < 0.3).astype("float32")
    given = torch.from_numpy(logits)
    assert count_right(given, torch.from_numpy(labels), multilabel=False) == (logits.argmax(1) == labels).sum()
    assert count_right(given, torch.from_numpy(mixed), multilabel=False) == (logits.argmax(1) == mixed.argmax(1)).sum()
    share = ((logits > 0) == (several == 1)).mean(axis=1).sum()
    assert float(count_right(given, torch.from_numpy(several), multilabel=True)) == pytest.approx(share)


def arcface(margin, scale=8.0):
    return HeadLoss(loss("auto"), HeadConfig(name="cosine", margin=margin, scale=scale))


def test_the_margin_is_an_angle_added_for_the_true_class():
    angles = torch.tensor([[0.4, 1.2, 2.0], [1.5, 0.3, 1.0]])
    targets = torch.tensor([0, 2])
    turned = angles.clone()
    turned[0, 0] += 0.3
    turned[1, 2] += 0.3
    expected = F.cross_entropy(8 * turned.cos(), targets)
    torch.testing.assert_close(arcface(0.3)(8 * angles.cos(), targets), expected)
    hot = F.one_hot(targets, 3).float()
    torch.testing.assert_close(arcface(0.3)(8 * angles.cos(), hot), expected)
    torch.testing.assert_close(arcface(0.0)(8 * angles.cos(), targets), F.cross_entropy(8 * angles.cos(), targets))


def test_the_margin_never_rewards_a_larger_angle():
    angles = torch.linspace(0, 3.14159, 200)
    logits = torch.stack([8 * angles.cos(), torch.zeros(200)], dim=1)
    settings = HeadConfig(name="cosine", margin=0.5, scale=8.0)
    losses = [HeadLoss(build_loss(LossConfig(), "multiclass", Classes(("a", "b")), np.array([0, 1])), settings)]
    values = torch.stack([losses[0](row[None], torch.zeros(1, dtype=torch.int64)) for row in logits])
    assert (values.diff() > 0).all()
    at_zero = torch.tensor([[8.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(losses[0](at_zero, torch.zeros(1, dtype=torch.int64)), at_zero)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("targets", [torch.from_numpy(TRUTH), F.one_hot(torch.from_numpy(TRUTH), 3).float()])
def test_losses_of_several_dropout_masks_are_averaged(targets):
    masks = torch.cat([LOGITS, LOGITS.flip(1), LOGITS + 1])
    plain = loss("auto")
    expected = torch.stack([plain(part, targets) for part in masks.split(6)]).mean()
    torch.testing.assert_close(HeadLoss(plain, HeadConfig())(masks, targets), expected)


def test_effective_weights_lie_between_none_and_balanced():
    balanced = class_weights(LossConfig(class_weights="balanced"), CLASSES, TRUTH)
    none, middle, nearly = (
        class_weights(LossConfig(class_weights="effective", effective_beta=beta), CLASSES, TRUTH) for beta in (0, 0.5, 0.999999)
    )
    np.testing.assert_allclose(none, 1)
    np.testing.assert_allclose(nearly, balanced, rtol=1e-4)
    raw = np.array([1 / (1 - 0.5**3), 1 / (1 - 0.5), 1 / (1 - 0.5**2)])  # 3, 1 and 2 rows
    np.testing.assert_allclose(middle, raw * 6 / (raw @ [3, 1, 2]), rtol=1e-6)
    assert np.isfinite(class_weights(LossConfig(class_weights="effective"), CLASSES, np.zeros(4, dtype=int))).all()


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("bce", "asymmetric", "squared_grade")])
def test_adjusted_logits_need_not_know_how_frequent_classes_are(name):
    """Logits that are the shares of the classes are what plain losses want without any features; adjusted ones want zeros."""
    function = loss(name, logit_adjustment=1.0, focal_gamma=0.0)
    targets = torch.from_numpy(TRUTH)
    zeros = torch.zeros(6, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(zeros, targets), zeros)
    assert gradient.sum(dim=0).abs().max() < 1e-6
    shares = torch.tensor([3.0, 1.0, 2.0]).div(6).log().repeat(6, 1)
    torch.testing.assert_close(function(torch.zeros(6, 3), targets), loss("cross_entropy")(shares, targets))


@pytest.mark.parametrize("name", ["bce", "auto"])
def test_adjusted_logits_of_several_labels_are_odds(name):
    function = loss(name, "multilabel", HOT, logit_adjustment=1.0)
    zeros = torch.zeros(4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(zeros, torch.from_numpy(HOT)), zeros)
    assert gradient.sum(dim=0).abs().max() < 1e-6
    always = loss(name, "multilabel", np.ones((4, 3)), logit_adjustment=1.0)
    assert torch.isfinite(always(zeros, torch.ones(4, 3)))


def test_asymmetric_is_binary_cross_entropy_without_its_asymmetry():
    targets = torch.from_numpy(HOT)
    plain = loss("bce", "multilabel", HOT)(LOGITS[:4], targets)
    asymmetric = loss("asymmetric", "multilabel", HOT, asymmetric_gamma=0, asymmetric_shift=0)
    torch.testing.assert_close(asymmetric(LOGITS[:4], targets), plain)
    assert torch.isfinite(asymmetric(torch.tensor([[90.0, -90, 90]]), torch.tensor([[0, 1, 1]])))


def test_asymmetric_leaves_out_easy_negatives_only():
    one = torch.zeros(1, 3)
    function = loss("asymmetric", "multilabel", HOT, asymmetric_gamma=4, asymmetric_shift=0.05)
    easy, hard = torch.full((1, 3), -3.0), torch.full((1, 3), 3.0)  # probabilities 0.047 and 0.953
    assert function(easy, one) == 0
    lowered = torch.sigmoid(hard[0, 0]) - 0.05
    torch.testing.assert_close(function(hard, one), -(lowered**4) * torch.log(1 - lowered))
    torch.testing.assert_close(function(easy, torch.ones(1, 3)), -F.logsigmoid(torch.tensor(-3.0)))


def test_squared_grade_is_the_squared_distance_of_mean_grades():
    logits = torch.tensor([[20.0, 0, 0], [0, 0, 20], [0, 20, 0]])
    targets = torch.tensor([2, 2, 1])
    torch.testing.assert_close(loss("squared_grade")(logits, targets), torch.tensor(4.0 / 3), atol=1e-4, rtol=1e-4)
    weighted = loss("squared_grade", class_weights={"c": 3.0})  # the third class
    torch.testing.assert_close(weighted(logits, targets), torch.tensor(3 * 4.0 / 7), atol=1e-4, rtol=1e-4)
    mixed = torch.tensor([[0.5, 0, 0.5]])
    assert loss("squared_grade")(torch.tensor([[0.0, 30, 0]]), mixed) < 1e-6


def test_squared_grade_is_not_for_several_labels():
    with pytest.raises(ConfigError, match="needs one class a row"):
        loss("squared_grade", "multilabel", HOT)
