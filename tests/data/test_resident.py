"""Sets in memory that live on the training device: the very same batches, and when."""

from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from resnet_hub.data.arrays import ArrayDataset
from resnet_hub.data.batches import Batch, Selection
from resnet_hub.data.digits import Digits
from resnet_hub.data.folder import Folder
from resnet_hub.data.resident import Resident, stays
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.settings import OptimizerSettings
from resnet_hub.nets.resnet import ResNet

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def made(count: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 5, 5), generator=generator, dtype=torch.uint8)
    return images, torch.arange(count) % 4


def digits(**settings: Any) -> Digits:
    return Digits(DataSettings(name="Digits", batch_size=32, pad=1, **settings), seed=3)


def trainer(accelerator: str = "cpu", **options: Any) -> L.Trainer:
    return L.Trainer(
        accelerator=accelerator,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **options,
    )


def same(one: Batch, other: Batch) -> None:
    for name in ("images", "labels", "indices", "keys"):
        assert torch.equal(getattr(one, name).cpu(), getattr(other, name).cpu()), name
    assert one.epoch == other.epoch


def trained(accelerator: str = "cpu", **settings: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    net = ResNet("cifar_resnet20", in_channels=1)
    data = digits(augment="pad_crop_flip", **settings)
    options = {"max_epochs": 2, "limit_train_batches": 3, "limit_val_batches": 1}
    learner = Classifier(net, optimizer=OptimizerSettings(lr=0.05))
    trainer(accelerator, num_sanity_val_steps=0, **options).fit(learner, data)
    return {name: tensor.cpu() for name, tensor in net.state_dict().items()}


@pytest.mark.parametrize("rows", [None, torch.tensor([19, 3, 7, 0, 11])])
def test_a_set_gathers_from_its_copies_what_it_gathered_from_its_own(rows):
    images, labels = made()
    plain = ArrayDataset(images, labels, 1, rows)
    placed = ArrayDataset(images.clone(), labels.clone(), 1, rows)
    placed.live(Copied(CPU))
    placed.images.zero_()  # whatever is gathered now is not from here
    placed.labels.fill_(-1)
    chosen = Selection(4, torch.tensor([2, 0, 4, 4]), torch.tensor([0, 0, 0, 1]))
    same(placed[chosen], plain[chosen])
    placed.live(None)
    assert not placed[chosen].images.any()


class Copied(Resident):
    """Copies even what lies on the device already, as another device's would be."""

    def copy(self, tensor: torch.Tensor) -> torch.Tensor:
        return super().copy(tensor).clone()


def test_splits_of_one_array_share_its_copy():
    images, labels = made()
    home = Resident(torch.device("meta"))
    assert home.copy(images) is home.copy(images)
    assert home.copy(images) is not home.copy(labels)
    assert home.copy(images).device.type == "meta"
    assert Resident(CPU).copy(images) is images


def test_a_net_learns_the_same_bits_from_a_set_that_lives_on_the_device(monkeypatch):
    homes, live = [], ArrayDataset.live

    def note(dataset: ArrayDataset, home: Resident | None) -> None:
        homes.append(home)
        live(dataset, home)

    plain = trained()
    monkeypatch.setattr(ArrayDataset, "live", note)
    placed = trained(resident=True)
    assert [home and home.device for home in homes] == [*[CPU] * 3, *[None] * 3]
    assert len({id(home) for home in homes[:3]}) == 1
    for name, tensor in plain.items():
        assert torch.equal(tensor, placed[name]), name


def test_what_lives_on_the_device_is_scored_alike_and_its_fingerprint_stays():
    learner = Classifier(ResNet("cifar_resnet20", in_channels=1))
    placed, plain = digits(resident=True), digits()
    scores = [trainer().test(learner, data, verbose=False) for data in (placed, plain)]
    assert scores[0] == scores[1]
    assert placed.fingerprint() == plain.fingerprint()


@pytest.mark.parametrize(
    ("settings", "device", "free", "expected"),
    [
        ({}, CPU, 10**9, False),
        ({}, GPU, 4 * 1500, True),
        ({}, GPU, 4 * 1500 - 1, False),
        ({}, torch.device("meta"), 10**9, False),
        ({"workers": 2}, GPU, 10**9, False),
        ({"policy": "trivial"}, GPU, 10**9, False),
        ({"resident": False}, GPU, 10**9, False),
        ({"resident": True}, GPU, 0, True),
        ({"resident": True}, CPU, 0, True),
    ],
)
def test_unasked_a_set_lives_on_a_gpu_that_has_four_times_the_room(
    settings, device, free, expected, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**12))
    images, _ = made()  # 1,500 bytes, which three splits share
    assert stays(DataSettings(**settings), device, [images] * 3) is expected


@pytest.mark.parametrize("settings", [{"workers": 1}, {"policy": "trivial"}])
def test_what_the_cpu_has_to_do_with_each_image_cannot_live_elsewhere(settings):
    with pytest.raises(InvalidSetting, match=r"^data.resident: needs data.workers: 0"):
        digits(resident=True, **settings)


def test_a_set_of_files_does_not_live_on_a_device(tmp_path):
    from pictures import class_folders

    class_folders(tmp_path / "train", {"a": 2, "b": 2})
    class_folders(tmp_path / "val", {"a": 2, "b": 2})
    data = Folder(DataSettings(name="Folder", root=str(tmp_path), resident=True))
    with pytest.raises(InvalidSetting, match=r"^data.resident: is for sets held in memory$"):
        data.open()


@pytest.mark.gpu
def test_on_a_gpu_it_lives_there_unasked_and_trains_as_from_the_cpu(monkeypatch):
    homes, live = [], ArrayDataset.live

    def note(dataset: ArrayDataset, home: Resident | None) -> None:
        homes.append(home and home.device.type)
        live(dataset, home)

    monkeypatch.setattr(ArrayDataset, "live", note)
    placed = trained("gpu")
    assert homes == [*["cuda"] * 3, *[None] * 3]
    fetched = trained("gpu", resident=False)
    for name, tensor in fetched.items():
        torch.testing.assert_close(placed[name], tensor, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_a_gpus_batches_are_the_cpus_and_making_them_waits_for_nothing():
    data, home = digits(augment="pad_crop_flip").open(), Resident(GPU)
    expected = [*data.train_dataloader()]
    for split in data.splits.values():
        split.live(home)
    data.prepare(next(iter(data.train_dataloader())), train=True)  # the first use of each kernel
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [*data.train_dataloader()]
        prepared = [data.prepare(batch, train=True).images for batch in found]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for one, other, images in zip(found, expected, prepared, strict=True):
        same(one, other)
        theirs = data.prepare(other, train=True).images
        torch.testing.assert_close(images.cpu(), theirs, rtol=0, atol=1e-6)


class Unwaiting(Callback):
    """Lets no step after the first ones wait for the device, from its batch to its end."""

    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step >= 2 and not trainer.is_last_batch:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.steps += torch.cuda.get_sync_debug_mode() == 2
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_on_a_gpu_no_step_waits_for_the_device():
    watch = Unwaiting()
    options = {"max_epochs": 1, "limit_train_batches": 8, "limit_val_batches": 0}
    learner = Classifier(ResNet("cifar_resnet20", in_channels=1))
    try:
        trainer("gpu", precision="bf16-mixed", callbacks=[watch], **options).fit(learner, digits())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert watch.steps == 5
