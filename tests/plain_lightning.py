"""A training as Lightning's guide has one write it: nothing of this package takes part in it."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

BATCH = 8
SAMPLES = 6 * BATCH


class Plain(L.LightningModule):
    """A small net that prints its steps, and logs its loss and how many samples an epoch had.

    Args:
        pause: Seconds that a step takes.
        growth: Bytes that its checkpoint has more of after each step, as with a history.
    """

    def __init__(self, pause: float = 0, growth: int = 0) -> None:
        super().__init__()
        self.pause, self.growth = pause, growth
        self.net = nn.Linear(8, 3)

    def on_train_start(self) -> None:
        self.first_step = self.global_step

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        print(f"step {self.global_step}", flush=True)
        time.sleep(self.pause)
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss, on_epoch=True)
        self.log("samples", float(len(batch[1])), on_step=False, on_epoch=True, reduce_fx="sum")
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = torch.zeros(self.growth * self.global_step, dtype=torch.uint8)


class Hanging(Dataset):
    """Samples that do not come."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> None:
        print("reading", flush=True)
        time.sleep(600)


def samples(count: int = SAMPLES) -> TensorDataset:
    return TensorDataset(torch.randn(count, 8), torch.arange(count) % 3)


def trained(
    folder: Path,
    module: Plain | None = None,
    data: Dataset | None = None,
    *,
    loader: Mapping[str, Any] | None = None,
    every: int | None = None,
    ckpt_path: str | Path | None = None,
    **options: Any,
) -> L.Trainer:
    """Train, an epoch where the options say no more, and return the trainer.

    ``last.ckpt`` is saved into the folder, at each epoch's end or every so many steps.
    """
    saver = ModelCheckpoint(str(folder), save_last=True, save_top_k=0, every_n_train_steps=every)
    options = {"max_epochs": 1, "enable_progress_bar": False, "logger": False, **options}
    trainer = L.Trainer(accelerator="cpu", callbacks=[saver], **options)
    batches = DataLoader(data or samples(), **{"batch_size": BATCH, **(loader or {})})
    trainer.fit(module or Plain(), batches, ckpt_path=ckpt_path)
    return trainer


def train(rank: int, folder: Path, options: Mapping[str, Any]) -> None:
    """Train in a process of its own, with temporary files in its folder."""
    tempfile.tempdir = str(Path.cwd())
    trained(folder, **options)
