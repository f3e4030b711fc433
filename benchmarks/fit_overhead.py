"""What `fit` adds to a plain torch loop that does the same work: milliseconds a step.

Both gather, shift, flip and normalise batches of CIFAR's form, and train by SGD on a schedule.
`fit` has all of its habits on: metrics, logs, keyed randomness, guards against steps that are not
finite, the pace, signals, checkpoints' clocks and a progress bar that is drawn. Told is CPU time,
all threads together, in the median tenth of 200 steps within an epoch; what an epoch's end costs is
told in checkpoints.py. Beside them stands Lightning as it comes, with what one logs by it: the loss
at every step, top-1 and top-5 by torchmetrics, its bar and its CSV file.

Of a net of one unit only the loop counts. ResNet-20 has more tensors to guard; as a difference of a
third of a millisecond drowns in a step of a hundred, both sides train it on two images a step, and
the share is that difference over a step of 128 images in bfloat16, measured beside it.
"""

import os
import time
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import turns
from cifar_input import write_cifar
from lightning.pytorch.callbacks import Callback
from turns import Figures, Row

SKIPPED, MEASURED = 60, 200
"""Steps before the clock starts, and those that it tells of."""
BATCH = {"tiny": 8, "cifar_resnet20": 2}


def prepare(folder: Path) -> None:
    """Write a small set in CIFAR's layout, and a net of one unit as a model folder."""
    from resnet_hub import Architecture, ResNet
    from resnet_hub.labels import CIFAR10_LABELS

    write_cifar(folder, 500)
    one_unit = Architecture(depths=(1,), block="basic", stem="cifar", width=4, classes=10)
    net = ResNet(one_unit)
    net.labels = CIFAR10_LABELS
    net.save_pretrained(folder / "tiny")


class Stopwatch(Callback):
    """Notes the CPU time as each step begins."""

    ticks: ClassVar[list[float]] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """Note it."""
        self.ticks.append(time.process_time())


def ours() -> Figures:
    """Train by `fit`."""
    os.environ["FORCE_COLOR"] = "1"  # the bar is drawn, as on a terminal
    return {name: _fitted(name) for name in BATCH}


def _fitted(name: str) -> float:
    from fit_overhead import Stopwatch  # the class that the recipe's path leads to

    from resnet_hub.cli.console import quiet
    from resnet_hub.data.settings import DataSettings
    from resnet_hub.learning.fit import fit
    from resnet_hub.learning.saving.run import Run
    from resnet_hub.learning.settings import NetSettings, Recipe

    quiet()
    tiny = name == "tiny"
    recipe = Recipe(
        net=NetSettings(weights=str(turns.folder() / name)) if tiny else NetSettings(name=name),
        data=DataSettings(
            name="Cifar10", root=str(turns.folder()), batch_size=BATCH[name], download=False
        ),
        trainer={"max_steps": SKIPPED + MEASURED + 2, "accelerator": "cpu", "devices": 1},
        callbacks=({"class_path": "fit_overhead.Stopwatch"},),
    )
    Stopwatch.ticks = []
    out = turns.folder() / f"run-{os.getpid()}-{name}"
    fit(recipe, Run.create(recipe, name, out), resume=False, bar=True, say=_unsaid)
    print()
    return _mean(Stopwatch.ticks)


def _unsaid(line: str) -> None:
    """Keep a run's lines to itself."""


def _mean(ticks: list[float]) -> float:
    """Return the seconds of a step in the median tenth of the measured ones."""
    some = MEASURED // 10
    starts = range(SKIPPED, SKIPPED + MEASURED, some)
    return median((ticks[start + some] - ticks[start]) / some for start in starts)


def plain() -> Figures:
    """Train by a loop as one writes it by hand."""
    return {name: _mean(_looped(name)) for name in BATCH}


def _looped(name: str) -> list[float]:
    import numpy as np
    import torch
    from torch.nn import functional as F

    from resnet_hub import ResNet
    from resnet_hub.data.cifar import Cifar10
    from resnet_hub.data.settings import DataSettings

    data = Cifar10(DataSettings(name="Cifar10", root=str(turns.folder()), download=False))
    train = data.open().splits["train"]
    windows = F.pad(train.images, (4,) * 4).unfold(2, 32, 1).unfold(3, 32, 1)
    mean, std = (
        torch.from_numpy(255 * np.array(numbers, np.float32)).view(3, 1, 1)
        for numbers in (data.mean, data.std)
    )
    net = ResNet.from_pretrained(turns.folder() / name) if name == "tiny" else ResNet(name)
    net.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    size, ticks = BATCH[name], []
    order = torch.randperm(len(train))
    for step in range(SKIPPED + MEASURED + 2):
        ticks.append(time.process_time())
        rows = order[step * size : (step + 1) * size]
        down, right = torch.randint(9, (2, size))
        images = windows[rows, :, down, right]
        images = torch.where(torch.rand(size, 1, 1, 1) < 0.5, images.flip(3), images)
        images = images.float().sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(net(images), train.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return ticks


def lightning() -> Figures:
    """Train the net of one unit by Lightning as it comes."""
    import lightning as L
    import torch
    from lightning.pytorch.loggers import CSVLogger
    from torch.nn import functional as F
    from torchmetrics.classification import MulticlassAccuracy

    from resnet_hub import ResNet
    from resnet_hub.cli.console import quiet
    from resnet_hub.data.cifar import Cifar10
    from resnet_hub.data.settings import DataSettings

    class Stock(L.LightningModule):
        """What a tutorial would write."""

        def __init__(self) -> None:
            super().__init__()
            self.net = ResNet.from_pretrained(turns.folder() / "tiny").train()
            self.top1 = MulticlassAccuracy(10, average="micro")
            self.top5 = MulticlassAccuracy(10, average="micro", top_k=5)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            """Return the loss, and log."""
            logits = self.net(batch.images.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits, batch.labels)
            self.top1.update(logits, batch.labels)
            self.top5.update(logits, batch.labels)
            self.log("loss", loss, prog_bar=True)
            self.log_dict({"top1": self.top1, "top5": self.top5}, on_step=False, on_epoch=True)
            return loss

        def configure_optimizers(self) -> Any:
            """Return SGD on a schedule."""
            own = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
            schedule = torch.optim.lr_scheduler.LambdaLR(own, lambda step: 1.0)
            return [own], [{"scheduler": schedule, "interval": "step"}]

    os.environ["FORCE_COLOR"] = "1"
    quiet()
    out, size = turns.folder() / f"lightning-{os.getpid()}", BATCH["tiny"]
    settings = DataSettings(
        name="Cifar10", root=str(turns.folder()), batch_size=size, download=False
    )
    trainer = L.Trainer(
        max_steps=SKIPPED + MEASURED + 2,
        accelerator="cpu",
        devices=1,
        logger=CSVLogger(str(out)),
        callbacks=[Stopwatch()],
        enable_model_summary=False,
        limit_val_batches=0,
        default_root_dir=out,
    )
    trainer.fit(Stock().to(memory_format=torch.channels_last), Cifar10(settings))
    print()
    return {"tiny": _mean(Stopwatch.ticks)}


def step() -> Figures:
    """Take steps of ResNet-20, 128 images, bfloat16, channels last."""
    from training_step import cpu_step

    return {"seconds": cpu_step("cifar_resnet20", 128, 32, fast=True)}


def rows(found: dict[str, Figures]) -> list[Row]:
    """Return what a step has more of, and the share of that in a step of ResNet-20."""
    own, bare, stock, whole = (found[name] for name in CANDIDATES)
    more = {name: 1000 * (own[name] - bare[name]) for name in BATCH}
    notes = {name: f"{1000 * own[name]:.2f} − {1000 * bare[name]:.2f} ms" for name in BATCH}
    share = more["cifar_resnet20"] / (10 * whole["seconds"])
    return [
        Row(
            "fit over a plain loop, net of one unit",
            more["tiny"],
            0.4,
            "lower",
            notes["tiny"],
            "ms",
        ),
        Row(
            "the same, of Lightning's as it comes",
            more["tiny"] / (1000 * (stock["tiny"] - bare["tiny"])),
            None,
            "lower",
            f"{1000 * stock['tiny']:.2f} − {1000 * bare['tiny']:.2f} ms",
        ),
        Row(
            "the same, ResNet-20's tensors",
            more["cifar_resnet20"],
            None,
            "lower",
            notes["cifar_resnet20"],
            "ms",
        ),
        Row(
            "its share of a ResNet-20 step, 128 images, bf16",
            share,
            2.0,
            "lower",
            f"of {1000 * whole['seconds']:.1f} ms",
            "%",
        ),
    ]


CANDIDATES = {"resnet_hub": ours, "plain loop": plain, "lightning": lightning, "step": step}

if __name__ == "__main__":
    turns.main(__file__, CANDIDATES, rows, prepare=prepare)
