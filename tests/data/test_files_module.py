import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from pictures import class_folders, cut, pattern, save
from torch import Tensor, nn

from resnet_hub.data.augment import erase, lighting
from resnet_hub.data.batches import Batch, Selection
from resnet_hub.data.files import ImageFiles
from resnet_hub.data.folder import Folder
from resnet_hub.data.module import Split
from resnet_hub.data.pixels import read_pixels
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import DataMissing, InvalidSetting
from resnet_hub.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess


@pytest.fixture
def root(tmp_path: Path) -> Path:
    class_folders(tmp_path / "train", {"cat": 4, "dog": 4})
    class_folders(tmp_path / "val", {"cat": 2, "dog": 2})
    return tmp_path


def folder(root: Path, preprocess: Preprocess | None = None, **settings: Any) -> Folder:
    data = Folder(DataSettings(name="Folder", root=str(root), **settings), preprocess=preprocess)
    data.open()
    return data


def batch(data: Folder, split: Split) -> Batch:
    files = data.split(split)
    return files[Selection(0, torch.arange(len(files)))]


def test_evaluation_is_imagenets_unless_settings_say_otherwise(root: Path) -> None:
    assert folder(root).preprocess == Preprocess(
        size=224, resize=256, interpolation="bilinear", mean=IMAGENET_MEAN, std=IMAGENET_STD
    )
    asked = folder(root, eval_size=32, eval_resize=40, interpolation="bicubic").preprocess
    assert (asked.size, asked.resize, asked.interpolation) == (32, 40, "bicubic")
    assert batch(folder(root, eval_size=32, eval_resize=40), "val").images.shape[2:] == (32, 32)


def test_a_new_size_alone_keeps_the_share_that_is_seen(root: Path) -> None:
    assert folder(root, eval_size=112).preprocess.resize == 128
    assert folder(root, eval_size=288).preprocess.resize == 329
    squashed = Preprocess(size=32, resize=None)
    assert folder(root, squashed, eval_size=64).preprocess == replace(squashed, size=64)


def test_the_weights_preprocessing_is_used_where_given(root: Path) -> None:
    given = Preprocess(size=24, resize=30, interpolation="bicubic", mean=(0.5,) * 3, std=(0.2,) * 3)
    data = folder(root, given)
    assert data.preprocess == given
    image = batch(data, "val").images[0]
    assert torch.equal(image, given.crop(read_pixels(root / "val/cat/0.png")))
    assert batch(data, "train").images.shape == (8, 3, 24, 24)


def test_training_images_have_a_size_of_their_own(root: Path) -> None:
    for augment in ("none", "resized_crop_flip", "scale_crop_flip"):
        data = folder(root, augment=augment, size=16, scale=(16, 24), eval_size=32)
        assert batch(data, "train").images.shape == (8, 3, 16, 16)
        assert batch(data, "val").images.shape == (4, 3, 32, 32)


def test_without_augmentation_training_images_are_as_evaluated(root: Path) -> None:
    data = folder(root, augment="none", eval_size=24, eval_resize=28)
    expected = data.preprocess.crop(read_pixels(root / "train/cat/1.png"))
    assert torch.equal(batch(data, "train").images[1], expected)
    smaller = folder(root, augment="none", size=12, eval_size=24, eval_resize=28)
    expected = Preprocess(size=12, resize=14).crop(read_pixels(root / "train/cat/1.png"))
    assert torch.equal(batch(smaller, "train").images[1], expected)


def test_training_images_are_cropped_at_random_by_default(root: Path) -> None:
    data = folder(root, eval_size=16)
    assert data.augment == "resized_crop_flip"
    files = data.split("train")
    first, second = (files[Selection(epoch, torch.arange(8))].images for epoch in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("size", "eval_size", "eval_resize"), [(160, 224, 236), (176, 224, 232), (128, 160, 182)]
)
def test_train_and_test_sizes_differ_as_fixres_has_them(
    root: Path, size: int, eval_size: int, eval_resize: int
) -> None:
    data = folder(root, size=size, eval_size=eval_size, eval_resize=eval_resize)
    assert batch(data, "train").images.shape == (8, 3, size, size)
    tested = batch(data, "val")
    assert tested.images.shape == (4, 3, eval_size, eval_size)
    expected = Preprocess(size=eval_size, resize=eval_resize)
    assert torch.equal(tested.images[0], expected.crop(read_pixels(root / "val/cat/0.png")))
    assert data.preprocess == expected  # what an exported model carries


def test_sizes_follow_the_epoch_in_training_alone(root: Path) -> None:
    data = folder(root, sizes=((1, 32), (3, 96)), eval_size=40, augment="scale_crop_flip",
                  scale=(96, 100))  # fmt: skip
    for epoch, side in enumerate((32, 32, 64, 96, 96)):
        selected = data.split("train")[Selection(epoch, torch.arange(8))]
        assert data.prepare(selected, train=True).images.shape == (8, 3, side, side)
        assert data.split("val")[Selection(epoch, torch.arange(2))].images.shape[2:] == (40, 40)


@pytest.mark.parametrize("augment", ["none", "resized_crop_flip", "scale_crop_flip"])
def test_a_policy_changes_training_images_alone(root: Path, augment: str) -> None:
    settings: dict[str, Any] = {"augment": augment, "eval_size": 24, "scale": (24, 30)}
    plain = folder(root, **settings)
    changed = folder(root, policy="randaugment_increasing", policy_magnitude=7, **settings)
    assert torch.equal(batch(plain, "val").images, batch(changed, "val").images)
    before, after = batch(plain, "train").images, batch(changed, "train").images
    assert before.shape == after.shape
    same = (before == after).flatten(1).all(1)
    assert int((~same).sum()) > 0


def test_training_images_are_lit_then_erased_after_normalisation(root: Path) -> None:
    data = folder(root, eval_size=16, lighting=0.1, erase=1.0, erase_area=(0.1, 0.2))
    raw = batch(data, "train")
    normalised = data.preprocess.normalise(raw.images)
    lit = lighting(normalised, raw.keys, sd=0.1, std=IMAGENET_STD)
    expected = erase(lit, raw.keys, probability=1.0, area=(0.1, 0.2), aspect=(0.3, 3.3))
    assert torch.equal(data.prepare(raw, train=True).images, expected)
    assert torch.equal(data.prepare(raw, train=False).images, normalised)
    assert not torch.equal(expected, lit)


def test_repeats_are_of_training_alone(root: Path) -> None:
    data = folder(root, eval_size=16, batch_size=4, repeats=4)
    assert data.train_batches() == 2
    trained = list(data.train_dataloader())
    assert sorted(torch.cat([x.indices for x in trained]).unique(return_counts=True)[1]) == [4, 4]
    assert sorted(torch.cat([x.indices for x in data.val_dataloader()])) == [0, 1, 2, 3]


def test_images_are_normalised_after_the_transfer(root: Path) -> None:
    data = folder(root, eval_size=16)
    raw = batch(data, "val")
    expected = (raw.images / 255 - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(
        IMAGENET_STD
    ).view(3, 1, 1)
    torch.testing.assert_close(data.prepare(raw, train=False).images, expected)
    torch.testing.assert_close(data.prepare(raw, train=True).images, expected)


def test_one_channel_nets_are_given_grey(root: Path) -> None:
    grey = Preprocess(size=16, resize=20).with_channels(1)
    assert batch(folder(root, grey), "train").images.shape == (8, 1, 16, 16)
    assert batch(folder(root, grey), "val").images.shape == (4, 1, 16, 16)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"augment": "pad_crop"}, "data.augment: pad_crop is for sets held in memory"),
        ({"per_pixel_mean": True}, "data.per_pixel_mean"),
        ({"augment": "scale_crop_flip", "size": 300}, "data.scale: 256 to 480 are not bounds"),
        ({"augment": "scale_crop_flip", "scale": (480, 256)}, "data.scale: 480 to 256"),
        ({"eval_resize": 200}, "data.eval_resize: 200 is below the evaluation size, 224"),
        ({"eval_size": 0}, "preprocess.size: 0 is not 1 to"),
        ({"size": -1}, "-1 is not 1 to"),
        ({"sizes": ((0, 9000),)}, "9000 is not 1 to"),
        ({"sizes": ((0, 99), (3, 300)), "augment": "scale_crop_flip"}, "least the 300 pixels"),
        ({"augment": "pad_crop_alternating_flip"}, "is for sets held in memory"),
        ({"pad_mode": "reflect"}, "data.pad_mode: is for sets held in memory"),
    ],
)
def test_settings_that_cannot_work_are_refused_on_opening(
    root: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidSetting) as caught:
        folder(root, **settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mean_image_fixes_the_size(root: Path) -> None:
    per_pixel = Preprocess(size=8, resize=None, mean=(0.5,) * 192, std=(1.0,) * 3)
    assert batch(folder(root, per_pixel), "train").images.shape == (8, 3, 8, 8)
    for name in ("size", "eval_size"):
        with pytest.raises(InvalidSetting, match=r"preprocess.mean: 192 numbers"):
            folder(root, per_pixel, **{name: 16})


@pytest.mark.fault("D1")
@pytest.mark.fault("D4")
def test_exif_and_the_policy_on_bad_images_reach_the_files(root: Path) -> None:
    files = folder(root, exif="apply", on_bad_image="skip").split("train")
    assert isinstance(files, ImageFiles)
    assert (files.exif, files.on_bad_image) == ("apply", "skip")


def test_only_training_batches_are_filled(root: Path) -> None:
    data = folder(root, on_bad_image="skip")
    files = [data.split("train"), data.split("val")]
    assert [isinstance(part, ImageFiles) and part.fill for part in files] == [True, False]


def test_a_root_in_nobodys_home_is_refused_in_one_line() -> None:
    data = Folder(DataSettings(name="Folder", root="~nobody-here/pictures"))
    with pytest.raises(InvalidSetting, match=r"^~nobody-here/pictures: there is no home of a user"):
        data.open()


def test_a_missing_split_says_where_it_would_lie(root: Path) -> None:
    with pytest.raises(DataMissing) as caught:
        folder(root).split("test")
    assert str(caught.value).startswith(f"Folder: no test images in {root}; expected train/<class>")


class Mean(L.LightningModule):
    """The least that can be fitted: records which labels it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.seen: list[list[int]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen.append(batch.labels.tolist())
        loss: Tensor = self.layer(batch.images.mean((2, 3))).sum()
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        assert batch.images.dtype == torch.float32

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.fault("D1")
@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # in Lightning
def test_lightning_reports_skipped_images_once_an_epoch(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut(root / "train/cat/1.png")
    cut(root / "train/dog/2.png")
    save(root / "val/cat/2.png", pattern())
    cut(root / "val/cat/2.png")
    data = folder(root, on_bad_image="skip", eval_size=8, batch_size=4)
    module = Mean()
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, "resnet_hub"):
        trainer.fit(module, datamodule=data)
    said = sorted(
        r.getMessage().split(" that")[0] for r in caplog.records if r.name == "resnet_hub"
    )
    assert said == ["1 image", "1 image", "2 images", "2 images"]
    assert len(module.seen) == 4
    assert sum(map(len, module.seen)) == 12
