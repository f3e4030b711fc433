"""Searches by Lightning's Tuner: what they find, and what is made of it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.tuner.tuning import Tuner

from resnet_hub.cli.layers import read_flags
from resnet_hub.cli.recipes import read_recipe
from resnet_hub.errors import Diverged, InvalidSetting, OutOfMemory
from resnet_hub.learning import tuning
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.fit import build
from resnet_hub.learning.settings import Recipe
from resnet_hub.learning.tuning import analysed, find_batch_size, find_lr
from resnet_hub.nets.resnet import ResNet

RATES = np.geomspace(1e-6, 10, 100).tolist()


def recipe(*flags: str) -> Recipe:
    torch.set_num_threads(1)
    return read_recipe(["quickstart"], read_flags(flags)[0])


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """An empty current folder, and an empty one for temporary files; both stay so."""
    found = [tmp_path / "here", tmp_path / "temporary"]
    for place in found:
        place.mkdir()
    monkeypatch.chdir(found[0])
    monkeypatch.setattr("tempfile.tempdir", str(found[1]))
    return found


def descent(noise: float, seed: int = 0) -> list[float]:
    """Losses that fall by 2 over a decade around 0.01, and rise from 1 on."""
    place = np.log10(RATES)
    losses = 3 - 2 / (1 + np.exp(-4 * (place + 2))) + np.where(place > 0, 5 * place, 0)
    return list(losses + noise * np.random.default_rng(seed).standard_normal(len(losses)))


@pytest.mark.parametrize("noise", [0, 0.05, 0.15])
@pytest.mark.parametrize("seed", range(20))
def test_the_suggestion_is_where_the_loss_falls_most_steeply(noise: float, seed: int):
    found = analysed(RATES, descent(noise, seed), 32)
    assert abs(math.log10(found.suggestion) + 2) < 0.6
    assert found.suggestion < found.lowest < 2


def test_lightnings_own_suggestion_follows_the_noise_of_the_smallest_rates():
    chosen = []
    for seed in range(20):
        lightnings = tuning.lr_finder._LRFinder("exponential", 1e-6, 10, 100)
        lightnings.results = {"lr": RATES, "loss": descent(0.05, seed)}
        chosen.append(lightnings.suggestion())
    assert max(chosen) < 1e-4  # that is why it is not taken


@pytest.mark.parametrize("seed", range(20))
def test_of_noise_alone_nothing_is_suggested(seed: int):
    losses = 2.3 + 0.1 * np.random.default_rng(seed).standard_normal(100)
    assert analysed(RATES, list(losses), 32).suggestion is None


def test_a_loss_that_falls_to_the_end_is_said_to():
    assert analysed(RATES, list(np.linspace(3, 1, 100)), 32).is_open
    assert not analysed(RATES, descent(0.05), 32).is_open


def test_of_a_rising_loss_nothing_is_suggested():
    assert analysed(RATES, list(np.linspace(1, 3, 100)), 32).suggestion is None


def test_losses_that_are_no_numbers_are_left_out():
    losses = descent(0)
    found = analysed(RATES, [*losses[:90], *[math.nan] * 5, *[math.inf] * 5], 32)
    assert len(found.rates) == len(found.losses) == len(found.smoothed) == 90
    assert found.losses == losses[:90]
    with pytest.raises(Diverged, match="lower --from and --to"):
        analysed(RATES, [*losses[:10], *[math.nan] * 90], 32)


def test_a_search_takes_the_losses_of_the_steps_and_leaves_nothing(places: list[Path]):
    found = find_lr(recipe(), least=1e-5, most=1e-3, steps=50, bar=False)
    assert found.step_images == 32
    assert len(found.rates) == 50
    assert found.rates[0] == 1e-5
    assert found.rates == sorted(found.rates)
    assert found.rates[-1] == pytest.approx(1e-3, rel=0.1)
    # The first step's loss is that of the fresh net on the first batch, of no average.
    data, classifier = build(recipe())
    batch = data.prepare(next(iter(data.train_dataloader())), train=True)
    with torch.no_grad():
        logits = classifier.net(batch.images, batch.keys)
    loss = torch.nn.functional.cross_entropy(logits, batch.labels, label_smoothing=0.1)
    assert found.losses[0] == pytest.approx(float(loss), rel=1e-4)
    assert [list(place.iterdir()) for place in places] == [[], []]


def test_accumulated_batches_are_one_step_of_the_search():
    flags = ("--trainer.accumulate_grad_batches=2", "--data.batch_size=8")
    found = find_lr(recipe(*flags), least=1e-5, most=1e-3, steps=20, bar=False)
    assert (len(found.rates), found.step_images) == (20, 16)


@pytest.mark.parametrize("share", [{"head_lr": 10}, {"layer_decay": 0.5}])
def test_each_group_keeps_its_share_of_the_rate(share: dict[str, float], monkeypatch):
    seen, judge = [], Classifier.on_before_optimizer_step

    def watched(module: Classifier, optimizer: torch.optim.Optimizer) -> None:
        seen.append([(group["lr"], group["lr_scale"]) for group in optimizer.param_groups])
        judge(module, optimizer)

    monkeypatch.setattr(Classifier, "on_before_optimizer_step", watched)
    flags = (f"--optimizer.{name}={value}" for name, value in share.items())
    found = find_lr(recipe(*flags), least=1e-5, most=1e-3, steps=20, bar=False)
    assert len({scale for _, scale in seen[0]}) > 1
    for rate, groups in zip(found.rates, seen, strict=True):
        for lr, scale in groups:
            assert lr == pytest.approx(rate * scale)


def test_a_search_is_longer_than_the_recipes_run_and_its_epochs():
    flags = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=3", "--trainer.min_steps=2")
    assert len(find_lr(recipe(*flags), least=1e-5, most=1e-3, steps=20, bar=False).rates) == 20


def test_a_search_that_begins_too_high_is_said_to(places: list[Path]):
    with pytest.raises(Diverged, match="lower --from and --to"):
        find_lr(recipe(), least=1e3, most=1e9, steps=40, bar=False)
    assert [list(place.iterdir()) for place in places] == [[], []]


@pytest.mark.parametrize(
    ("least", "most", "steps"), [(0, 1, 100), (1, 1, 100), (1e-3, math.inf, 100), (1e-6, 1, 5)]
)
def test_what_is_no_search_is_refused(least: float, most: float, steps: int):
    with pytest.raises(InvalidSetting, match="tune lr"):
        find_lr(recipe(), least=least, most=most, steps=steps, bar=False)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch):
    """Let a net have room for so many images, and return the sizes that were tried."""

    def of(images: int) -> list[int]:
        tried, forward = [], ResNet.forward

        def limited(self: ResNet, x: torch.Tensor, *keys: Any) -> torch.Tensor:
            if not tried or tried[-1] != len(x):
                tried.append(len(x))
            if len(x) > images:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return forward(self, x, *keys)

        monkeypatch.setattr(ResNet, "forward", limited)
        return tried

    return of


def test_the_largest_batch_that_was_trained_on_is_found(memory, places: list[Path]):
    tried = memory(10)
    found = find_batch_size(recipe(), most=8192)
    assert (found.size, found.is_edge, found.device) == (8, True, "cpu")
    assert tried == [2, 4, 8, 16]
    assert [list(place.iterdir()) for place in places] == [[], []]


@pytest.mark.parametrize(("most", "size"), [(2, 2), (9, 8)])
def test_nothing_beyond_the_largest_allowed_is_tried(memory, most: int, size: int):
    tried = memory(1000)
    found = find_batch_size(recipe(), most=most)
    assert (found.size, found.is_edge, tried[-1]) == (size, False, size)


def test_a_batch_is_no_larger_than_the_training_split(memory):
    memory(10_000)
    found = find_batch_size(recipe("--data.held_out=1400"), most=8192)
    assert (found.size, found.is_edge) == (37, False)


def test_where_nothing_fits_it_is_said(memory, places: list[Path]):
    memory(0)
    with pytest.raises(OutOfMemory, match="not even one image"):
        find_batch_size(recipe(), most=64)
    assert [list(place.iterdir()) for place in places] == [[], []]


def test_a_batch_is_searched_on_one_device_and_on_a_cpu_to_a_bound():
    two = ("--trainer.devices=2", "--trainer.strategy=ddp")
    for wanted, most in ((recipe(), None), (recipe(), 1), (recipe(), 8193), (recipe(*two), 64)):
        with pytest.raises(InvalidSetting, match="tune batch"):
            find_batch_size(wanted, most=most)


def test_lightnings_limit_on_sizes_returns_one_that_was_not_tried(memory):
    tried = memory(1000)
    with tuning._ready(recipe(), 3) as (trainer, data, classifier):
        size = Tuner(trainer).scale_batch_size(classifier, datamodule=data, max_val=16)
    assert (size, tried[-1]) == (16, 8)  # that is why trials are limited instead
