from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from resnet_hub.data.batches import Batch, BatchSampler, Selection
from resnet_hub.data.loader import BatchLoader

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # in Lightning
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
]

COUNT, SIZE = 20, 4


class Echo:
    """Answers a selection with its own indices, and the epoch as label."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, selection: Selection) -> Batch:
        indices = selection.indices
        labels = torch.full_like(indices, selection.epoch)
        return Batch(indices.view(-1, 1).float(), labels, indices, indices)


def loader(workers: int = 0) -> BatchLoader:
    return BatchLoader(Echo(), BatchSampler(COUNT, SIZE, seed=3), workers=workers)


def seen(passed: Any) -> list[tuple[int, list[int]]]:
    return [(int(batch.labels[0]), batch.indices.tolist()) for batch in passed]


def whole_pass(epoch: int) -> list[tuple[int, list[int]]]:
    data = loader()
    data.order.set_epoch(epoch)
    return seen(data)


def test_batches_come_as_the_data_set_gave_them() -> None:
    passed = list(loader())
    assert all(isinstance(batch, Batch) for batch in passed)
    assert [batch.indices.tolist() for batch in passed] == [
        selection.indices.tolist() for selection in BatchSampler(COUNT, SIZE, seed=3)
    ]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [1, 3])
def test_a_pass_goes_on_from_a_saved_place(workers: int, done: int) -> None:
    first = loader(workers)
    first.order.set_epoch(7)
    running = iter(first)
    begun = seen(next(running) for _ in range(done))
    state = first.state_dict()
    assert state == {"epoch": 7, "batches": done}
    running.close()  # type: ignore[attr-defined]
    second = loader(workers)
    second.load_state_dict(state)
    assert second.state_dict() == state
    assert begun + seen(second) == whole_pass(7)
    second.order.set_epoch(8)
    assert seen(second) == whole_pass(8)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_place_saved_within_a_resumed_pass_counts_from_its_beginning(workers: int) -> None:
    data = loader(workers)
    data.load_state_dict({"epoch": 2, "batches": 1})
    running = iter(data)
    next(running)
    assert data.state_dict() == {"epoch": 2, "batches": 2}


def test_after_the_last_batch_the_place_is_the_next_epoch() -> None:
    data = loader()
    running = iter(data)
    for _ in range(len(data)):  # as Lightning does, which does not ask for one more
        next(running)
    assert data.state_dict() == {"epoch": 1, "batches": 0}


class Recorder(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.record: list[tuple[int, list[int]]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.record += seen([batch])
        loss: Tensor = self.layer(batch.images).mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_resumes_within_and_between_epochs(tmp_path: Path, workers: int) -> None:
    def fit(resume: Path | None = None) -> list[tuple[int, list[int]]]:
        saver = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1)
        trainer = L.Trainer(
            accelerator="cpu", max_epochs=3, logger=False, callbacks=[saver] if not resume else [],
            enable_checkpointing=not resume, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False,
        )  # fmt: skip
        module = Recorder()
        trainer.fit(module, loader(workers), ckpt_path=resume)
        return module.record

    whole = fit()
    assert whole == whole_pass(0) + whole_pass(1) + whole_pass(2)
    for step in (2, 5, 8, 14):  # 5 steps an epoch
        assert fit(tmp_path / f"step={step}.ckpt") == whole[step:]
