"""Photographs decoded and cropped for ImageNet: CPU time an image, against torchvision's recipes.

All are JPEGs in class folders: real ones of RESNET_HUB_DATA, else some that are made here. Training
is a decoded, random, resized and mirrored crop of 224 pixels; evaluation is the central one of the
shorter side at 256. Torchvision's reference is ImageFolder with its classic transforms of PIL
images, normalised floats as its training script has them; its v2 is that script's `tensor` backend,
bytes until the end. Ours ends in bytes: the batch is normalised on the device, or see
imagenet_loader.py. One thread; batches are put together.
"""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import turns
from turns import Figures, Row

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from resnet_hub.data.files import ImageFiles

IMAGES, BATCH, PASSES = 96, 32, 5
SIZE, RESIZE = 224, 256


def prepare(folder: Path) -> None:
    """Gather the photographs, or make some, in one folder of classes."""
    real = sorted(Path(os.environ.get("RESNET_HUB_DATA", "")).glob("imagenet-sample/val/*/*.JPEG"))
    home = folder / "pictures" / "a_class"
    home.mkdir(parents=True)
    if os.environ.get("RESNET_HUB_DATA") and len(real) >= IMAGES:
        (folder / "real").touch()
        for number, path in enumerate(real[:: len(real) // IMAGES][:IMAGES]):
            (home / f"{number:03}.JPEG").write_bytes(path.read_bytes())
        return
    for number in range(IMAGES):
        photograph(home / f"{number:03}.JPEG", seed=number)


def photograph(path: Path, *, seed: int) -> None:
    """Write a JPEG about as large as ImageNet's: blurs of several scales, and grain."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(seed)
    size = (500, 375) if seed % 3 else (375, 500)
    whole = Image.new("RGB", size)
    for share, side in ((1.0, 8), (0.5, 60), (0.35, 200)):
        noise = draw.integers(0, 256, (side, side, 3), np.uint8)
        scaled = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
        whole = Image.blend(whole, scaled, share)
    whole.save(path, quality=92)


def our_data(*, train: bool) -> "ImageFiles":
    """Return our files, read for training or for evaluation."""
    from resnet_hub.data.crops import resized_crop_flip
    from resnet_hub.data.files import ImageFiles
    from resnet_hub.preprocess import Preprocess

    paths = sorted((turns.folder() / "pictures").rglob("*.JPEG"))
    crop = resized_crop_flip(SIZE, interpolation="bilinear")
    files = ImageFiles([(str(path), 0) for path in paths], crop, classes=1, size=SIZE)
    return files if train else files.as_evaluated(Preprocess(size=SIZE, resize=RESIZE))


def ours(*, train: bool) -> Callable[[], object]:
    """Return a pass over our files, batch by batch, as the loader's workers read them."""
    import torch

    from resnet_hub.data.batches import Selection

    files = our_data(train=train)

    def read() -> object:
        order = torch.arange(IMAGES)
        return sum(len(files[Selection(0, part)].images) for part in order.split(BATCH))

    return read


def torchvisions_data(*, train: bool, tensors: bool) -> "Dataset[Any]":
    """Return torchvision's ImageFolder with its training script's transforms."""
    import torch
    from torchvision import transforms as v1
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    if tensors:
        crop = [v2.RandomResizedCrop(SIZE, antialias=True), v2.RandomHorizontalFlip()]
        centre = [v2.Resize(RESIZE, antialias=True), v2.CenterCrop(SIZE)]
        end = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std), v2.ToPureTensor()]
        transform = v2.Compose([v2.PILToTensor(), *(crop if train else centre), *end])
    else:
        crop = [v1.RandomResizedCrop(SIZE), v1.RandomHorizontalFlip()]
        centre = [v1.Resize(RESIZE), v1.CenterCrop(SIZE)]
        end = [v1.ToTensor(), v1.Normalize(mean, std)]
        transform = v1.Compose([*(crop if train else centre), *end])
    return ImageFolder(turns.folder() / "pictures", transform)


def torchvisions(*, train: bool, tensors: bool = False) -> Callable[[], object]:
    """Return a pass over torchvision's ImageFolder, batches put together by torch."""
    from torch.utils.data import default_collate

    data = torchvisions_data(train=train, tensors=tensors)

    def read() -> object:
        batches = (range(start, start + BATCH) for start in range(0, IMAGES, BATCH))
        return sum(len(default_collate([data[i] for i in batch])[0]) for batch in batches)

    return read


def measured(make: Callable[..., Callable[[], object]]) -> Figures:
    """Return the CPU milliseconds an image of a pass, in training and in evaluation."""
    import torch

    torch.set_num_threads(1)
    figures = {}
    for name, train in (("training", True), ("evaluation", False)):
        figures[name] = turns.cpu_seconds(make(train=train), repeats=PASSES, warm=2) / IMAGES * 1e3
    return figures


def with_simplejpeg() -> Figures:
    """Read with the extra `fast`."""
    return measured(ours)


def without_extras() -> Figures:
    """Read as without any extra: by torchvision's decoder."""
    import resnet_hub.data.jpegs

    resnet_hub.data.jpegs.simplejpeg = None
    return measured(ours)


def by_pillow() -> Figures:
    """Read as where torchvision does not decode either."""
    import resnet_hub.data.jpegs

    resnet_hub.data.jpegs.simplejpeg = resnet_hub.data.jpegs.decode_jpeg = None
    return measured(ours)


def classic() -> Figures:
    """Read by ImageFolder and the classic transforms, of PIL images."""
    return measured(torchvisions)


def v2s() -> Figures:
    """Read by ImageFolder and the v2 transforms, of tensors."""
    return measured(lambda *, train: torchvisions(train=train, tensors=True))


def decoding() -> Figures:
    """Decode alone, by the fastest decoder that is here: what no transform can go below."""
    import torch

    from resnet_hub.data.pixels import read_pixels

    torch.set_num_threads(1)
    paths = sorted((turns.folder() / "pictures").rglob("*.JPEG"))
    taken = turns.cpu_seconds(lambda: [read_pixels(path) for path in paths], repeats=PASSES)
    return {"decoding": taken / IMAGES * 1e3, **deviations()}


def deviations() -> Figures:
    """Return how far our pixels are from PIL's: levels of 255, at the mean and at the most."""
    import torch
    from torchvision.transforms import v2

    from resnet_hub.data.crops import resized_crop_flip
    from resnet_hub.data.images import read_image
    from resnet_hub.data.pixels import read_pixels
    from resnet_hub.preprocess import Preprocess
    from resnet_hub.randomness import keyed_generator

    crop = resized_crop_flip(SIZE, interpolation="bilinear")
    of_pictures = v2.Compose(
        [v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    )
    centre = Preprocess(size=SIZE, resize=RESIZE).crop
    figures: Figures = {}
    for name, own, theirs in (("training", crop, of_pictures), ("evaluation", centre, centre)):
        apart = []
        for key, path in enumerate(sorted((turns.folder() / "pictures").rglob("*.JPEG"))):
            with keyed_generator(key):
                found = own(read_pixels(path)).int()
            with keyed_generator(key):
                apart.append((found - theirs(read_image(path)).int()).abs())
        figures[f"{name} mean"] = float(torch.stack(apart).double().mean())
        figures[f"{name} most"] = float(torch.stack(apart).max())
    return {**figures, "real": float((turns.folder() / "real").exists())}


def rows(found: dict[str, Figures]) -> list[Row]:
    """Return how many times as long torchvision's recipes take, and how far pixels are apart."""
    told = found["decoding"]
    data = "real photographs" if told["real"] else "made pictures"
    table = []
    for name, goals in GOALS.items():
        whole = found["torchvision, PIL"][name]
        for who, goal in goals.items():
            if who in found:
                note = f"{found[who][name]:.2f} of {whole:.2f} ms; {data}"
                table.append(Row(f"{name}, {who}", whole / found[who][name], goal, note=note))
        what, most = f"{name}, levels of 255 from PIL's", {"training": 1, "evaluation": 2}[name]
        note = f"{told[f'{name} mean']:.4f} at the mean"
        table.append(Row(what, told[f"{name} most"], most, "lower", note, unit=""))
    least = min(figures["training"] for who, figures in found.items() if who.startswith("ours"))
    share = told["decoding"] / least
    table.append(Row("decoding alone, of training", share, 0.7, note="what nothing goes below"))
    return table


CANDIDATES = {
    "torchvision, PIL": classic,
    "ours, simplejpeg": with_simplejpeg,
    "ours, no extra": without_extras,
    "ours, Pillow alone": by_pillow,
    "torchvision, v2": v2s,
    "decoding": decoding,
}
if not find_spec("simplejpeg"):
    del CANDIDATES["ours, simplejpeg"]

_OTHERS = {"ours, Pillow alone": None, "torchvision, v2": None}
GOALS = {
    "training": {"ours, simplejpeg": 1.75, "ours, no extra": 1.5, **_OTHERS},
    "evaluation": {"ours, simplejpeg": 1.8, "ours, no extra": None, **_OTHERS},
}
"""Of how many times as long torchvision's recipe of PIL images takes."""

if __name__ == "__main__":
    turns.main(__file__, CANDIDATES, rows, turns=3, prepare=prepare)
