"""Image files: how many a second the loader reads, which no GPU has a part in."""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from turns import Row

from gpu_parts.timing import Found, Scale
from resnet_hub.data.folder import Folder
from resnet_hub.data.settings import DataSettings

WORKERS, COUNT, PASSES = 16, 512, 6


def read(scale: Scale, device: torch.device) -> Found:
    """Time the loader of training images: decoded, cropped, resized to 224 pixels by workers."""
    quick = scale.images < COUNT
    count, passes = (scale.images, 1) if quick else (COUNT, PASSES)
    workers = 0 if quick else min(WORKERS, os.cpu_count() or 1)
    with TemporaryDirectory() as folder:
        write_jpegs(Path(folder), count)
        settings = DataSettings(
            name="Folder", root=folder, batch_size=min(32, count // 2), workers=workers
        )
        loader = Folder(settings).open().train_dataloader()  # type: ignore[attr-defined]
        sum(len(batch.labels) for batch in loader)  # the workers begin
        begun = time.perf_counter()
        seen = sum(len(batch.labels) for _ in range(passes) for batch in loader)
        pace = seen / (time.perf_counter() - begun)
    note = f"{workers} workers; made-up JPEGs of 500×375 pixels, {seen:,} read"
    return Found(
        [Row("image files, by the loader alone", pace, note=note, unit="images/s")], {"read": pace}
    )


def write_jpegs(root: Path, count: int) -> None:
    """Write pictures with structure and noise into two class folders, train and val."""
    draws = np.random.default_rng(0)
    rows, columns = np.mgrid[0:375, 0:500]
    for number in range(count):
        waves = [
            np.sin(rows / (9 + number % 13) + columns / (7 + k + number % 5)) for k in range(3)
        ]
        noise = draws.normal(0, 12, (375, 500, 3))
        pixels = (128 + 90 * np.stack(waves, -1) + noise).clip(0, 255).astype(np.uint8)
        for split in ("train", "val") if number < 2 else ("train",):
            place = root / split / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / f"{number}.jpg", quality=90)
