"""A net's outputs: what they are, and when they are computed anew."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import class_folders, pattern
from rank_tasks import looked
from ranks import Ranks

from resnet_hub.data.digits import Digits
from resnet_hub.data.folder import Folder
from resnet_hub.data.module import DataModule
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import BadData, DataMissing, Diverged, InvalidSetting
from resnet_hub.evaluation.cached import Outputs, logits, one_device, outputs, pooled
from resnet_hub.evaluation.collected import Logits
from resnet_hub.evaluation.ensemble import ensemble
from resnet_hub.evaluation.views import Views
from resnet_hub.nets.resnet import ResNet
from resnet_hub.preprocess import Preprocess
from resnet_hub.weights.outputs import entries

CPU = {"accelerator": "cpu"}


pytestmark = pytest.mark.usefixtures("own_cache")


def features(net: ResNet, data: DataModule, split: str = "test", **options: object) -> Outputs:
    return outputs(net, data, split, trainer=one_device({**CPU, **options}))


def digits(**settings: object) -> Digits:
    data = Digits(DataSettings(**{"name": "Digits", "batch_size": 100, **settings}))
    data.open()
    return data


def folder(root: Path, **settings: object) -> Folder:
    own = {"name": "Folder", "root": str(root), "eval_size": 16, "batch_size": 4, **settings}
    data = Folder(DataSettings(**own))
    data.open()
    return data


@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_preact_resnet20", "cifar_resnet18"])
def test_features_are_what_the_head_is_given(name: str):
    torch.manual_seed(0)
    net, images = ResNet(name).eval(), torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        found = pooled(net, images)
        assert found.shape == (3, net.architecture.features)
        assert torch.equal(net.fc(found), net(images))


def test_a_split_has_a_row_an_image_in_order_as_evaluation_sees_it(net: ResNet):
    data = digits()
    batches = list(data.test_dataloader())
    found = features(net, data)
    with torch.no_grad():
        images = data.preprocess(torch.cat([batch.images for batch in batches]))
        expected = pooled(net, images)
    assert found.values.shape == (360, 64)
    torch.testing.assert_close(found.values, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(found.labels, torch.cat([batch.labels for batch in batches]))


@pytest.mark.parametrize("settings", [{}, {"policy": "trivial"}, {"augment": "pad_crop_flip"}])
def test_training_images_are_not_augmented(net: ResNet, settings: dict, passes: list[int]):
    data = digits(**settings)
    train = data.split("train")
    images = train.images[train.rows]
    found = features(net, data, "train")
    with torch.no_grad():
        expected = pooled(net, data.preprocess(images[:50]))
    torch.testing.assert_close(found.values[:50], expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(found.labels, train.targets)
    assert len(found.values) == len(train) == 1257
    passes.clear()
    assert features(net, digits(augment="none"), "train").from_cache  # the same pixels
    assert passes == []


def test_training_pictures_are_cropped_as_in_evaluation(tmp_path: Path):
    class_folders(tmp_path / "data", {"ant": 6, "bee": 4})
    data = folder(tmp_path / "data", policy="trivial", sizes=((0, 32), (3, 64)))
    torch.manual_seed(0)
    net = ResNet("cifar_resnet20", classes=2).eval()
    found = features(net, data, "train")
    train = data.split("train")
    from PIL import Image

    images = [data.preprocess(Image.open(train.path(i)).convert("RGB")) for i in range(len(train))]
    with torch.no_grad():
        expected = pooled(net, torch.stack(images))
    torch.testing.assert_close(found.values, expected, atol=1e-5, rtol=1e-5)
    assert len(found.values) == 8


def test_a_second_time_takes_no_forward_pass(net: ResNet, passes: list[int]):
    first = features(net, digits())
    assert sum(passes) == 360
    second = features(net, digits(batch_size=7))
    assert sum(passes) == 360
    assert (first.from_cache, second.from_cache) == (False, True)
    assert torch.equal(first.values, second.values)
    assert torch.equal(first.labels, second.labels)
    (entry,) = entries()
    assert entry.about == "features of cifar_resnet20 for Digits test, 32-true"


def changed_weights(net: ResNet) -> ResNet:
    with torch.no_grad():
        net.conv1.weight[0, 0, 0, 0] += 1e-3
    return net


def changed_architecture(net: ResNet) -> ResNet:
    other = ResNet(replace(net.architecture, zeros="end"))
    other.load_state_dict(net.state_dict())
    return other.eval()


def changed_preprocess(data: Digits) -> Digits:
    other = Digits(data.settings, preprocess=replace(data.preprocess, mean=(0.5,)))
    other.open()
    return other


@pytest.mark.parametrize(
    "change",
    [
        lambda net, data: (changed_weights(net), data, "test", {}),
        lambda net, data: (changed_architecture(net), data, "test", {}),
        lambda net, data: (net, changed_preprocess(data), "test", {}),
        lambda net, data: (net, digits(eval_size=16), "test", {}),
        lambda net, data: (net, data, "val", {}),
        lambda net, data: (net, data, "test", {"precision": "bf16-mixed"}),
    ],
    ids=["weights", "architecture", "mean", "size", "split", "precision"],
)
def test_whatever_changes_a_number_has_it_computed_anew(net: ResNet, passes: list[int], change):
    features(net, digits())
    seen = sum(passes)
    other, data, split, options = change(net, digits())
    found = features(other, data, split, **options)
    assert not found.from_cache
    assert sum(passes) == seen + len(found.values)
    assert len(entries()) == 2


def test_other_software_has_it_computed_anew(net: ResNet, monkeypatch):
    features(net, digits())
    monkeypatch.setattr("resnet_hub.evaluation.cached.software", lambda: {"torch": "99"})
    assert not features(net, digits()).from_cache


def test_pictures_whose_bytes_change_under_their_name_are_read_anew(tmp_path: Path, passes):
    root = tmp_path / "data"
    class_folders(root / "val", {"ant": 3, "bee": 2})
    net, picture = ResNet("cifar_resnet20", classes=2).eval(), root / "val/ant/1.png"
    before = features(net, folder(root), "val")
    assert features(net, folder(root), "val").from_cache
    stat = picture.stat()
    pattern(40, 30, seed=77).save(picture)
    os.utime(picture, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    after = features(net, folder(root), "val")
    assert not after.from_cache
    same = (before.values == after.values).all(1)
    assert same.tolist() == [True, False, True, True, True]


def test_a_folder_that_moves_keeps_what_was_computed(tmp_path: Path, passes):
    class_folders(tmp_path / "one/val", {"ant": 3, "bee": 2})
    net = ResNet("cifar_resnet20", classes=2).eval()
    features(net, folder(tmp_path / "one"), "val")
    (tmp_path / "one").rename(tmp_path / "two")
    assert features(net, folder(tmp_path / "two"), "val").from_cache


def test_pictures_left_out_have_no_row_and_are_refused_where_they_are_not_to_be(tmp_path: Path):
    root = tmp_path / "data"
    class_folders(root / "val", {"ant": 3, "bee": 2})
    for name in ("ant/0", "ant/1", "ant/2", "bee/1"):
        (root / f"val/{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    net = ResNet("cifar_resnet20", classes=2).eval()
    data = folder(root, on_bad_image="skip", batch_size=1)  # batches of nothing among them
    found = features(net, data, "val")
    assert (found.labels.tolist(), len(found.values)) == ([1], 1)
    assert features(net, data, "val").labels.tolist() == [1]
    with pytest.raises(BadData, match=r"ant/0\.png"):
        features(net, folder(root), "val")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_net_in_training_mode_is_taken_out_of_it(net: ResNet, device: str):
    first = features(net, digits(), accelerator=device)
    statistics = net.bn1.running_mean.clone()
    net.cpu().train()
    (entry,) = entries()
    (entry.folder / "outputs.safetensors").unlink()
    again = features(net, digits(), accelerator=device)
    assert torch.equal(first.values, again.values)
    assert torch.equal(net.bn1.running_mean, statistics)
    assert again.values.device.type == "cpu"


def test_half_precision_is_kept_as_float32_near_the_whole(net: ResNet):
    whole = features(net, digits())
    half = features(net, digits(), precision="bf16-mixed")
    assert half.values.dtype == torch.float32
    assert not torch.equal(whole.values, half.values)
    torch.testing.assert_close(whole.values, half.values, atol=0.2, rtol=0.1)


def test_what_is_not_finite_is_refused_and_not_kept(net: ResNet):
    with torch.no_grad():
        net.conv1.weight.fill_(torch.nan)
    with pytest.raises(Diverged, match="not finite for Digits test"):
        features(net, digits())
    assert entries() == []


def test_other_channels_are_refused_and_other_classes_are_not(net: ResNet):
    with pytest.raises(InvalidSetting, match="takes 3 image channels, but Digits has 1"):
        features(ResNet("cifar_resnet20"), digits())
    three = ResNet("cifar_resnet20", classes=3, in_channels=1)
    assert features(three, digits()).values.shape == (360, 64)


def test_a_split_that_is_not_there_is_refused(tmp_path: Path):
    class_folders(tmp_path / "data/val", {"ant": 1, "bee": 1})
    with pytest.raises(DataMissing, match="Folder: no train images"):
        features(ResNet("cifar_resnet20", classes=2), folder(tmp_path / "data"), "train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit_test_batches": 1}, "trainer.limit_test_batches: has no effect here"),
        ({"devices": 2, "strategy": "ddp"}, "2 processes; features are computed on one device"),
        ({"devices": 2}, "trainer.devices: 2 processes; features are computed on one device"),
        ({"accelerator": "gpu"}, "trainer: No supported gpu backend found"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict, message: str):
    if "gpu" in options.values() and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(InvalidSetting, match=message):
        one_device({**CPU, **options})


def test_evaluation_sizes_go_through_the_weights_preprocessing(net: ResNet):
    data = Digits(
        DataSettings(name="Digits"),
        preprocess=Preprocess(size=12, resize=None, mean=(0.1,), std=(0.7,)),
    )
    data.open()
    batch = next(iter(data.test_dataloader()))
    with torch.no_grad():
        expected = pooled(net, data.preprocess(batch.images))
    found = features(net, data).values[: len(expected)]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def answers(net: ResNet, data: DataModule, views: Views | None = None, **options: object) -> Logits:
    return logits(net, data, views, trainer={**CPU, **options})


def test_logits_a_second_time_take_no_forward_pass(net: ResNet, passes: list[int]):
    for views, looks in (
        (Views(), 1),
        (Views(kind="flip"), 2),
        (Views(kind="ten_crop"), 10),
        (Views(kind="dense", sizes=(8, 11)), 4),
    ):
        passes.clear()
        first = answers(net, digits(eval_resize=11), views)
        assert sum(passes) == 360 * looks
        second = answers(net, digits(eval_resize=11, batch_size=7), views)
        assert sum(passes) == 360 * looks
        assert (first.from_cache, second.from_cache) == (False, True)
        for name in ("values", "labels", "indices"):
            assert torch.equal(getattr(first, name), getattr(second, name))
        assert second.images_per_s == first.images_per_s > 0
        assert second.hardware == first.hardware
        assert first.hardware.startswith("1 × cpu (")
    assert {entry.about for entry in entries()} == {
        f"logits of cifar_resnet20 for Digits test, {views}, 32-true"
        for views in (
            "central crop",
            "central crop and mirror, probabilities averaged",
            "dense at 11, mirrored too, probabilities averaged",
            "dense at 8, mirrored too, probabilities averaged",
            "ten crops, probabilities averaged",
        )
    }


@pytest.mark.parametrize(
    ("views", "other", "seen"),
    [
        (Views(), Views(kind="flip"), 720),
        (Views(kind="flip"), Views(kind="flip", average="logits"), 720),
        (Views(kind="flip"), Views(kind="ten_crop"), 3600),
        (Views(kind="ten_crop"), Views(kind="dense", sizes=(11,)), 720),
        (Views(kind="dense", sizes=(9,)), Views(kind="dense", sizes=(11,)), 720),
        (
            Views(kind="dense", sizes=(9,)),
            Views(kind="dense", sizes=(9,), flip=False),
            360,
        ),
    ],
    ids=str,
)
def test_other_views_are_computed_anew(
    net: ResNet, passes: list[int], views: Views, other: Views, seen: int
):
    answers(net, digits(eval_resize=11), views)
    passes.clear()
    found = answers(net, digits(eval_resize=11), other)
    assert (found.from_cache, sum(passes)) == (False, seen)


def test_features_and_logits_are_not_taken_for_each_other(net: ResNet):
    assert features(net, digits()).values.shape == (360, 64)
    found = answers(net, digits())
    assert (found.from_cache, found.values.shape) == (False, (360, 10))


def test_what_has_no_effect_on_one_look_is_no_part_of_its_key(net: ResNet):
    answers(net, digits())
    assert answers(net, digits(), Views(average="logits", flip=False)).from_cache


def test_sizes_are_shared_one_by_one_and_weigh_alike(net: ResNet, passes: list[int]):
    parts = [answers(net, digits(), Views(kind="dense", sizes=(size,))) for size in (8, 11)]
    passes.clear()
    both = answers(net, digits(), Views(kind="dense", sizes=(8, 11)))
    assert (both.from_cache, passes) == (True, [])
    more = answers(net, digits(), Views(kind="dense", sizes=(11, 13, 8)))
    assert (more.from_cache, sum(passes)) == (False, 720)  # of 13 alone
    expected = torch.stack([part.values.double().softmax(1) for part in parts]).mean(0)
    torch.testing.assert_close(both.values.double().softmax(1), expected, atol=1e-6, rtol=0)


def test_an_ensemble_costs_the_passes_of_each_net_once(passes: list[int]):
    nets = []
    for seed in range(3):
        torch.manual_seed(seed)
        nets.append(ResNet("cifar_resnet20", in_channels=1).eval())
    first = ensemble([answers(net, digits(), Views(kind="flip")) for net in nets[:2]])
    assert sum(passes) == 2 * 720
    passes.clear()
    second = ensemble([answers(net, digits(), Views(kind="flip")) for net in nets[:2]])
    assert (passes, first.from_cache, second.from_cache) == ([], False, True)
    assert torch.equal(first.values, second.values)
    third = ensemble([answers(net, digits(), Views(kind="flip")) for net in nets])
    assert (sum(passes), third.from_cache) == (720, False)


def test_the_split_can_be_chosen_and_is_the_tested_one_otherwise(net: ResNet):
    data = digits()
    assert len(answers(net, data).values) == len(data.split("test")) == 360
    val = logits(net, data, split="val", trainer=CPU)
    assert torch.equal(val.labels, data.split("val").targets)


def test_a_net_of_other_classes_has_no_logits_for_the_data():
    net = ResNet("cifar_resnet20", classes=3, in_channels=1)
    with pytest.raises(InvalidSetting, match="net: 3 classes, but Digits has 10"):
        answers(net, digits())


FLIP, CROPS, DENSE = Views(kind="flip"), Views(kind="ten_crop"), Views(kind="dense", sizes=(8, 11))


def asked_of(ranks: int, asked: list, cwd: Path, cache: str) -> list[list[dict]]:
    """Return what each rank was answered, and saw."""
    variables = {"TORCH_HOME": str(cwd / cache)}
    with Ranks(ranks, looked, asked, cwd=cwd, variables=variables) as started:
        return started.results(timeout=120)


def test_processes_get_what_one_gets_and_each_image_is_seen_once(tmp_path: Path, monkeypatch):
    asked = [(0, 13, Views()), (0, 13, FLIP), (0, 13, CROPS), (0, 13, DENSE)]
    asked += [(0, 1, Views()), (0, 1, CROPS), (0, 1, DENSE), (0, 2, FLIP)]
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "alone"))
    alone = looked(0, asked)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "two"))
    ranks = asked_of(2, asked, tmp_path, "two")
    for (_, count, views), one, *both in zip(asked, alone, *ranks, strict=True):
        looks = {"center": 1, "flip": 2, "ten_crop": 10, "dense": 4}[views.kind]
        assert one["images"] == sum(part["images"] for part in both) == count * looks
        for part in both:
            assert part["indices"].tolist() == list(range(count))
            assert np.array_equal(part["labels"], one["labels"])
            np.testing.assert_allclose(part["values"], one["values"], atol=1e-5)
            assert np.array_equal(part["values"], both[0]["values"])
            assert not part["from_cache"]
    first, second = ([part["kept"] for part in found] for found in ranks)
    assert (first, second) == ([1, 1, 1, 2, 1, 1, 2, 1], [0] * 8)
    # What the first wrote is what one process alone would have kept.
    assert len(entries()) == 10
    for part in looked(0, asked):
        assert (part["from_cache"], part["images"]) == (True, 0)


def test_processes_take_from_the_cache_what_is_there_and_the_rest_together(
    tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    (known,) = looked(0, [(0, 9, FLIP)])
    asked = [(0, 9, FLIP), (1, 9, FLIP), (1, 9, FLIP), (2, 9, FLIP), (0, 9, FLIP)]
    ranks = asked_of(2, asked, tmp_path, "cache")
    for found in ranks:
        assert [part["from_cache"] for part in found] == [True, False, True, False, True]
        assert np.array_equal(found[0]["values"], known["values"])
        assert np.array_equal(found[4]["values"], known["values"])
        assert np.array_equal(found[1]["values"], found[2]["values"])
    seen = [sum(part["images"] for part in parts) for parts in zip(*ranks, strict=True)]
    assert seen == [0, 18, 0, 18, 0]
    for found in asked_of(2, asked, tmp_path, "cache"):
        assert [(part["from_cache"], part["images"]) for part in found] == [(True, 0)] * 5


def test_more_processes_than_pictures(tmp_path: Path, monkeypatch):
    asked = [(0, 2, DENSE), (0, 1, CROPS), (0, 2, Views())]
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "alone"))
    alone = looked(0, asked)
    for found in asked_of(3, asked, tmp_path, "three"):
        for one, part in zip(alone, found, strict=True):
            np.testing.assert_allclose(part["values"], one["values"], atol=1e-5)
            assert np.array_equal(part["indices"], one["indices"])
