"""The training losses against timm's and torch's, on labels and on mixed targets."""

import pytest
import torch
from timm.data.mixup import mixup_target
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn
from torchvision.transforms import v2

from resnet_hub.learning.settings import MixingSettings, ModelSettings
from resnet_hub.learning.targets.mixing import Mix, mixed_targets, one_hot
from resnet_hub.learning.targets.objective import training_loss

CLASSES = 7
FLIP, ROLL = MixingSettings(mixup=1, partner="flip"), MixingSettings(mixup=1, partner="roll")


def outputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    logits = 3 * torch.randn(8, CLASSES, generator=generator)
    return logits, torch.randint(CLASSES, (8,), generator=generator)


def assert_equal(found: Tensor, expected: Tensor) -> None:
    assert found.dim() == 0
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_labels_is_timms(smoothing: float):
    logits, labels = outputs()
    found = training_loss(logits, labels, ModelSettings(label_smoothing=smoothing))
    assert_equal(found, LabelSmoothingCrossEntropy(smoothing)(logits, labels))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_a_mixture_is_timms_of_smoothed_labels_mixed(smoothing: float):
    logits, labels = outputs()
    targets = mixed_targets(labels, CLASSES, Mix(0.3), FLIP)
    found = training_loss(logits, targets, ModelSettings(label_smoothing=smoothing))
    theirs = mixup_target(labels, CLASSES, lam=0.3, smoothing=smoothing)
    assert_equal(found, SoftTargetCrossEntropy()(logits, theirs))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_a_mixture_is_torchs_that_smooths_torchvisions_mixture(smoothing: float):
    logits, labels = outputs()
    targets = mixed_targets(labels, CLASSES, Mix(0.3), ROLL)
    theirs = v2.MixUp(num_classes=CLASSES)._mixup_label(labels, lam=0.3)
    torch.testing.assert_close(targets, theirs)
    found = training_loss(logits, targets, ModelSettings(label_smoothing=smoothing))
    assert_equal(found, nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, theirs))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("threshold", [None, 0.2])
@pytest.mark.parametrize("sums", [False, True])
def test_binary_cross_entropy_of_labels_is_timms(
    smoothing: float, threshold: float | None, sums: bool
):
    logits, labels = outputs()
    settings = ModelSettings(
        loss="bce", label_smoothing=smoothing, target_threshold=threshold, bce_sum=sums
    )
    theirs = BinaryCrossEntropy(smoothing, target_threshold=threshold, sum_classes=sums)
    assert_equal(training_loss(logits, labels, settings), theirs(logits, labels))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("threshold", [None, 0.2, 0.35])
@pytest.mark.parametrize("sums", [False, True])
def test_binary_cross_entropy_of_a_mixture_is_timms(
    smoothing: float, threshold: float | None, sums: bool
):
    logits, labels = outputs()
    targets = mixed_targets(labels, CLASSES, Mix(0.3), FLIP)
    settings = ModelSettings(
        loss="bce", label_smoothing=smoothing, target_threshold=threshold, bce_sum=sums
    )
    theirs = BinaryCrossEntropy(smoothing, target_threshold=threshold, sum_classes=sums)
    dense = mixup_target(labels, CLASSES, lam=0.3, smoothing=smoothing)
    assert_equal(training_loss(logits, targets, settings), theirs(logits, dense))


def test_a_target_at_the_threshold_becomes_0_and_one_above_it_1():
    logits = torch.zeros(1, 2)
    settings = ModelSettings(loss="bce", target_threshold=0.25, bce_sum=True)
    for target, hit in ((0.25, 0.0), (0.26, 1.0)):
        logits[0, 1] = 2.0
        found = training_loss(logits, torch.tensor([[0.75, target]]), settings)
        expected = nn.BCEWithLogitsLoss(reduction="sum")(logits, torch.tensor([[1.0, hit]]))
        assert_equal(found, expected)


def test_targets_of_labels_are_torchs_one_hot():
    labels = torch.tensor([0, 3, 6])
    expected = nn.functional.one_hot(labels, CLASSES).float()
    assert torch.equal(one_hot(labels, CLASSES), expected)


def test_losses_of_half_precision_are_computed_in_full():
    logits, labels = outputs()
    half = logits.bfloat16()
    found = training_loss(half, labels, ModelSettings(loss="bce"))
    assert found.dtype == torch.float32
    assert_equal(found, training_loss(half.float(), labels, ModelSettings(loss="bce")))
