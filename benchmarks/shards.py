"""Training input from a folder of JPEGs, from a pack of them, and from a prepared pack.

CPU time an image, in one process without workers: read, decode, crop at random, resize to 224,
mirror, stack. The peers are torchvision's ImageFolder recipe and, where it is installed, webdataset
on the same tar files, both by Pillow; they normalise on the CPU, where ours hand uint8 to the
device. With RESNET_HUB_DATA set the images are 250 real photographs of ImageNet, else synthetic
ones. Files are in the page cache: what a pack saves on slow storage is not seen here.
"""

import os
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import turns
from turns import Figures, Row

IMAGES, BATCH = 250, 50


def prepare(folder: Path) -> None:
    """Write the images as class folders, as a pack, and as a prepared pack."""
    from resnet_hub.data.folder import Folder
    from resnet_hub.data.pack_index import Prepared
    from resnet_hub.data.packing import pack
    from resnet_hub.data.settings import DataSettings

    for number, content in enumerate(photographs()):
        home = folder / "plain" / "train" / f"class{number % 10}"
        home.mkdir(parents=True, exist_ok=True)
        (home / f"{number}.jpg").write_bytes(content)
    for name, how in (("pack", None), ("prepared", Prepared(256, 90))):
        settings = DataSettings(name="Folder", root=str(folder / "plain"), workers=1)
        pack(Folder(settings), folder / name, prepared=how, shard_images=50)


def photographs() -> Iterable[bytes]:
    """Yield JPEGs: real ones, or smooth shapes under noise of ImageNet's usual size."""
    if home := os.environ.get("RESNET_HUB_DATA"):
        paths = sorted(Path(home, "imagenet-sample", "val").glob("*/*.JPEG"))[:IMAGES]
        yield from (path.read_bytes() for path in paths)
        return
    from io import BytesIO

    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for _ in range(IMAGES):
        coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=float)
        noisy = (smooth + draw.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)
        file = BytesIO()
        Image.fromarray(noisy).save(file, "JPEG", quality=92)
        yield file.getvalue()


def ours(name: str, **settings: Any) -> Figures:
    """Take training batches of our data module."""
    from resnet_hub.data.folder import Folder
    from resnet_hub.data.settings import DataSettings

    root = str(turns.folder() / name)
    data = Folder(DataSettings(name="Folder", root=root, held_out=0, batch_size=BATCH, **settings))
    loader = data.open() and data.train_dataloader()
    return figures(lambda: sum(len(batch.labels) for batch in loader))


def imagefolder() -> Figures:
    """Take batches as torchvision's reference recipe does."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    data = ImageFolder(turns.folder() / "plain" / "train", pipeline())
    loader = DataLoader(data, batch_size=BATCH, shuffle=True)
    return figures(lambda: sum(len(labels) for _, labels in loader))


def webdatasets() -> Figures:
    """Take batches from the pack's tar files by the webdataset library."""
    import webdataset
    from torch.utils.data import DataLoader

    change = pipeline()
    urls = [str(path) for path in sorted((turns.folder() / "pack").glob("train-*.tar"))]
    samples = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=0).shuffle(100)
    pairs = samples.decode("pil").to_tuple("jpg", "cls").map_tuple(change, int)
    loader = DataLoader(pairs, batch_size=BATCH)
    return figures(lambda: sum(len(labels) for _, labels in loader))


def pipeline() -> Callable[[Any], Any]:
    """Return torchvision's reference augmentation, normalised."""
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.RandomResizedCrop(224),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )


def figures(work: Callable[[], int]) -> Figures:
    """Return the CPU milliseconds an image of a pass, the median of two after another."""
    return {"ms": 1000 * turns.cpu_seconds(work, repeats=2) / work()}


def deviation() -> Figures:
    """Compare the central crops of prepared pictures with those of their originals."""
    import torch

    from resnet_hub.data.folder import Folder
    from resnet_hub.data.images import read_image
    from resnet_hub.data.settings import DataSettings

    home, total = turns.folder(), []
    kinds = []
    for name in ("plain", "prepared"):
        data = Folder(DataSettings(name="Folder", root=str(home / name), held_out=0)).open()
        files: Any = data.split("train")
        kinds.append((data.preprocess, files))
    for index in range(IMAGES):
        crops = [
            preprocess.crop(read_image(files.path(index), content=files.content(index))).float()
            for preprocess, files in kinds
        ]
        total.append((crops[0] - crops[1]).abs().mean())
    size = {
        name: sum(p.stat().st_size for p in (home / name).glob("*.tar"))
        for name in ("pack", "prepared")
    }
    return {"levels": float(torch.stack(total).mean()), "bytes": size["prepared"] / size["pack"]}


def rows(found: dict[str, Figures]) -> list[Row]:
    """Return images a second as multiples of the peers'."""
    cost = {name: one["ms"] for name, one in found.items() if "ms" in one}
    real = "real photographs" if os.environ.get("RESNET_HUB_DATA") else "synthetic pictures"
    table = []
    for what, one, other, goal in (
        ("training input: folder over ImageFolder", "folder", "ImageFolder", None),
        ("training input: pack over the same folder", "pack", "folder", 0.95),
        ("training input: prepared pack over ImageFolder", "prepared", "ImageFolder", 4.0),
        ("training input: pack over webdataset and Pillow", "pack", "webdataset", None),
    ):
        if other in cost:
            note = f"{cost[one]:.2f} of {cost[other]:.2f} ms an image; {real}"
            table.append(Row(what, cost[other] / cost[one], goal, note=note))
    off, share = found["deviation"]["levels"], found["deviation"]["bytes"]
    note = "of 255, mean over central crops"
    table.append(Row("a prepared picture's deviation", off, None, "lower", note, "levels"))
    table.append(Row("its bytes over the original's", share, None, "lower"))
    return table


CANDIDATES = {
    "ImageFolder": imagefolder,
    "folder": lambda: ours("plain"),
    "pack": lambda: ours("pack"),
    "prepared": lambda: ours("prepared"),
    **({"webdataset": webdatasets} if find_spec("webdataset") else {}),
    "deviation": deviation,
}

if __name__ == "__main__":
    turns.main(__file__, CANDIDATES, rows, turns=3, prepare=prepare)
