"""Mixup and CutMix against timm's and torchvision's, given their draws; and how ours are drawn."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from rank_tasks import mixes
from ranks import Ranks
from small_runs import fit, untimed_rows
from timm.data.mixup import Mixup
from torch import Tensor
from torchvision.transforms import v2

from resnet_hub.data.batches import Batch
from resnet_hub.learning.settings import MixingSettings, ModelSettings
from resnet_hub.learning.targets.mixing import Mix, cut, draw, mixed, mixed_images, mixed_targets
from resnet_hub.learning.targets.objective import training_loss
from resnet_hub.metrics import SoftScores

BOTH = MixingSettings(mixup=0.2, cutmix=1.0)
FLIP, ROLL = MixingSettings(mixup=1, partner="flip"), MixingSettings(mixup=1, partner="roll")


def batch(count: int = 6, size: tuple[int, int] = (16, 12)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(count, 3, *size, generator=generator)
    return images, torch.randint(5, (count,), generator=generator)


def timms(
    monkeypatch: pytest.MonkeyPatch, lam: float, centre: tuple[int, int] | None
) -> tuple[Tensor, Tensor]:
    """Images and targets as timm mixes them by this λ, and this centre of CutMix's box."""
    monkeypatch.setattr(Mixup, "_params_per_batch", lambda self: (lam, centre is not None))
    draws = iter(centre or ())
    monkeypatch.setattr(np.random, "randint", lambda *bounds, size: next(draws))
    images, labels = batch()
    return Mixup(0.2, 1.0, label_smoothing=0, num_classes=5)(images, labels)


def torchvisions(
    monkeypatch: pytest.MonkeyPatch,
    lam: float,
    centre: tuple[int, int] | None,
    given: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """The same of torchvision."""

    class Drawn:
        def sample(self, shape: tuple[()]) -> float:
            return lam

    kind = v2.MixUp if centre is None else v2.CutMix
    mixing = kind(num_classes=5)
    mixing._dist = Drawn()
    draws = iter(torch.tensor([place]) for place in reversed(centre or ()))  # the column first
    with monkeypatch.context() as patch:
        patch.setattr(torch, "randint", lambda *bounds, size: next(draws))
        return mixing(*given)


@pytest.mark.parametrize("lam", [0.0, 0.25, 0.9])
def test_mixup_is_timms_with_the_flipped_batch(monkeypatch, lam: float):
    expected, targets = timms(monkeypatch, lam, None)
    images, labels = batch()
    torch.testing.assert_close(mixed_images(images, Mix(lam), FLIP), expected)
    torch.testing.assert_close(mixed_targets(labels, 5, Mix(lam), FLIP), targets)


@pytest.mark.parametrize("lam", [0.0, 0.25, 0.9])
def test_mixup_is_torchvisions_with_the_rolled_batch(monkeypatch, lam: float):
    images, labels = batch()
    expected, targets = torchvisions(monkeypatch, lam, None, batch())
    torch.testing.assert_close(mixed_images(images, Mix(lam), ROLL), expected)
    torch.testing.assert_close(mixed_targets(labels, 5, Mix(lam), ROLL), targets)


@pytest.mark.parametrize("centre", [(8, 6), (0, 0), (15, 11), (2, 10)])
def test_cutmix_is_timms_with_the_flipped_batch(monkeypatch, centre: tuple[int, int]):
    expected, targets = timms(monkeypatch, 0.75, centre)  # of 16 × 12 a box of 8 × 6
    images, labels = batch()
    mix = cut(0.75, (16, 12), centre=centre)
    assert torch.equal(mixed_images(images, mix, FLIP), expected)
    torch.testing.assert_close(mixed_targets(labels, 5, mix, FLIP), targets)
    assert not torch.equal(expected, images)


@pytest.mark.parametrize("lam", [0.02, 0.3, 0.51, 0.75, 0.999, 1.0])
@pytest.mark.parametrize("centre", [(8, 6), (0, 0), (15, 11), (2, 10)])
def test_cutmix_is_torchvisions_with_the_rolled_batch(
    monkeypatch, lam: float, centre: tuple[int, int]
):
    images, labels = batch()
    expected, targets = torchvisions(monkeypatch, lam, centre, batch())
    mix = cut(lam, (16, 12), centre=centre)
    assert torch.equal(mixed_images(images, mix, ROLL), expected)
    torch.testing.assert_close(mixed_targets(labels, 5, mix, ROLL), targets)


def test_cutmix_keeps_the_share_of_the_image_that_its_clipped_box_leaves():
    inside, corner = cut(0.75, (16, 16), centre=(8, 8)), cut(0.75, (16, 16), centre=(0, 15))
    assert inside == Mix(0.75, (4, 12, 4, 12))  # half of each side: a quarter of the area
    assert corner == Mix(1 - 4 * 5 / 256, (0, 4, 11, 16))


def test_the_batch_itself_is_left_as_it_is():
    images, labels = batch()
    before = images.clone(), labels.clone()
    for mix in (Mix(0.3), cut(0.3, (16, 12), centre=(4, 4))):
        mixed_images(images, mix, FLIP)
        mixed_targets(labels, 5, mix, FLIP)
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])


def draws(settings: MixingSettings, count: int = 4000) -> list[Mix | None]:
    return [draw(settings, place=(0, 0, number, 0), size=(8, 8)) for number in range(count)]


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_lambda_is_beta_distributed(alpha: float):
    own = torch.tensor([mix.own for mix in draws(MixingSettings(mixup=alpha))])
    expected = torch.distributions.Beta(torch.tensor(alpha), torch.tensor(alpha))
    assert float(own.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(own.var()) == pytest.approx(float(expected.variance), rel=0.05)


@pytest.mark.parametrize(
    ("settings", "share", "cut_share"),
    [
        (MixingSettings(mixup=0.2), 1, 0),
        (MixingSettings(cutmix=1.0), 1, 1),
        (BOTH, 1, 0.5),
        (MixingSettings(mixup=0.2, cutmix=1.0, cutmix_share=0.2), 1, 0.2),
        (MixingSettings(mixup=0.2, cutmix=1.0, probability=0.3), 0.3, 0.5),
    ],
)
def test_so_many_batches_are_mixed_and_so_many_of_them_by_cutmix(
    settings: MixingSettings, share: float, cut_share: float
):
    made = [mix for mix in draws(settings) if mix is not None]
    assert len(made) / 4000 == pytest.approx(share, abs=0.03)
    assert sum(mix.box is not None for mix in made) / len(made) == pytest.approx(
        cut_share, abs=0.04
    )


def test_the_centres_of_boxes_are_everywhere_alike():
    rows = [mix.box for mix in draws(MixingSettings(cutmix=1000.0), 1600)]  # λ is near a half
    centres = [(max(0, top), max(0, left)) for top, _, left, _ in rows]
    assert {top for top, _ in centres} == {left for _, left in centres} == set(range(6))


def test_a_draw_is_its_places_alone():
    place = (1, 2, 3, 4)
    one = draw(BOTH, place=place, size=(8, 8))
    random.seed(5)
    before = random.getstate()
    assert draw(BOTH, place=place, size=(8, 8)) == one
    assert random.getstate() == before
    for part in range(4):
        other = tuple(n + (i == part) for i, n in enumerate(place))
        assert draw(BOTH, place=other, size=(8, 8)) != one


@pytest.mark.parametrize("settings", [FLIP, MixingSettings(cutmix=1.0, partner="roll")])
@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_nothing_is_asked_of_the_device(settings: MixingSettings, loss: str):
    images, labels = batch()  # a meta tensor has no numbers to be asked for
    given = Batch(images.to("meta"), labels.to("meta"), labels, labels)
    found, targets = mixed(given, 5, settings, place=(0, 0, 0, 0))
    assert (found.shape, targets.shape) == (images.shape, (6, 5))
    logits, scores = torch.zeros(6, 5, device="meta"), SoftScores().to("meta")
    value = training_loss(logits, targets, ModelSettings(loss=loss, label_smoothing=0.1))
    scores.update(logits, targets, value)
    assert value.device.type == "meta"


def test_a_batch_that_is_not_mixed_has_whole_targets_and_one_that_never_is_labels():
    images, labels = batch()
    given = Batch(images, labels, labels, labels)
    rare = MixingSettings(mixup=1.0, probability=1e-9)
    found, targets = mixed(given, 5, rare, place=(0, 0, 0, 0))
    assert found is images
    assert torch.equal(targets, torch.nn.functional.one_hot(labels, 5).float())
    found, targets = mixed(given, 5, MixingSettings(), place=(0, 0, 0, 0))
    assert (found is images, targets is labels) == (True, True)


def test_two_ranks_mix_by_draws_of_their_own_and_log_one_score(tmp_path: Path):
    with Ranks(2, mixes, BOTH, cwd=tmp_path) as ranks:
        one, two = ranks.results()
    for rank, (found, _, _) in enumerate((one, two)):
        expected = [draw(BOTH, place=(7, 0, number, rank), size=(8, 8)) for number in range(4)]
        assert found == [mix and mix.own for mix in expected]
    assert not set(one[0]) & set(two[0])
    met = one[1] + two[1]
    for _, _, score in (one, two):
        assert score == pytest.approx(sum(met) / len(met))


def test_a_run_with_mixing_logs_the_soft_score_and_no_top_1_of_training(tmp_path: Path):
    run = fit(tmp_path / "run", "--mixing.mixup=0.2", "--mixing.cutmix=1", "--model.loss=bce")
    (*_, last) = untimed_rows(run)
    assert 0 < float(last["train/soft_top1"]) < 1
    assert not {"train/top1", "train/top5"} & last.keys()
    assert {"train/epoch_loss", "val/top1"} <= last.keys()
