"""Training loops: this package's, and bare ones."""

from collections.abc import Iterator

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F

from gpu_parts.timing import Clock
from resnet_hub.data.arrays import ArrayDataset
from resnet_hub.data.arrays_module import ArrayDataModule
from resnet_hub.data.settings import DataSettings
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.settings import CompileMode, ModelSettings, OptimizerSettings
from resnet_hub.learning.trainer import make_trainer
from resnet_hub.nets.resnet import ResNet

Batches = Iterator[tuple[Tensor, Tensor]]

LR = 0.01  # what is learnt of noise is of no interest, but it has to stay finite


class Noise(ArrayDataModule):
    """Made-up images in memory, which live on the GPU as any set in memory does.

    Args:
        settings: The batch among them.
        side: Of the images, in pixels.
        classes: Of the labels.
        count: Images.
    """

    own_augment = "pad_crop_flip"
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    side = 32
    names = ()

    def __init__(self, settings: DataSettings, *, side: int, classes: int, count: int) -> None:
        self.side, self.names, self.count = side, tuple(map(str, range(classes))), count
        super().__init__(settings)

    def read(self) -> None:
        """Draw images and labels."""
        draws = np.random.default_rng(0)  # a gigabyte a second, which torch's is far from
        shape = (self.count, 3, self.side, self.side)
        images = torch.from_numpy(draws.integers(0, 256, shape, dtype=np.uint8))
        labels = torch.from_numpy(draws.integers(len(self.names), size=self.count))
        whole = ArrayDataset(images, labels, self.seed)
        self.splits = self._splits(whole, whole, held_out=0, seed=0)


class _Stopwatch(Callback):
    """Times the steps of a fit but the first ones."""

    def __init__(self, clock: Clock, warm: int, steps: int) -> None:
        self.clock, self.warm, self.last, self.seconds = clock, warm, warm + steps, 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        """Begin behind the last step that is left out, end behind the last one."""
        if trainer.global_step == self.warm:
            self.clock.start()
        elif trainer.global_step == self.last:
            self.seconds = self.clock.stop()


class Ours:
    """This package's path: a Classifier that Lightning's Trainer fits to a data module.

    Args:
        net: The net.
        data: The data.
        clock: Times it.
        compile_as: ``model.compile``.
    """

    def __init__(
        self, net: ResNet, data: Noise, clock: Clock, *, compile_as: bool | CompileMode = False
    ) -> None:
        self.data, self.clock = data, clock
        self.classifier = Classifier(
            net,
            model=ModelSettings(compile=compile_as),
            optimizer=OptimizerSettings(lr=LR, momentum=0.9),
        )

    @property
    def compiled(self) -> bool:
        """Whether the net is compiled, once a turn was taken."""
        return bool(self.classifier.compiled)

    def seconds(self, steps: int, warm: int) -> float:
        """Return the seconds of a step, of so many after the warm ones."""
        stopwatch = _Stopwatch(self.clock, warm, steps)
        trainer = make_trainer(
            {
                "accelerator": "gpu" if self.clock.device.type == "cuda" else "cpu",
                "devices": 1,
                "precision": "bf16-mixed",
                "max_steps": warm + steps,
                "max_epochs": -1,
                "limit_val_batches": 0,
                "num_sanity_val_steps": 0,
                "logger": False,
                "enable_checkpointing": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "callbacks": [stopwatch],
            }
        )
        trainer.fit(self.classifier, self.data)
        return stopwatch.seconds / steps


class Loop:
    """A bare loop: bf16 autocast, channels last, SGD with momentum, cross-entropy, no more.

    Args:
        net: The net.
        batches: Its images, normalised, and labels, on any device, without end.
        clock: Times it.
    """

    def __init__(self, net: nn.Module, batches: Batches, clock: Clock) -> None:
        self.batches, self.clock, self.device = batches, clock, clock.device
        self.net = net.train().to(self.device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.net.parameters(), LR, momentum=0.9)

    def step(self) -> None:
        """Take one step."""
        images, labels = next(self.batches)
        images = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        labels = labels.to(self.device, non_blocking=True)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = F.cross_entropy(self.net(images), labels)
        loss.backward()
        self.optimizer.step()

    def seconds(self, steps: int, warm: int) -> float:
        """See :meth:`Ours.seconds`."""
        for _ in range(warm):
            self.step()
        return self.clock.seconds(self.step, steps)


def the_same(batch: int, side: int, classes: int, device: torch.device) -> Batches:
    """Yield one batch on the device again and again: a loop with no input at all."""
    images = torch.randn(batch, 3, side, side, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(classes, (batch,), device=device)
    while True:
        yield images, labels
