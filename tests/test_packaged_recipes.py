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
CIFAR10 = (
    *("resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202"),
    *("plain20", "plain32", "plain44", "plain56", "plain110"),
)
PREACT = ("preact110", "preact164", "preact1001")
HE2015 = ("r18", "r34", "r50", "r101", "r152")
EXPECTED = {
    *("quickstart", "finetune_folder", "cifar10_fast"),
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
    "resnet34": "resnet18",
    "resnet101_v1": "resnet50_v1",
    "resnet152_v1": "resnet50_v1",
    "resnet152": "resnet18",
    "resnetblur50": "resnetblur18",
}
"""A smaller net of the same form, where the recipe's own takes seconds to build and to save.

Every form of net is trained here in some recipe's own size, and every row is built in the nets' own
tests; what a recipe adds to its net, flags for stage depths aside, is trained as it is.
"""
HERE = [
    *("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.strategy=auto"),
    *("--trainer.precision=32-true", "--trainer.max_steps=2", "--trainer.max_epochs=-1"),
    *("--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1", "--data.workers=0"),
]


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
def test_a_recipe_is_whole_and_so_is_what_it_resolves_to(path: Path, tmp_path: Path) -> None:
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(yaml.safe_dump(recipe(path).to_dict()))
    assert recipe(resolved) == recipe(path)


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
