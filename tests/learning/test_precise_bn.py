"""BatchNorm statistics computed anew, against the formula."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from rank_tasks import made_precise
from ranks import Ranks
from safetensors.torch import load_file
from small_runs import checkpoint, fit
from torch import Tensor, nn

from resnet_hub.cli.layers import read_file
from resnet_hub.cli.recipes import check
from resnet_hub.learning.fit import build
from resnet_hub.learning.precise_bn import recompute
from resnet_hub.nets.resnet import ResNet


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # on so small images threads wait longer than they work


def inputs(*sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    # Batches of different means: their variances alone would not be the whole one.
    return [
        torch.randn(size, 1, 6, 6, generator=generator) + number
        for number, size in enumerate(sizes)
    ]


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    )


@pytest.mark.parametrize("sizes", [(8,), (4, 4, 4), (8, 3, 5)])
def test_statistics_are_those_of_all_activations_pooled(sizes: tuple[int, ...]):
    net, batches = small(), inputs(*sizes)
    first = torch.cat([net[0](x) for x in batches]).detach().double()
    # Each batch is normalised by its own statistics on the way to the second layer.
    second = torch.cat([net[3](net[2](net.train()[1](net[0](x)))) for x in batches])
    recompute(net, batches)
    for norm, x in ((net[1], first), (net[4], second.detach().double())):
        torch.testing.assert_close(norm.running_mean.double(), x.mean((0, 2, 3)))
        torch.testing.assert_close(norm.running_var.double(), x.var((0, 2, 3), correction=0))


def test_they_are_the_mean_of_batch_means_and_the_mean_variance_plus_the_means_variance():
    net, batches = small(), inputs(4, 4, 4)
    outputs = [net[0](x).detach() for x in batches]
    means = torch.stack([x.mean((0, 2, 3)) for x in outputs])
    variances = torch.stack([x.var((0, 2, 3), correction=0) for x in outputs])
    recompute(net, batches)
    torch.testing.assert_close(net[1].running_mean, means.mean(0))
    expected = variances.mean(0) + means.var(0, correction=0)
    torch.testing.assert_close(net[1].running_var, expected)
    assert not torch.allclose(net[1].running_var, variances.mean(0), rtol=0.1)


def test_nothing_else_of_the_net_changes_and_it_goes_by_its_statistics_again():
    torch.manual_seed(0)
    net = ResNet("cifar_resnet20", in_channels=1, stochastic_depth=0.5).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    batches = inputs(8, 8)
    recompute(net, batches)
    after = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if name.endswith(("running_mean", "running_var"))}
    assert not net.training
    one, two = net(batches[0]), torch.cat([net(batches[0][:3]), net(batches[0][3:])])
    torch.testing.assert_close(one, two)  # no image hangs on the others of its batch
    recompute(net, batches)  # no unit is left out by chance: the same again
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, after[name]), name


def test_a_compiled_net_is_watched_too():
    expected, net, batches = small(), small(), inputs(8, 8)
    recompute(expected, batches)
    net.compile(backend="eager")
    net(batches[0])
    recompute(net, batches)
    torch.testing.assert_close(net[4].running_var, expected[4].running_var)


@pytest.mark.parametrize("count", [40, 48])
def test_ranks_share_the_batches_and_end_with_the_statistics_of_one(tmp_path: Path, count: int):
    with Ranks(1, made_precise, count, cwd=tmp_path) as ranks:
        ((expected, images),) = ranks.results()
    assert images == count
    with Ranks(2, made_precise, count, cwd=tmp_path) as ranks:
        (one, images), (two, others) = ranks.results()
    assert images + others == count
    assert min(images, others) > 0
    for name, values in expected.items():
        assert np.array_equal(one[name], two[name])
        np.testing.assert_allclose(one[name], values, rtol=1e-5, atol=1e-7)


def test_a_run_exports_them_over_so_many_training_images_and_its_checkpoint_keeps_its_own(
    tmp_path: Path,
):
    run = fit(tmp_path / "run", "--model.precise_bn=100", "--model.ema_decay=0.5")
    exported = load_file(run / "model" / "model.safetensors")
    state = checkpoint(run, "best")["state_dict"]
    saved = {n.removeprefix("averaged.module."): t for n, t in state.items() if "averaged.m" in n}
    assert saved.keys() == exported.keys()
    changed = {name for name, tensor in saved.items() if not torch.equal(tensor, exported[name])}
    assert changed == {name for name in saved if name.endswith(("running_mean", "running_var"))}

    recipe = check(read_file(run / "recipe.yaml"))
    data, classifier = build(recipe)
    loader = data.train_dataloader()
    loader.order.set_epoch(1)  # one epoch was trained: the next one's order and augmentation
    batches = [data.prepare(batch, train=True).images for batch in islice(loader, 4)]
    assert [len(batch) for batch in batches] == [recipe.data.batch_size] * 4
    net = classifier.net
    net.load_state_dict(saved)
    recompute(net, batches)
    for name in changed:
        torch.testing.assert_close(net.state_dict()[name], exported[name])


def test_norms_left_still_keep_their_statistics_and_go_by_them():
    net, batches = small(), inputs(8, 8)
    before = {name: tensor.clone() for name, tensor in net[1].state_dict().items()}
    second = torch.cat([net[3](net[2](net.eval()[1](net[0](x)))) for x in batches])
    recompute(net, batches, still={net[1]})
    torch.testing.assert_close(net[1].state_dict(), before, rtol=0, atol=0)
    torch.testing.assert_close(net[4].running_mean, second.detach().mean((0, 2, 3)))


@pytest.mark.parametrize(
    ("norms", "still", "prefix", "more"),
    [
        ("frozen", ("",), "net.", ()),
        # The average's norms are no frozen ones themselves.
        ("trained", ("bn1", "layer1"), "averaged.module.", ("--model.ema_decay=0.5",)),
    ],
)
def test_a_run_leaves_the_norms_alone_that_its_recipe_froze(
    tmp_path: Path, norms: str, still: tuple[str, ...], prefix: str, more: tuple[str, ...]
):
    freezing = (f"--freezing.norms={norms}", "--freezing.freeze=[stem, layer1]")
    run = fit(tmp_path / "run", "--model.precise_bn=64", *freezing, *more)
    exported = load_file(run / "model" / "model.safetensors")
    state = checkpoint(run, "best")["state_dict"]
    for name, tensor in exported.items():
        if name.endswith(("running_mean", "running_var")):
            same = torch.equal(tensor, state[prefix + name])
            assert same == name.startswith(still), name
