"""Sets in memory: whole-batch augmentation against a slow loop, splits, mean images, settings."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_hub.data import augment
from resnet_hub.data.arrays import ArrayDataset, hold_out
from resnet_hub.data.arrays_module import ArrayDataModule
from resnet_hub.data.augment import alternating_flip, erase, shift
from resnet_hub.data.augment import flip as flipped
from resnet_hub.data.batches import Selection
from resnet_hub.data.digits import Digits
from resnet_hub.data.policies import policy_of
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import BadData, DataMissing, InvalidSetting
from resnet_hub.preprocess import Preprocess
from resnet_hub.randomness import integers, keyed_generator, sample_keys, uniform


class Made(ArrayDataModule):
    """Forty 6×6 images of two channels, in three classes."""

    own_augment = "pad_crop_flip"
    names = ("a", "b", "c")
    side = 6
    mean, std = (0.5, 0.25), (0.2, 0.3)

    def read(self) -> None:
        images = made_images(40)
        labels = torch.arange(40) % 3
        self.splits = self._splits(
            ArrayDataset(images, labels, self.seed),
            ArrayDataset(images[:9], labels[:9], self.seed),
            held_out=self.settings.held_out or 0,
            seed=self.seed,
        )


class Coloured(Made):
    """The same of three channels."""

    mean, std = (0.5, 0.25, 0.25), (0.2, 0.3, 0.3)

    def read(self) -> None:
        images = made_images(40)
        images = torch.cat((images, images[:, :1].flip(3)), dim=1)
        labels = torch.arange(40) % 3
        self.splits = self._splits(
            ArrayDataset(images, labels, self.seed),
            ArrayDataset(images[:9], labels[:9], self.seed),
            held_out=self.settings.held_out or 0,
            seed=self.seed,
        )


def made_images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 2, 6, 6), generator=generator, dtype=torch.uint8)


def shift_and_flip(
    images: torch.Tensor, keys: torch.Tensor, *, pad: int, flip: bool
) -> torch.Tensor:
    images = shift(images, keys, pad=pad)
    return flipped(images, keys) if flip else images


def reference_shift_and_flip(
    image: torch.Tensor, key: torch.Tensor, *, pad: int, flip: bool
) -> torch.Tensor:
    """Augment one image, pixel by pixel."""
    _, height, width = image.shape
    down, right = (int(integers(key, stream, 2 * pad + 1)) - pad for stream in (0, 1))
    result = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            if 0 <= row + down < height and 0 <= column + right < width:
                result[:, row, column] = image[:, row + down, column + right]
    return result.flip(2) if flip and int(integers(key, 2, 2)) else result


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("pad", "shape"), [(0, (2, 5, 5)), (1, (1, 4, 7)), (4, (3, 9, 6))])
def test_shifting_and_flipping_a_batch_equals_a_loop_over_its_samples(
    pad: int, shape: tuple[int, int, int], flip: bool
) -> None:
    images = torch.randn(60, *shape, generator=torch.Generator().manual_seed(1))
    keys = sample_keys(0, 3, torch.arange(60))
    ours = shift_and_flip(images, keys, pad=pad, flip=flip)
    loop = [
        reference_shift_and_flip(image, key, pad=pad, flip=flip)
        for image, key in zip(images, keys, strict=True)
    ]
    assert torch.equal(ours, torch.stack(loop))
    assert ours.dtype is images.dtype


def test_every_shift_and_both_sides_come_up() -> None:
    marker = torch.zeros(1, 1, 3, 3)
    marker[..., 1, 0] = 1
    images = marker.expand(2000, 1, 3, 3)
    keys = sample_keys(0, 0, torch.arange(2000))
    places = shift_and_flip(images, keys, pad=1, flip=True).flatten(1)
    # The marked pixel can be in any row, and in any column or (a third of the shifts) outside.
    assert (places.sum(0) > 0).all()
    assert 0.2 < 1 - places.sum(1).mean() < 0.5


def test_an_empty_batch_is_augmented_to_an_empty_batch() -> None:
    module = Made().open()
    batch = module.split("train")[Selection(0, torch.arange(0))]
    assert batch.images.shape == (0, 2, 6, 6)
    for train in (False, True):
        prepared = module.prepare(batch, train=train)
        assert prepared.images.shape == (0, 2, 6, 6)
        assert prepared.images.dtype is torch.float32


def test_a_batch_holds_what_was_selected() -> None:
    train = Made(seed=5).open().split("train")
    indices = torch.tensor([7, 3, 39])
    batch = train[Selection(2, indices)]
    assert torch.equal(batch.images, made_images(40)[indices])
    assert batch.labels.tolist() == [1, 0, 0]
    assert torch.equal(batch.indices, indices)
    assert torch.equal(batch.keys, sample_keys(5, 2, indices))
    assert batch.skipped == 0


def test_a_sample_is_augmented_the_same_in_any_batch() -> None:
    module = Made().open()
    train = module.split("train")
    whole = module.prepare(train[Selection(1, torch.arange(40))], train=True).images
    part = module.prepare(train[Selection(1, torch.tensor([30, 2]))], train=True).images
    assert torch.equal(part, whole[[30, 2]])
    other = module.prepare(train[Selection(2, torch.arange(40))], train=True).images
    assert not torch.equal(other, whole)


def test_evaluation_only_normalises() -> None:
    module = Made().open()
    prepared = module.prepare(module.split("test")[Selection(0, torch.arange(9))], train=False)
    mean, std = (torch.tensor(x).view(2, 1, 1) for x in (Made.mean, Made.std))
    expected = (made_images(40)[:9] / 255 - mean) / std
    torch.testing.assert_close(prepared.images, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("augment", ["none", "pad_crop", "pad_crop_flip"])
def test_training_augments_as_the_setting_says(augment: Any) -> None:
    module = Made(DataSettings(augment=augment, pad=2)).open()
    batch = module.split("train")[Selection(0, torch.arange(40))]
    plain = module.prepare(batch, train=False).images
    expected = plain
    if augment != "none":
        expected = shift_and_flip(plain, batch.keys, pad=2, flip=augment == "pad_crop_flip")
    assert torch.equal(module.prepare(batch, train=True).images, expected)


def test_an_alternating_flip_comes_before_the_crop_and_reflection_pads_it() -> None:
    settings = DataSettings(augment="pad_crop_alternating_flip", pad=2, pad_mode="reflect")
    module = Made(settings, seed=4).open()
    for epoch in (0, 1):
        batch = module.split("train")[Selection(epoch, torch.arange(40))]
        plain = module.prepare(batch, train=False).images
        turned = alternating_flip(plain, batch.indices, seed=4, epoch=epoch)
        expected = shift(turned, batch.keys, pad=2, mode="reflect")
        assert torch.equal(module.prepare(batch, train=True).images, expected)


def test_training_images_are_shifted_and_then_erased() -> None:
    module = Made(DataSettings(pad=2, erase=0.5, erase_fill="noise")).open()
    batch = module.split("train")[Selection(0, torch.arange(40))]
    shifted = shift_and_flip(
        module.prepare(batch, train=False).images, batch.keys, pad=2, flip=True
    )
    expected = erase(
        shifted, batch.keys, probability=0.5, area=(0.02, 0.33), aspect=(0.3, 3.3), fill="noise"
    )
    assert torch.equal(module.prepare(batch, train=True).images, expected)


@pytest.mark.parametrize("policy", ["trivial", "randaugment", "randaugment_increasing"])
@pytest.mark.parametrize("held_out", [0, 10])
def test_a_policy_changes_training_images_of_a_set_in_memory_keyed_by_sample(
    policy: Any, held_out: int
) -> None:
    module = Coloured(DataSettings(policy=policy, held_out=held_out), seed=2).open()
    plain = Coloured(DataSettings(held_out=held_out), seed=2).open()
    chosen = policy_of(module.settings, module.preprocess)
    assert chosen is not None
    whole, untouched = (m.split("train")[Selection(1, torch.arange(30))] for m in (module, plain))
    assert not torch.equal(whole.images, untouched.images)
    for image, before, key in zip(whole.images, untouched.images, whole.keys.tolist(), strict=True):
        with keyed_generator(key):
            picture = chosen(Image.fromarray(before.permute(1, 2, 0).numpy()))
        assert torch.equal(image, torch.from_numpy(np.array(picture)).permute(2, 0, 1))
    part = module.split("train")[Selection(1, torch.tensor([20, 3]))]
    assert torch.equal(part.images, whole.images[[20, 3]])
    assert module.split("train")[Selection(1, torch.arange(0))].images.shape == (0, 3, 6, 6)
    for name in {"test", "val"} & set(module.splits):
        seen, expected = (m.splits[name][Selection(0, torch.arange(5))] for m in (module, plain))  # type: ignore[index]
        assert torch.equal(seen.images, expected.images)


def test_a_policy_beside_a_mean_image_is_measured_on_the_images_themselves() -> None:
    settings = DataSettings(policy="randaugment_increasing", per_pixel_mean=True)
    module, plain = Coloured(settings), Coloured(DataSettings(per_pixel_mean=True))
    assert module.preprocess == plain.preprocess
    assert module.open().split("train").policy.fill == (128, 64, 64)  # type: ignore[attr-defined]


def test_a_policy_leaves_grey_images_grey() -> None:
    module = Digits(DataSettings(policy="trivial", pad=1)).open()
    assert module.split("train")[Selection(0, torch.arange(7))].images.shape == (7, 1, 8, 8)


def test_sizes_follow_the_epoch_in_memory_too() -> None:
    module = Made(DataSettings(sizes=((0, 4), (1, 6), (2, 8)), augment="none")).open()
    for epoch, side in ((0, 4), (1, 6), (2, 8), (9, 8)):
        batch = module.split("train")[Selection(epoch, torch.arange(5))]
        sized = replace(module.preprocess, size=side)
        expected = sized.normalise(sized.crop(batch.images))
        assert torch.equal(module.prepare(batch, train=True).images, expected)
        assert module.prepare(batch, train=False).images.shape == (5, 2, 6, 6)


def test_the_border_is_the_mean() -> None:
    module = Made(DataSettings(pad=6)).open()
    batch = module.split("train")[Selection(0, torch.arange(40))]
    images = module.prepare(batch, train=True).images
    for pixels in (6, -6):
        away = integers(batch.keys, 0, 13) - 6 == pixels
        assert (images[away] == 0).all()
    assert (integers(batch.keys, 0, 13) - 6).abs().max() == 6


def test_read_whole_a_split_has_no_policy_and_is_resized_later() -> None:
    data = Coloured(DataSettings(policy="trivial", held_out=10))
    data.open()
    train = cast(ArrayDataset, data.split("train"))
    whole = train.as_resized(Preprocess(size=6, resize=9))
    assert whole.uniform
    batch = whole[Selection(0, torch.arange(len(whole)))]
    assert torch.equal(batch.images, train.images[train.rows])
    assert torch.equal(batch.labels, train.targets)
    assert not torch.equal(batch.images, train[Selection(0, torch.arange(30))].images)
    assert whole.stamp() == train.stamp()


def test_splits_share_the_images_and_together_are_the_training_set() -> None:
    module = Made(DataSettings(held_out=10), seed=3).open()
    train, val = module.splits["train"], module.splits["val"]
    assert isinstance(train, ArrayDataset)
    assert isinstance(val, ArrayDataset)
    assert (len(train), len(val), len(module.splits["test"])) == (30, 10, 9)
    assert train.images.data_ptr() == val.images.data_ptr()
    assert train.rows is not None
    assert val.rows is not None
    assert torch.cat((train.rows, val.rows)).sort().values.tolist() == list(range(40))
    batch = val[Selection(0, torch.tensor([9, 0]))]
    assert torch.equal(batch.images, made_images(40)[val.rows[[9, 0]]])
    assert batch.indices.tolist() == [9, 0]
    assert module.watched == "val"
    assert module.selects


def test_without_held_out_images_there_is_no_validation_split() -> None:
    module = Made().open()
    assert set(module.splits) == {"train", "test"}
    assert module.watched == "test"
    assert not module.selects
    with pytest.raises(DataMissing, match="Made: there is no val split here"):
        module.split("val")


def test_the_held_out_images_depend_on_the_seed_alone() -> None:
    labels = torch.arange(100) % 10
    kept, held = hold_out(labels, 20, 1)
    again = hold_out(labels, 20, 1)
    assert torch.equal(kept, again[0])
    assert torch.equal(held, again[1])
    assert not torch.equal(held, hold_out(labels, 20, 2)[1])
    assert held.dtype is kept.dtype is torch.int64


@pytest.mark.parametrize("count", [0, 1, 7, 30, 55, 99])
def test_hold_out_takes_the_same_share_of_every_class(count: int) -> None:
    sizes = torch.tensor([50, 30, 15, 5])
    labels = torch.arange(4).repeat_interleave(sizes)
    kept, held = hold_out(labels, count, 0)
    assert torch.cat((kept, held)).sort().values.tolist() == list(range(100))
    assert torch.equal(held, held.sort().values)
    shares = labels[held].bincount(minlength=4)
    assert shares.sum() == count
    assert ((shares - sizes * count / 100).abs() <= 1).all()


def test_equal_classes_give_equally() -> None:
    labels = torch.arange(10).repeat(100)
    assert labels[hold_out(labels, 100, 0)[1]].bincount().tolist() == [10] * 10
    assert set(labels[hold_out(labels, 105, 0)[1]].bincount().tolist()) == {10, 11}


def test_a_small_class_is_not_used_up() -> None:
    labels = torch.tensor([0] * 1000 + [1] * 10)
    held = hold_out(labels, 101, 0)[1]
    assert labels[held].bincount().tolist() == [100, 1]


@pytest.mark.parametrize("count", [-1, 10, 11])
def test_holding_out_more_than_there_is_is_refused(count: int) -> None:
    with pytest.raises(InvalidSetting, match=f"data.held_out: {count} is not 0 to 9") as error:
        hold_out(torch.zeros(10, dtype=torch.int64), count, 0)
    assert "\n" not in str(error.value)


def test_a_mean_image_is_the_training_splits() -> None:
    module = Made(DataSettings(per_pixel_mean=True, held_out=10), seed=1)
    preprocess = module.preprocess  # reads the set by itself
    train = module.splits["train"]
    assert isinstance(train, ArrayDataset)
    assert train.rows is not None
    expected = made_images(40)[train.rows].double().mean(0).flatten() / 255
    assert len(preprocess.mean) == 2 * 6 * 6
    assert preprocess.mean == tuple(round(x, 6) for x in expected.tolist())
    assert preprocess.std == (0.25, 0.25)
    assert module.preprocess is preprocess  # measured once
    batch = train[Selection(0, torch.arange(30))]
    assert module.prepare(batch, train=False).images.mean(0).abs().max() < 1e-5


def test_a_mean_image_is_summed_in_parts_exactly() -> None:
    images = torch.full((9000, 1, 1, 1), 255, dtype=torch.uint8)
    images[:3000] = 0
    dataset = ArrayDataset(images, torch.zeros(9000, dtype=torch.int64), 0)
    assert dataset.mean_image() == (round(2 / 3, 6),)


def test_given_preprocessing_wins() -> None:
    given = Preprocess(size=6, resize=None, mean=(0.1, 0.2), std=(1.0, 1.0))
    assert Made(preprocess=given).preprocess is given
    image = replace(given, mean=(0.1,) * 72)
    for settings in (DataSettings(), DataSettings(per_pixel_mean=True)):
        module = Made(settings, preprocess=image)
        assert module.preprocess is image
        assert module.splits == {}  # nothing was read for a mean image of its own


def test_sizes_overrule_given_preprocessing() -> None:
    given = Preprocess(size=6, resize=9, mean=(0.1, 0.2), std=(1.0, 1.0))
    asked = Made(DataSettings(eval_size=4), preprocess=given).preprocess
    assert asked == replace(given, size=4, resize=6)
    asked = Made(DataSettings(eval_resize=7), preprocess=given).preprocess
    assert asked == replace(given, resize=7)
    same = Made(DataSettings(eval_size=6, eval_resize=9), preprocess=given).preprocess
    assert same == given


def test_what_given_preprocessing_cannot_follow_is_refused() -> None:
    given = Preprocess(size=6, resize=None, mean=(0.1, 0.2), std=(1.0, 1.0))
    with pytest.raises(InvalidSetting, match=r"data.per_pixel_mean: the weights come with a mean"):
        Made(DataSettings(per_pixel_mean=True), preprocess=given)
    with pytest.raises(InvalidSetting, match=r"data.eval_resize: 5 is below the evaluation"):
        Made(DataSettings(eval_resize=5), preprocess=given)
    for sizes in ({"eval_size": 8}, {"size": 5}):
        with pytest.raises(InvalidSetting, match=r"preprocess.mean: 72 numbers"):
            Made(DataSettings(**sizes), preprocess=replace(given, mean=(0.1,) * 72))


def test_training_images_of_another_size_show_the_same_share() -> None:
    module = Made(DataSettings(eval_size=4, eval_resize=6, size=2, augment="none")).open()
    batch = module.split("train")[Selection(0, torch.arange(4))]
    expected = replace(module.preprocess, size=2, resize=3)
    images = expected.normalise(expected.crop(batch.images))
    assert torch.equal(module.prepare(batch, train=True).images, images)


def test_sizes_of_evaluation_and_training_are_followed() -> None:
    settings = DataSettings(eval_size=8, eval_resize=10, size=5, interpolation="bicubic")
    module = Made(settings).open()
    own = module.preprocess
    assert (own.size, own.resize, own.interpolation) == (8, 10, "bicubic")
    batch = module.split("train")[Selection(0, torch.arange(4))]
    assert module.prepare(batch, train=False).images.shape == (4, 2, 8, 8)
    assert module.prepare(batch, train=True).images.shape == (4, 2, 5, 5)


@pytest.mark.parametrize(
    ("batch_size", "ranks", "sizes"),
    [(16, 1, [16]), (100, 1, [40]), (20, 2, [20, 20]), (100, 3, [14, 13, 13])],
)
def test_a_full_training_batch_is_what_the_loader_gives(
    batch_size: int, ranks: int, sizes: list[int]
) -> None:
    for rank, size in enumerate(sizes):
        module = Made(DataSettings(batch_size=batch_size))
        module.trainer = cast(Any, SimpleNamespace(global_rank=rank, world_size=ranks))
        assert module.train_batch_size() == size
        assert max(len(batch.labels) for batch in module.train_dataloader()) == size


def test_labels_are_known_before_reading() -> None:
    module = Made()
    assert module.labels == ["a", "b", "c"]
    assert module.splits == {}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"augment": "resized_crop_flip"}, "data.augment: resized_crop_flip is for sets of image"),
        ({"augment": "scale_crop_flip"}, "Made takes none, pad_crop, pad_crop_flip"),
        ({"pad": -1}, "data.pad: -1 is not 0 to 6"),
        ({"pad": 7}, "data.pad: 7 is not 0 to 6, the side of Made's images"),
        ({"classes": ("a",)}, "data.classes: Made has no class folders"),
        ({"eval_size": 0}, "preprocess.size: 0 is not 1 to"),
        ({"eval_resize": 0}, "data.eval_resize: 0 is below the evaluation size, 6"),
        ({"eval_resize": 5}, "data.eval_resize: 5 is below the evaluation size, 6"),
        ({"eval_resize": 7, "eval_size": 8}, "data.eval_resize: 7 is below the evaluation size"),
        ({"size": -2}, "preprocess.size: -2 is not"),
        ({"sizes": ((0, 4), (3, 9000))}, "preprocess.size: .* is not 1 to"),
        ({"sizes": ((0, 4), (3, 8)), "per_pixel_mean": True}, "leave data.size, data.sizes"),
        ({"policy": "trivial"}, "data.policy: trivial is for 1 or 3 channels; .* have 2"),
        ({"lighting": 0.1}, "data.lighting: is for 3 channels"),
        ({"pad": 6, "pad_mode": "reflect"}, "data.pad: 6 pixels cannot be reflected .* of 6"),
        ({"sizes": ((0, 2), (3, 8)), "pad_mode": "reflect"}, "reflected .* image of 2"),
        ({"interpolation": "nearest"}, "preprocess.interpolation: 'nearest'"),
        ({"per_pixel_mean": True, "eval_size": 8}, "data.per_pixel_mean: the mean image is 6"),
        ({"per_pixel_mean": True, "size": 5}, "leave data.size"),
        ({"per_pixel_mean": True, "eval_resize": 5}, "data.eval_resize out"),
    ],
)
def test_settings_that_no_set_in_memory_can_follow_are_refused_at_once(
    settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidSetting, match=reason) as error:
        Made(DataSettings(**{"pad": 2, **settings}))
    assert "\n" not in str(error.value)


def test_draws_of_augmentation_use_streams_of_their_own() -> None:
    # Stochastic depth draws from the same keys: its streams must not be these.
    from resnet_hub.nets import stochastic_depth

    keys = sample_keys(0, 0, torch.arange(4096))
    assert stochastic_depth._STREAM > augment._ERASE_ASPECT + augment._ATTEMPTS
    depth = uniform(keys, stochastic_depth._STREAM)
    for stream, bound in ((0, 9), (1, 9), (2, 2)):
        drawn = integers(keys, stream, bound).float()
        assert abs(torch.corrcoef(torch.stack((depth, drawn)))[0, 1]) < 0.08


@pytest.mark.gpu
def test_a_gpu_augments_as_the_cpu_does() -> None:
    module = Made().open()
    batch = module.split("train")[Selection(0, torch.arange(40))]
    on_gpu = batch._replace(images=batch.images.cuda(), keys=batch.keys.cuda())
    ours = module.prepare(on_gpu, train=True).images.cpu()
    torch.testing.assert_close(ours, module.prepare(batch, train=True).images, rtol=0, atol=1e-6)


class Mislabelled(Made):
    """The same with one label of no class."""

    split: str
    label: int

    def read(self) -> None:
        super().read()
        split = cast(ArrayDataset, self.splits[self.split])
        split.labels = split.labels.clone()
        split.labels[5 if split.rows is None else split.rows[5]] = self.label


@pytest.mark.fault("D9")
@pytest.mark.parametrize("label", [3, -1, -100, 1 << 40])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_label_that_no_class_has_is_refused_before_any_step_by_its_sample(
    split: str, label: int
) -> None:
    module = Mislabelled(DataSettings(held_out=10))
    module.split, module.label = split, label
    count = {"train": 30, "val": 10, "test": 9}[split]
    message = f"Mislabelled {split}: sample 5 has label {label}, which is not 0 to 2; 1 of {count}"
    with pytest.raises(BadData, match=message):
        module.open()
    with pytest.raises(BadData, match=message):  # it is not opened halfway
        module.setup("fit")
