"""CIFAR: epochs a second beside a loop as torchvision's references have it, and fast recipes."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from turns import Row

from gpu_parts.timing import Clock, Found, Scale, alternate, ratio
from gpu_parts.training import Batches, Loop, Noise, Ours
from resnet_hub.data.settings import DataSettings
from resnet_hub.nets.resnet import ResNet

BATCH, EPOCH, WORKERS = 128, 50_000, 8
FAST = {"cifar10_fast94": 0.94, "cifar10_fast": 0.95, "cifar10_fast96": 0.96}


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """The same images one at a time, as torchvision's CIFAR-10 gives them: PIL, then transforms."""

    def __init__(self, data: Noise) -> None:
        from torchvision import transforms

        split = data.open().split("train")
        self.images = split.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = split.targets.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(data.mean, data.std),
            ]
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return one image, augmented and normalised, and its label."""
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def endless(loader: DataLoader[tuple[torch.Tensor, int]]) -> Batches:
    """Yield a loader's batches, one pass after another."""
    while True:
        yield from loader


def epochs(scale: Scale, device: torch.device) -> Found:
    """Compare epochs a second with PIL in workers before a bare loop; tell the input's share."""
    found, clock = Found(), Clock(device)
    data = _data(scale)
    pictures, workers = _pictures(data, scale, device)
    for name in scale.cifar:
        medians = _compared(
            {"ours": Ours(_net(name), data, clock), "PIL": Loop(_net(name), pictures, clock)},
            scale,
            found,
            {"input": partial(_input, data, clock, _steps(scale))},
        )
        what = f"{name}, bf16: over PIL in {workers} workers and a bare loop"
        found.rows += ratio(what, medians, "ours", "PIL")
        found.rows += _pace(name, medians.get("ours"))
        if {"input", "ours"} <= medians.keys():
            share = medians["input"] / medians["ours"]
            note = f"{1000 * medians['input']:.3g} ms by itself"
            row = Row(f"{name}: input, of a step's time", share, None, "lower", note, "")
            found.rows.append(row)
    return found


def graphs(scale: Scale, device: torch.device) -> Found:
    """The same for nets that run as CUDA graphs; on a CPU they are compiled, no more."""
    found, clock = Found(), Clock(device)
    data = _data(scale)
    pictures, workers = _pictures(data, scale, device)
    for name in scale.cifar:
        ours = Ours(_net(name), data, clock, compile_as="reduce-overhead")
        own = f"{name} as CUDA graphs"
        medians = _compared({"ours": ours, "PIL": Loop(_net(name), pictures, clock)}, scale, found)
        if not ours.compiled:
            found.said.append(f"{own}: there is no compiler here, so it ran as it is")
        what = f"{own}, bf16: over PIL in {workers} workers and a bare loop"
        found.rows += ratio(what, medians, "ours", "PIL", 1.0)
        found.rows += _pace(own, medians.get("ours"))
    return found


def fast(recipe: str, root: str, *, flags: tuple[str, ...] = ()) -> Found:
    """Train by one of the fast recipes and say how long that took, and what it scores.

    Args:
        recipe: Its name.
        root: Folder that holds ``cifar-10-batches-py``.
        flags: Over the recipe.
    """
    found, goal = Found(), FAST[recipe]
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        place = (f"--data.root={root}", "--data.download=false")
        _command("fit", recipe, *place, "--out", str(run), *flags)
        with (run / "metrics.csv").open(newline="") as file:
            timed = [row for row in csv.DictReader(file) if row.get("seconds")]
        card = json.loads((run / "model" / "config.json").read_text())
        looked = _command("test", str(run), "--views", "flip", "--json")
    plain = card["provenance"]["scores"][0]
    flip = json.loads(looked.splitlines()[-1])["top1"]
    seconds, steps = float(timed[-1]["seconds"]), int(timed[-1]["step"]) + 1
    note = (
        f"{plain['top1']:.2%}, {flip:.2%} by two views; n = {plain['n']:,}, 1 run, {steps:,} steps"
    )
    if len(timed) > 1:
        first, before = float(timed[0]["seconds"]), int(timed[0]["step"]) + 1
        pace = (seconds - first) / (steps - before)
        note += f"; {pace * steps:.1f} s at the pace after step {before}, nothing to compile"
    if max(plain["top1"], flip) < goal:
        note += f"; below {goal:.0%}"
    name = plain["data"].rpartition(" ")[0]
    what = f"{name} to {goal:.0%}, {recipe}: training"
    found.rows.append(Row(what, seconds, None, "lower", note, "s"))
    return found


def _command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "resnet_hub.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["without a word"])[-1])
    return done.stdout


def _input(data: Noise, clock: Clock, steps: int) -> float:
    """Return the seconds that a batch takes to be gathered, augmented and normalised."""
    from resnet_hub.data.resident import Resident, stays

    split = data.open().split("train")
    if stays(data.settings, clock.device, [split.images]):
        split.live(Resident(clock.device))

    def batches() -> Iterator[torch.Tensor]:
        while True:
            for batch in data.train_dataloader():
                yield data.prepare(batch.moved(clock.device), train=True).images

    made = batches()
    next(made)
    seconds = clock.seconds(partial(next, made), steps)
    split.live(None)
    return seconds


def _net(name: str) -> ResNet:
    return ResNet(name, classes=10)


def _quick(scale: Scale) -> bool:
    return scale.images < BATCH


def _steps(scale: Scale) -> int:
    return scale.steps if _quick(scale) else 8 * scale.steps  # they are short


def _data(scale: Scale) -> Noise:
    quick = _quick(scale)
    settings = DataSettings(batch_size=scale.images // 2 if quick else BATCH)
    return Noise(settings, side=32, classes=10, count=scale.images if quick else EPOCH)


def _pictures(data: Noise, scale: Scale, device: torch.device) -> tuple[Batches, int]:
    """Return the peer's batches, and how many workers make them."""
    workers = 0 if _quick(scale) else min(WORKERS, os.cpu_count() or 1)
    loader = DataLoader(
        Pictures(data),
        data.settings.batch_size,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
    )
    return endless(loader), workers


def _compared(
    runners: Mapping[str, Ours | Loop],
    scale: Scale,
    found: Found,
    more: Mapping[str, Callable[[], float]] | None = None,
) -> dict[str, float]:
    turns: dict[str, Callable[[], float]] = {
        n: partial(one.seconds, _steps(scale), scale.warm) for n, one in runners.items()
    }
    return alternate({**turns, **(more or {})}, scale.turns, found)


def _pace(what: str, step: float | None) -> list[Row]:
    """Return the row of epochs a second; none, if there was no step."""
    return [] if step is None else [Row(what, 1 / (step * (EPOCH // BATCH)), unit="epochs/s")]
