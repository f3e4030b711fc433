"""Digits: the fixed split, the pixels, and life without scikit-learn."""

import sys

import pytest
import torch
from sklearn.datasets import load_digits

from resnet_hub.data.arrays import ArrayDataset
from resnet_hub.data.batches import Selection
from resnet_hub.data.digits import Digits
from resnet_hub.data.module import Split
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import DataMissing, InvalidSetting
from resnet_hub.preprocess import Preprocess

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def whole(module: Digits, split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all images and labels of a split."""
    dataset = module.split(split)
    batch = dataset[Selection(0, torch.arange(len(dataset)))]
    return batch.images, batch.labels


def test_the_splits_have_their_sizes_and_together_are_the_set() -> None:
    module = Digits()
    images = [whole(module, split)[0] for split in SPLITS]
    assert [len(x) for x in images] == [1257, 180, 360]
    assert all(x.shape[1:] == (1, 8, 8) and x.dtype is torch.uint8 for x in images)
    ours = sorted(map(tuple, torch.cat(images).flatten(1).tolist()))
    levels = load_digits().data
    assert ours == sorted(map(tuple, (levels * 255 / 16 + 0.5).astype(int).tolist()))


def test_labels_stay_with_their_images() -> None:
    digits = load_digits()
    known = {tuple(x): y for x, y in zip(digits.data.tolist(), digits.target, strict=True)}
    for split in SPLITS:
        images, labels = whole(Digits(), split)
        levels = (images.flatten(1).double() * 16 / 255).round()
        assert [known[tuple(x)] for x in levels.tolist()] == labels.tolist()


def test_the_split_is_stratified() -> None:
    sizes = torch.from_numpy(load_digits().target).bincount()
    for split in SPLITS:
        labels = whole(Digits(), split)[1]
        expected = sizes * len(labels) / 1797
        assert ((labels.bincount() - expected).abs() <= 2).all()


def test_the_split_is_fixed_whatever_the_seed() -> None:
    for split in SPLITS:
        first, other = whole(Digits(seed=0), split), whole(Digits(seed=12), split)
        assert torch.equal(first[0], other[0])
        assert torch.equal(first[1], other[1])
    assert whole(Digits(), "test")[1][:12].tolist() == [1, 1, 3, 9, 2, 5, 6, 8, 7, 3, 7, 0]


def test_black_stays_black_and_the_brightest_level_becomes_white() -> None:
    images = whole(Digits(), "train")[0]
    assert images.unique().tolist() == [round(level * 255 / 16 + 1e-9) for level in range(17)]


def test_the_constants_are_those_of_the_training_split() -> None:
    pixels = whole(Digits(), "train")[0].double() / 255
    assert Digits.mean == (round(pixels.mean().item(), 4),)
    assert Digits.std == (round(pixels.std(correction=0).item(), 4),)
    own = Digits().preprocess
    assert own == Preprocess(size=8, resize=None, mean=Digits.mean, std=Digits.std)


def test_labels_are_known_before_reading() -> None:
    module = Digits()
    assert module.labels == list("0123456789")
    assert module.splits == {}


def test_another_number_may_be_held_out_and_the_test_images_stay() -> None:
    test = whole(Digits(), "test")[0]
    none = Digits(DataSettings(held_out=0)).open()
    assert set(none.splits) == {"train", "test"}
    assert len(none.splits["train"]) == 1437
    assert torch.equal(whole(none, "test")[0], test)  # type: ignore[arg-type]
    more = Digits(DataSettings(held_out=400)).open()
    assert [len(more.splits[split]) for split in SPLITS] == [1037, 400, 360]
    with pytest.raises(InvalidSetting, match=r"data\.held_out: 1,437 is not 0 to 1,436"):
        Digits(DataSettings(held_out=1437)).open()


def test_splits_of_the_training_images_share_them() -> None:
    splits = Digits().open().splits
    train, val = splits["train"], splits["val"]
    assert isinstance(train, ArrayDataset)
    assert isinstance(val, ArrayDataset)
    assert train.images.data_ptr() == val.images.data_ptr()


def test_a_small_padding_shifts_and_never_mirrors() -> None:
    module = Digits(DataSettings(pad=1)).open()
    assert module.augment == "pad_crop"
    batch = module.split("train")[Selection(0, torch.arange(64))]
    plain = torch.nn.functional.pad(module.prepare(batch, train=False).images, (1,) * 4)
    shifted = module.prepare(batch, train=True).images
    windows = torch.stack([plain[..., r : r + 8, c : c + 8] for r in range(3) for c in range(3)])
    assert (windows == shifted).flatten(2).all(2).any(0).all()
    assert not torch.equal(shifted, module.prepare(batch, train=False).images)


def test_without_scikit_learn_a_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataMissing) as error:
        Digits().open()
    assert 'pip install "resnet-hub[quickstart]"' in str(error.value)
    assert "\n" not in str(error.value)
