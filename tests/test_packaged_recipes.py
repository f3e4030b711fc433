"""The recipes that the package carries: each is whole, opens as it should, and trains."""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from cifar_files import write_cifar
from pictures import class_folders
from small_runs import command

from resnet_hub.cli.layers import Layer, packaged_recipes
from resnet_hub.cli.recipes import read_recipe
from resnet_hub.counting import parameters
from resnet_hub.data.augment import boxes
from resnet_hub.learning.optim.schedules import Length, WarmUp, factor
from resnet_hub.learning.settings import DataSettings, MixingSettings, Recipe
from resnet_hub.nets.resnet import ResNet
from resnet_hub.randomness import sample_keys
from resnet_hub.zoo import find_row

RECIPES = sorted(packaged_recipes().glob("*.yaml"))
CIFAR10 = (
    *("resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202"),
    *("plain20", "plain32", "plain44", "plain56", "plain110"),
)
PREACT = ("preact110", "preact164", "preact1001")
HE2015 = ("r18", "r34", "r50", "r101", "r152")
EXPECTED = {
    *("quickstart", "finetune_folder", "cifar10_fast", "cifar10_fast94", "cifar10_fast96"),
    *(f"cifar10_{name}" for name in (*CIFAR10, *PREACT)),
    *(f"cifar100_{name}" for name in PREACT),
    *(f"imagenet_he2015_{name}" for name in HE2015),
    *("imagenet_preact200", "imagenet_r18", "imagenet_r50", "imagenet_r152", "imagenet_r50_v2"),
    *("imagenet_r50_a1", "imagenet_r50_a2", "imagenet_r50_a3"),
    *("imagenet_r50_fast16", "imagenet_r50_fast88"),
}
SMALL = {
    "Digits": ["--data.batch_size=4"],
    "Cifar10": ["--data.batch_size=4", "--data.held_out=5", "--data.download=false"],
    "Cifar100": ["--data.batch_size=4", "--data.held_out=5", "--data.download=false"],
    "ImageNet": ["--data.batch_size=2", "--data.eval_size=32"],
    "Folder": ["--data.batch_size=2", "--data.size=32", "--data.eval_size=32"],
}
STAND_INS = {
    "cifar_resnet1202": "cifar_resnet20",
    "cifar_plain110": "cifar_plain20",
    "cifar_preact_resnet110": "cifar_preact_resnet20",
    "cifar_preact_resnet1001": "cifar_preact_resnet20",
    "preact_resnet200": "preact_resnet18",
    "resnet34": "resnet10t",
    "resnet50": "resnet10t",
    "resnet152": "resnet10t",
    "resnet101_v1": "resnet10t",
    "resnet152_v1": "resnet10t",
    "resnetblur50": "resnetblur18",
}
"""A smaller net where a recipe's own takes seconds to build, to train and to save on a CPU.

The nets' own tests build every row; here one recipe of each kind of net trains it in full size.
"""
HERE = [
    *("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.strategy=auto"),
    *("--trainer.precision=32-true", "--trainer.max_steps=2", "--trainer.max_epochs=-1"),
    *("--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1", "--data.workers=0"),
    "--model.compile=false",
]


@cache
def recipe(path: Path) -> Recipe:
    return read_recipe([str(path)], Layer())


def packaged(name: str) -> Recipe:
    return recipe(packaged_recipes() / f"{name}.yaml")


def said(path: Path, what: str) -> str:
    """Return an entry of a recipe's opening comment, its lines joined."""
    opening = path.read_text().partition("seed:")[0]
    found = re.search(rf"^# {what} +(.*(?:\n#  +.*)*)", opening, re.MULTILINE)
    assert found is not None
    return re.sub(r"\n# +", " ", found[1])


def test_the_promised_recipes_are_there() -> None:
    assert {path.stem for path in RECIPES} == EXPECTED


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_opens_with_its_source_its_command_and_what_to_expect(path: Path) -> None:
    opening = path.read_text().partition("seed:")[0]
    assert all(line.startswith("#") for line in opening.splitlines())
    assert re.search(r"^# (Net|Paper|Source) +\S", opening, re.MULTILINE)
    assert re.search(rf"^# Command +resnet-hub fit recipes/{path.name}", opening, re.MULTILINE)
    assert re.search(r"n = \d+\)|not measured here yet", said(path, "Expect"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_survives_two_steps(path: Path, tmp_path: Path) -> None:
    found = recipe(path)
    root = tmp_path / "data"
    if found.data.name in ("Cifar10", "Cifar100"):
        write_cifar(root, found.data.name, count=100 if found.data.name == "Cifar100" else 20)
    else:
        names = ("n01440764", "n01443537")
        for split in ("train", "val"):
            class_folders(root / split, dict.fromkeys(names, 2))
    changes = [*HERE, *SMALL[found.data.name], f"--data.root={root}", f"--out={tmp_path / 'run'}"]
    if found.data.name == "ImageNet":
        changes.append("--data.sizes=[[0,32]]" if found.data.sizes else "--data.size=32")
    if found.net.name in STAND_INS:
        changes.append(f"--net.name={STAND_INS[found.net.name]}")
    if found.data.name == "Folder":
        ResNet("resnet18", classes=3).save_pretrained(tmp_path / "weights")
        changes.append(f"--net.weights={tmp_path / 'weights'}")
    assert command("fit", path, *changes) == 0
    assert ResNet.from_pretrained(tmp_path / "run" / "model").labels is not None


def effective_batch(found: Recipe) -> int:
    return found.data.batch_size * found.trainer["devices"]


ON_8_GPUS = {"accelerator": "gpu", "devices": 8, "strategy": "ddp", "precision": "bf16-mixed"}


@pytest.mark.parametrize(
    ("name", "images"),
    [
        *(("r50", 256), ("r152", 256), ("r50_v2", 1024), ("preact200", 256)),
        *((f"he2015_{name}", 256) for name in HE2015),
        *(("r50_a1", 2048), ("r50_a2", 2048), ("r50_a3", 2048)),
        *(("r50_fast16", 4096), ("r50_fast88", 4096)),
    ],
)
def test_an_imagenet_recipe_trains_on_8_gpus_with_bf16_and_its_sources_batch(
    name: str, images: int
) -> None:
    found = packaged(f"imagenet_{name}")
    assert ON_8_GPUS.items() <= found.trainer.items()
    assert effective_batch(found) == images


@pytest.mark.parametrize("name", [*CIFAR10, *PREACT])
def test_the_papers_cifar_recipe_is_64k_iterations_of_128_images(name: str) -> None:
    found = packaged(f"cifar10_{name}")
    assert found.trainer["max_steps"] == 64000
    assert effective_batch(found) == 128
    assert (found.optimizer.name, found.optimizer.lr, found.optimizer.momentum) == ("sgd", 0.1, 0.9)
    assert found.optimizer.weight_decay == 1e-4
    assert (found.schedule.name, found.schedule.unit) == ("multistep", "iterations")
    assert (found.schedule.milestones, found.schedule.gamma) == ((32000, 48000), 0.1)
    assert found.data.held_out == (0 if name in PREACT else 5000)
    assert (found.data.augment, found.data.pad) == ("pad_crop_flip", 4)
    assert found.data.per_pixel_mean


@pytest.mark.parametrize("name", PREACT)
def test_cifar_100_is_trained_as_cifar_10_is(name: str) -> None:
    other, found = packaged(f"cifar10_{name}"), packaged(f"cifar100_{name}")
    assert found == replace(other, data=replace(other.data, name="Cifar100"))


def test_the_authors_batch_of_64_is_named_for_1001_layers() -> None:
    path = packaged_recipes() / "cifar10_preact1001.yaml"
    assert "4.92% error" in said(path, "Expect")
    assert "--data.batch_size 64" in said(path, "Expect")


@pytest.mark.parametrize("name", HE2015)
def test_the_papers_imagenet_recipe_is_600k_iterations_with_scale_and_colour(name: str) -> None:
    found = packaged(f"imagenet_he2015_{name}")
    assert found.trainer["max_steps"] == 600_000
    assert (found.optimizer.name, found.optimizer.lr, found.optimizer.momentum) == ("sgd", 0.1, 0.9)
    assert found.optimizer.weight_decay == 1e-4
    assert (found.data.augment, found.data.scale) == ("scale_crop_flip", (256, 480))
    assert (found.data.size, found.data.lighting) == (224, 0.1)
    assert found.schedule.milestones[:2] == (30, 60)  # 1603.05027's; the paper's are plateaus
    assert found.net.shortcut == ("A" if name in ("r18", "r34") else None)
    if name not in ("r18", "r34"):
        assert find_row(str(found.net.name)).architecture.stride_in == "1x1"


def test_torchvisions_second_recipe_is_its_row_of_the_table() -> None:
    found = packaged("imagenet_r50_v2")
    assert (found.trainer["max_epochs"], found.schedule.warmup) == (600, 5)
    assert (found.optimizer.name, found.optimizer.lr, found.schedule.name) == ("sgd", 0.5, "cosine")
    assert (found.optimizer.weight_decay, found.optimizer.decay) == (2e-5, "no_norm_bias")
    assert (found.data.policy, found.data.erase, found.data.repeats) == ("trivial", 0.1, 4)
    assert found.mixing == MixingSettings(mixup=0.2, cutmix=1.0, partner="roll")
    assert (found.model.loss, found.model.label_smoothing) == ("cross_entropy", 0.1)
    assert (found.data.size, found.data.eval_resize, found.data.eval_size) == (176, 232, 224)


def test_torchvisions_average_decays_as_its_trainer_makes_it() -> None:
    found = packaged("imagenet_r50_v2")
    updates_an_epoch_of_1 = effective_batch(found) * found.model.ema_every
    assert found.model.ema_every == 32
    assert found.model.ema_decay == pytest.approx(
        1 - (1 - 0.99998) * updates_an_epoch_of_1 / found.trainer["max_epochs"], abs=1e-8
    )


@pytest.mark.parametrize(
    ("name", "epochs", "lr", "decay", "magnitude", "mixup", "smoothing", "depth", "repeats"),
    [
        ("a1", 600, 5e-3, 0.01, 7, 0.2, 0.1, 0.05, 3),
        ("a2", 300, 5e-3, 0.02, 7, 0.1, 0.0, 0.05, 3),
        ("a3", 100, 8e-3, 0.02, 6, 0.1, 0.0, 0.0, 1),
    ],
)
def test_resnet_strikes_backs_recipes_are_their_columns_of_the_table(
    name: str,
    epochs: int,
    lr: float,
    decay: float,
    magnitude: int,
    mixup: float,
    smoothing: float,
    depth: float,
    repeats: int,
) -> None:
    found = packaged(f"imagenet_r50_{name}")
    assert (found.trainer["max_epochs"], found.schedule.name) == (epochs, "cosine")
    assert found.schedule.warmup == 5
    assert found.schedule.floor * lr == pytest.approx(1e-6)
    assert (found.optimizer.name, found.optimizer.lr) == ("lamb", lr)
    assert (found.optimizer.weight_decay, found.optimizer.decay) == (decay, "no_norm_bias")
    assert (found.data.policy, found.data.policy_std) == ("randaugment_increasing", 0.5)
    assert (found.data.policy_magnitude, found.data.policy_ops) == (magnitude, 2)
    assert (found.mixing.mixup, found.mixing.cutmix) == (mixup, 1.0)
    assert (found.model.loss, found.model.label_smoothing) == ("bce", smoothing)
    assert (found.net.stochastic_depth, found.data.repeats) == (depth, repeats)
    assert (found.data.eval_resize, found.data.eval_size) == (236, 224)


def test_trap_1_the_papers_decay_is_of_convolutions_and_the_later_recipes_is_not() -> None:
    papers = [*(f"cifar10_{name}" for name in (*CIFAR10, *PREACT)), "imagenet_preact200"]
    papers += [f"imagenet_he2015_{name}" for name in HE2015]
    for name in papers:
        assert packaged(name).optimizer.decay == "conv_only"
    for name in ("r18", "r50", "r152"):
        assert packaged(f"imagenet_{name}").optimizer.decay == "all"


@pytest.mark.parametrize("name", HE2015)
def test_trap_2_the_released_nets_have_true_averages(name: str) -> None:
    assert packaged(f"imagenet_he2015_{name}").model.precise_bn > 0


@pytest.mark.parametrize(
    ("name", "shortcut", "count"),
    [
        ("cifar10_preact110", "A", 1_727_962),
        ("cifar10_preact164", "B", 1_703_258),
        ("cifar10_preact1001", "B", 10_327_706),
        ("cifar100_preact110", "A", 1_733_812),
        ("cifar100_preact164", "B", 1_726_388),
        ("cifar100_preact1001", "B", 10_350_836),
        ("imagenet_preact200", "B", 64_666_152),
    ],
)
def test_trap_3_a_preact_recipe_trains_the_papers_net(name: str, shortcut: str, count: int) -> None:
    # 1603.05027: one activation before the first unit's split, projections pre-activated,
    # option A for basic units; what these fields build is tested with the nets.
    found = packaged(name)
    row = find_row(str(found.net.name)).architecture
    net = replace(row, classes=100) if found.data.name == "Cifar100" else row
    assert (net.form, net.entry) == ("preact", "shared")
    assert (found.net.shortcut or net.shortcut) == shortcut
    assert parameters(net) == count


@pytest.mark.parametrize("name", ["resnet110", "resnet1202"])
def test_trap_4_the_warm_up_until_an_error_of_80_percent_ends(name: str) -> None:
    schedule, length = packaged(f"cifar10_{name}").schedule, Length(64000, 351)
    warm_up = WarmUp(schedule)
    assert warm_up.due(50, last=False)
    warm_up.look(0.8, steps=50)
    assert factor(schedule, 50, length, warmed=warm_up.ended) == 0.1  # 0.8 is not below 80%
    warm_up.look(0.799, steps=400)
    rates = [
        factor(schedule, n, length, warmed=warm_up.ended) for n in (399, 400, 31999, 32000, 48000)
    ]
    assert rates == pytest.approx([0.1, 1, 1, 0.1, 0.01])
    assert not warm_up.due(450, last=True)


@pytest.mark.parametrize("name", PREACT)
def test_trap_4_the_warm_up_of_400_iterations_ends(name: str) -> None:
    schedule, length = packaged(f"cifar10_{name}").schedule, Length(64000, 390)
    rates = [factor(schedule, n, length) for n in (0, 399, 400, 31999, 32000, 48000)]
    assert rates == pytest.approx([0.1, 0.1, 1, 1, 0.1, 0.01])


@pytest.mark.parametrize("name", sorted(set(CIFAR10) - {"resnet110", "resnet1202"}))
def test_no_other_net_of_the_first_paper_warms_up(name: str) -> None:
    schedule = packaged(f"cifar10_{name}").schedule
    assert (schedule.warmup, schedule.warmup_until_error) == (0, None)


def test_trap_5_a3_trains_at_160_pixels_and_the_others_at_224() -> None:
    sizes = {name: packaged(f"imagenet_r50_{name}").data.size for name in ("a1", "a2", "a3")}
    assert sizes == {"a1": 224, "a2": 224, "a3": 160}


def test_trap_6_a_bound_of_targets_is_named_and_not_taken_unasked() -> None:
    for name in ("a1", "a2", "a3"):
        assert packaged(f"imagenet_r50_{name}").model.target_threshold is None
        path = packaged_recipes() / f"imagenet_r50_{name}.yaml"
        assert "--model.target_threshold 0.2" in said(path, "Differs")


@pytest.mark.parametrize(("epochs", "knots"), [(16, (11, 13)), (88, (65, 76))])
def test_trap_7_ffcvs_recipe_says_where_it_is_evaluated_and_how(
    epochs: int, knots: tuple[int, int]
) -> None:
    found = packaged(f"imagenet_r50_fast{epochs}")
    assert found.trainer["max_epochs"] == epochs
    assert find_row(str(found.net.name)).architecture.antialias == "blur"
    assert (found.data.eval_size, found.data.eval_resize) == (256, round(256 * 256 / 224))
    assert found.data.sizes == ((knots[0], 160), (knots[1], 192))
    assert (found.optimizer.lr, found.optimizer.weight_decay) == (1.7, 1e-4)
    assert (found.schedule.name, found.schedule.warmup) == ("onecycle", 2)
    assert found.model.label_smoothing == 0.1
    path = packaged_recipes() / f"imagenet_r50_fast{epochs}.yaml"
    assert "mirror image" in said(path, "Expect")
    assert "256 pixels" in said(path, "Differs")


def test_fast_cifar_is_trained_with_airbenchs_ingredients() -> None:
    found = packaged("cifar10_fast")
    wanted = DataSettings(
        batch_size=512, held_out=0, augment="pad_crop_alternating_flip", pad_mode="reflect"
    )
    assert found.data == wanted
    assert (found.schedule.name, found.model.label_smoothing) == ("onecycle", 0.2)
    assert found.optimizer.nesterov
    for epochs, aim in ((16, 94), (60, 96)):
        faster = packaged(f"cifar10_fast{aim}")
        assert (faster.net, faster.optimizer) == (found.net, found.optimizer)
        assert faster.model == replace(found.model, compile=True)
        assert {**faster.trainer, **found.trainer} == {
            **found.trainer,
            "benchmark": True,
            "check_val_every_n_epoch": faster.trainer["check_val_every_n_epoch"],
        }
        assert faster.trainer["max_epochs"] == epochs
        assert faster.trainer["max_epochs"] % faster.trainer["check_val_every_n_epoch"] == 0
        assert f"aims at {aim}%" in said(packaged_recipes() / f"cifar10_fast{aim}.yaml", "Expect")


def test_the_square_that_fast_cifar_cuts_out_has_12_pixels_a_side() -> None:
    data = packaged("cifar10_fast96").data
    keys = sample_keys(0, 0, torch.arange(500))
    shape = {"height": 32, "width": 32, "area": data.erase_area, "aspect": data.erase_aspect}
    top, left, tall, wide = boxes(keys, **shape)
    assert set(tall.tolist()) == set(wide.tolist()) == {12}
    assert (top + 12).max() <= 32
    assert (left + 12).max() <= 32
    assert data.erase == 1.0
