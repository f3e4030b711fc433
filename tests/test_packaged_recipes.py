"""The recipes that the package carries: each is whole, opens as it should, and trains."""

import re
from pathlib import Path

import pytest
import yaml
from cifar_files import write_cifar
from pictures import class_folders
from small_runs import command

from resnet_hub.cli.layers import Layer, packaged_recipes
from resnet_hub.cli.recipes import read_recipe
from resnet_hub.learning.settings import Recipe
from resnet_hub.nets.resnet import ResNet

RECIPES = sorted(packaged_recipes().glob("*.yaml"))
EXPECTED = {
    *("quickstart", "finetune_folder", "imagenet_r18", "imagenet_r50", "imagenet_r152"),
    *("cifar10_resnet20", "cifar10_resnet56", "cifar10_resnet110", "cifar10_preact164"),
    *("cifar10_plain20", "cifar10_plain56"),
}
SMALL = {
    "Digits": ["--data.batch_size=4"],
    "Cifar10": ["--data.batch_size=4", "--data.held_out=5", "--data.download=false"],
    "ImageNet": ["--data.batch_size=2", "--data.size=32", "--data.eval_size=32"],
    "Folder": ["--data.batch_size=2", "--data.size=32", "--data.eval_size=32"],
}
HERE = [
    *("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.strategy=auto"),
    *("--trainer.precision=32-true", "--trainer.max_steps=2", "--trainer.max_epochs=-1"),
    *("--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1", "--data.workers=0"),
]


def recipe(path: Path) -> Recipe:
    return read_recipe([str(path)], Layer())


def test_the_promised_recipes_are_there() -> None:
    assert {path.stem for path in RECIPES} == EXPECTED


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_opens_with_its_source_its_command_and_what_to_expect(path: Path) -> None:
    opening = path.read_text().partition("seed:")[0]
    assert all(line.startswith("#") for line in opening.splitlines())
    assert re.search(r"^# (Net|Paper|Source) +\S", opening, re.MULTILINE)
    assert re.search(rf"^# Command +resnet-hub fit recipes/{path.name}", opening, re.MULTILINE)
    expectation = re.search(r"^# Expect +(.*)", opening, re.MULTILINE)
    assert expectation is not None
    assert re.search(r"n = \d+|not measured here yet", expectation[1])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_whole_and_so_is_what_it_resolves_to(path: Path, tmp_path: Path) -> None:
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(yaml.safe_dump(recipe(path).to_dict()))
    assert recipe(resolved) == recipe(path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_survives_two_steps(path: Path, tmp_path: Path) -> None:
    wanted = recipe(path).data.name
    root = tmp_path / "data"
    if wanted == "Cifar10":
        write_cifar(root)
    else:
        names = ("n01440764", "n01443537")
        for split in ("train", "val"):
            class_folders(root / split, dict.fromkeys(names, 2))
    changes = [*HERE, *SMALL[wanted], f"--data.root={root}", f"--out={tmp_path / 'run'}"]
    if wanted == "Folder":
        ResNet("resnet18", classes=3).save_pretrained(tmp_path / "weights")
        changes.append(f"--net.weights={tmp_path / 'weights'}")
    assert command("fit", path, *changes) == 0
    assert ResNet.from_pretrained(tmp_path / "run" / "model").labels is not None


def test_resnet_50_trains_on_8_gpus_with_bf16_and_256_images_a_step() -> None:
    for name in ("imagenet_r50", "imagenet_r152"):
        found = recipe(packaged_recipes() / f"{name}.yaml")
        wanted = {"accelerator": "gpu", "devices": 8, "strategy": "ddp", "precision": "bf16-mixed"}
        assert wanted.items() <= found.trainer.items()
        assert found.data.batch_size * 8 == 256


def test_the_papers_cifar_recipe_is_64k_iterations_of_128_images() -> None:
    for name in ("resnet20", "resnet56", "resnet110", "plain20", "plain56", "preact164"):
        found = recipe(packaged_recipes() / f"cifar10_{name}.yaml")
        assert found.trainer["max_steps"] == 64000
        assert found.data.batch_size == 128
        assert (found.optimizer.lr, found.optimizer.weight_decay) == (0.1, 1e-4)
        assert found.schedule.milestones == (32000, 48000)
        assert found.data.held_out == (0 if name == "preact164" else 5000)
        warms_up = name in ("resnet110", "preact164")
        assert found.schedule.warmup == (400 if warms_up else 0)
