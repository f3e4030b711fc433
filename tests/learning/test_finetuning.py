"""What a recipe for a folder of pictures says: each choice follows from look and weights."""

from dataclasses import replace

import pytest

from resnet_hub.architecture import Architecture
from resnet_hub.cli.layers import Layer, packaged_recipes
from resnet_hub.cli.recipes import read_recipe
from resnet_hub.data.look import Look
from resnet_hub.learning.finetuning import choose, nested
from resnet_hub.learning.settings import Recipe
from resnet_hub.preprocess import Preprocess
from resnet_hub.weights.card import Card
from resnet_hub.weights.provenance import Provenance
from resnet_hub.zoo import find_row


def card(net: str = "resnet50", labels: tuple[str, ...] | None = None) -> Card:
    architecture: Architecture = find_row(net).architecture
    if labels is not None:
        architecture = replace(architecture, classes=len(labels))
    own = Preprocess.default_for(architecture)
    return Card(architecture=architecture, preprocess=own, labels=labels, provenance=Provenance())


ORDINARY = Look(
    root="pets",
    labels=("cat", "dog"),
    counts={"train": (1000, 1000), "val": (100, 100)},
    held_out=0,
    smallest=(300, 200),
    median=(500, 375),
    largest=(4000, 3000),
    side=375,
)


def chosen(look: Look = ORDINARY, own: Card | None = None, **asked: object) -> Recipe:
    """Return the recipe for a look; of ``asked`` two underscores stand for the dot."""
    given = {name.replace("__", "."): value for name, value in asked.items()}
    return Recipe.from_dict(
        nested(choose(look, own or card(), weights="resnet50", cores=2, asked=given))
    )


def whys(look: Look = ORDINARY, own: Card | None = None) -> dict[str, str]:
    found = choose(look, own or card(), weights="resnet50", cores=2)
    return {choice.key: choice.why for choice in found}


def small(**counts: tuple[int, ...]) -> Look:
    return replace(ORDINARY, counts=counts)


def test_an_ordinary_folder_gets_the_values_of_the_packaged_recipe():
    packaged = read_recipe([str(packaged_recipes() / "finetune_folder.yaml")], Layer()).to_dict()
    found = chosen().to_dict()
    assert found["trainer"].pop("max_epochs") == 5
    packaged["trainer"].pop("max_epochs")  # it knows no folder, and so takes no risk
    assert found["net"] == {**packaged["net"], "weights": "resnet50", "fresh_head": True}
    assert found["data"] == {**packaged["data"], "root": "pets", "eval_size": 224}
    for section in ("net", "data"):
        found.pop(section)
        packaged.pop(section)
    assert found == packaged


def test_a_head_for_the_very_same_classes_stays_and_any_other_is_fresh():
    assert not chosen(own=card(labels=("cat", "dog"))).net.fresh_head
    assert chosen(own=card(labels=("dog", "cat"))).net.fresh_head
    assert chosen(own=card("resnet50", None)).net.fresh_head
    assert "do not name their classes" in whys()["net.fresh_head"]


def test_few_pictures_keep_most_of_the_net_and_get_small_batches_and_more_epochs():
    found = chosen(small(train=(50, 50), val=(10, 10)))
    assert found.data.batch_size == 8
    assert found.optimizer.lr == pytest.approx(0.01 * 8 / 32)
    assert found.trainer["max_epochs"] == 25  # 300 steps of 12 an epoch
    assert found.freezing.freeze == "all_but_head"
    assert found.freezing.thaw == ((5, "all"),)
    assert found.freezing.norms == "frozen"
    stem = found.optimizer.layer_decay ** (sum(find_row("resnet50").architecture.depths) + 1)
    assert stem == pytest.approx(0.1, rel=0.02)
    assert found.optimizer.head_lr == 10
    assert "100 pictures are few" in whys(small(train=(50, 50), val=(1, 1)))["freezing.freeze"]


def test_a_handful_of_pictures_still_makes_a_recipe():
    found = chosen(small(train=(1, 1), val=(1, 1)))
    assert found.data.batch_size == 4
    assert found.trainer["max_epochs"] == 50


def test_one_epoch_has_no_room_for_a_head_of_its_own():
    found = chosen(small(train=(50, 50), val=(10, 10)), trainer__max_epochs=1)
    assert found.freezing == Recipe().freezing
    assert found.schedule.warmup == pytest.approx(0.2)


def test_many_pictures_freeze_nothing():
    assert chosen().freezing == Recipe().freezing
    assert chosen().optimizer.layer_decay == 1


def test_small_pictures_are_not_blown_up_beyond_twice_their_size():
    found = chosen(replace(ORDINARY, median=(60, 50), side=50))
    assert found.data.eval_size == 128
    assert found.data.augment == "resized_crop_flip"
    tiny = chosen(replace(ORDINARY, median=(28, 28), side=28))
    assert (tiny.data.eval_size, tiny.data.augment) == (64, "scale_crop_flip")
    assert tiny.data.scale == (64, 80)


def test_a_net_for_small_pictures_keeps_its_size():
    for side in (8, 32, 400):
        found = chosen(replace(ORDINARY, side=side), card("cifar_resnet20"))
        assert (found.data.eval_size, found.data.scale) == (32, (32, 40))


def test_weights_with_a_mean_image_keep_its_size():
    own = card()
    pixels = replace(own.preprocess, size=64, resize=None, mean=(0.5,) * (3 * 64 * 64))
    own = replace(own, preprocess=replace(pixels))
    assert chosen(replace(ORDINARY, side=8), own).data.eval_size == 64


def test_what_is_held_out_is_written_down():
    assert chosen().data.held_out is None
    assert chosen(replace(ORDINARY, held_out=205)).data.held_out == 205


def test_unreadable_pictures_are_left_out_only_where_there_are_some():
    assert chosen().data.on_bad_image == "raise"
    assert chosen(replace(ORDINARY, unreadable=3)).data.on_bad_image == "skip"


def test_a_skewed_folder_takes_its_classes_in_turns():
    skewed, even = small(train=(1000, 200), val=(9, 9)), small(train=(600, 200), val=(9, 9))
    assert (skewed.skew, even.skew) == (5, 3)
    assert chosen(skewed).data.sampling == "balanced"
    assert "5.0 ×" in whys(skewed)["data.sampling"]
    assert "data.sampling" not in whys(even)
    weighted = chosen(skewed, model__class_weights="balanced")
    assert (weighted.data.sampling, weighted.model.class_weights) == ("shuffled", "balanced")


def test_what_is_asked_for_stands_and_the_rest_follows():
    found = chosen(data__batch_size=64, data__eval_size=48, model__loss="bce", seed=3)
    assert found.optimizer.lr == pytest.approx(0.02)
    assert (found.data.augment, found.data.scale) == ("scale_crop_flip", (48, 60))
    assert (found.model.loss, found.seed) == ("bce", 3)


def test_every_machine_reads_by_its_cores_up_to_eight():
    for cores, workers in ((1, 1), (2, 2), (96, 8)):
        values = nested(choose(ORDINARY, card(), weights="resnet50", cores=cores))
        assert values["data"]["workers"] == workers
