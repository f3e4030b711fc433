"""Small pictures for tests."""

from collections.abc import Mapping
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image


def pattern(width: int = 40, height: int = 30, *, seed: int = 0) -> Image.Image:
    """A smooth RGB picture that looks different in every corner, and for every seed."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [(rows * (seed % 5 + 3) + columns * k + 40 * seed) % 256 for k in (2, 5, 7)]
    return Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8))


def save(path: Path, picture: Image.Image | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture or pattern()).save(path)
    return path


def class_folders(home: Path, counts: Mapping[str, int]) -> Path:
    """Folders of so many distinct pictures."""
    seed = 0
    for name, count in counts.items():
        (home / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            seed += 1
            save(home / name / f"{number}.png", pattern(40 + seed % 7, 30, seed=seed))
    return home


def cut(path: Path, share: float = 0.5) -> Path:
    """Leave the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def damage(path: Path, *, seed: int = 0, count: int = 200) -> Path:
    """Overwrite so many bytes in the middle of a file; none of them begins a marker of JPEG."""
    content = bytearray(path.read_bytes())
    start = (len(content) - count) // 2
    content[start : start + count] = bytes(Random(seed).choices(range(255), k=count))
    path.write_bytes(content)
    return path
