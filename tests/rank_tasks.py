"""What tests let the ranks of a run do: each of them imports this module."""

import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from resnet_hub.data.arrays import ArrayDataset
from resnet_hub.data.batches import BatchSampler
from resnet_hub.data.digits import Digits
from resnet_hub.data.loader import BatchLoader
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import ResNetHubError
from resnet_hub.evaluation import cached
from resnet_hub.evaluation.cached import logits
from resnet_hub.evaluation.views import Views
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.precise_bn import make_precise
from resnet_hub.learning.settings import (
    FreezingSettings,
    MixingSettings,
    ModelSettings,
    OptimizerSettings,
    ScheduleSettings,
)
from resnet_hub.learning.targets import mixing
from resnet_hub.learning.trainer import make_trainer
from resnet_hub.nets.resnet import ResNet

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Seen(Callback):
    """Keeps the samples of each batch, and the learning rate of each step."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.rates: list[float] = []

    def on_test_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, *_: Any):
        self.batches.append(batch.indices.tolist())

    on_validation_batch_end = on_test_batch_end

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, *_: Any) -> None:
        self.batches.append(batch.indices.tolist())
        if trainer.global_step == len(self.rates):
            self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


class FrozenNorms(Callback):
    """Keeps the norms in evaluation mode, so that a batch's images are independent."""

    def on_train_batch_start(self, trainer: Any, module: L.LightningModule, *_: Any) -> None:
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()


def few_digits(count: int, **settings: Any) -> Digits:
    """Return digits with so many images to test, validate and train on."""
    data = Digits(DataSettings(name="Digits", **settings))
    data.open()
    for name in ("train", "val", "test"):
        whole = data.splits[name]
        rows = torch.arange(len(whole)) if whole.rows is None else whole.rows
        data.splits[name] = ArrayDataset(whole.images, whole.labels, data.seed, rows[:count])
    return data


def small_net(**options: Any) -> ResNet:
    torch.manual_seed(0)
    return ResNet("cifar_resnet20", classes=10, in_channels=1, **options)


def evaluated(rank: int, counts: list[int], batch_size: int) -> list[tuple[Any, ...]]:
    """Score a net on each number of images; return this rank's batches and the logged values."""
    found, net = [], small_net().eval()
    for count in counts:
        seen = Seen()
        trainer = make_trainer({**QUIET, "callbacks": [seen]}, timeout=30)
        (values,) = trainer.test(
            Classifier(net), few_digits(count, batch_size=batch_size), verbose=False
        )
        found.append((seen.batches, values))
    return found


def miscounted(rank: int, limit: float) -> str:
    """Evaluate nine images by a sampler that gives them all to every rank; return the error."""
    data = few_digits(9)
    data.test_dataloader = lambda: BatchLoader(data.splits["test"], BatchSampler(9, 4, seed=None))
    trainer = make_trainer({**QUIET, "limit_test_batches": limit}, timeout=30)
    try:
        trainer.test(Classifier(small_net()), data, verbose=False)
    except ResNetHubError as error:
        return f"{type(error).__name__}: {error}"
    return ""


class Counting(L.LightningModule):
    """Counts what plain Lightning shows it in a test."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def test_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        self.count += len(batch[0])


def counted_by_plain_lightning(rank: int, count: int) -> int:
    """Return how many samples plain Lightning's own sampler lets this rank count."""
    module = Counting()
    trainer = L.Trainer(devices=2, strategy=DDPStrategy(), **QUIET)
    loader = DataLoader(TensorDataset(torch.arange(float(count))), batch_size=4)
    trainer.test(module, loader, verbose=False)
    return module.count


def ordered(rank: int, batch_size: int, workers: int) -> list[list[int]]:
    """Train two short epochs; return this rank's batches."""
    seen = Seen()
    trainer = make_trainer(
        {**QUIET, "callbacks": [seen], "max_epochs": 2, "limit_val_batches": 0}, timeout=30
    )
    trainer.fit(Classifier(small_net()), few_digits(50, batch_size=batch_size, workers=workers))
    return seen.batches


def trained(
    rank: int,
    batch_size: int,
    accumulate: int,
    optimizer: str = "sgd",
    freezing: FreezingSettings | None = None,
    schedule: ScheduleSettings | None = None,
) -> tuple[dict[str, Any], list[float]]:
    """Train ten steps, four an epoch, with frozen norms; return weights and learning rates."""
    seen = Seen()
    options = {
        "callbacks": [seen, FrozenNorms()],
        "max_steps": 10,
        "limit_val_batches": 0,
        "accumulate_grad_batches": accumulate,
    }
    trainer = make_trainer({**QUIET, **options}, timeout=30)
    classifier = Classifier(
        small_net(zero_init_residual=True),
        optimizer=OptimizerSettings(
            name=optimizer, lr=0.1, scaled=True, nesterov=optimizer == "sgd"
        ),
        schedule=schedule or ScheduleSettings(name="onecycle", unit="iterations", warmup=4),
        freezing=freezing,
    )
    trainer.fit(classifier, few_digits(64, batch_size=batch_size, augment="pad_crop", pad=1))
    return {n: p.detach().numpy() for n, p in classifier.net.named_parameters()}, seen.rates


def weighted(rank: int, batch_size: int, accumulate: int) -> dict[str, Any]:
    """Train four steps of an epoch with weighted classes and frozen norms; return the weights."""
    options = {
        "callbacks": [FrozenNorms()],
        "max_epochs": 1,
        "limit_val_batches": 0,
        "accumulate_grad_batches": accumulate,
    }
    classes = (20.0, *[1.0] * 8, 0.1)
    classifier = Classifier(
        small_net(zero_init_residual=True),
        model=ModelSettings(class_weights=classes, label_smoothing=0.1),
        optimizer=OptimizerSettings(lr=0.1),
    )
    make_trainer({**QUIET, **options}, timeout=30).fit(
        classifier, few_digits(50, batch_size=batch_size, sampling="balanced")
    )
    return {n: p.detach().numpy() for n, p in classifier.net.named_parameters()}


class Answers(Callback):
    """Keeps the share of each image's target that lies on the first answer."""

    def __init__(self) -> None:
        self.met: list[float] = []

    def on_train_start(self, trainer: L.Trainer, module: Classifier) -> None:
        def note(logits: Tensor, targets: Tensor, loss: Tensor) -> None:
            self.met += targets.gather(1, logits.argmax(1, keepdim=True))[:, 0].tolist()
            add(logits, targets, loss)

        add, module.record.add = module.record.add, note


def mixes(rank: int, settings: MixingSettings) -> tuple[list[float | None], list[float], float]:
    """Train four mixed batches; return their λ, what of the targets was met, and the score."""
    answers, own = Answers(), []
    drawn = mixing.draw

    def noted(*arguments: Any, **how: Any) -> mixing.Mix | None:
        mix = drawn(*arguments, **how)
        own.append(mix and mix.own)
        return mix

    mixing.draw = noted
    options = {"callbacks": [answers], "max_epochs": 1, "limit_val_batches": 0}
    trainer = make_trainer({**QUIET, **options}, timeout=30)
    trainer.fit(Classifier(small_net(), mixing=settings, seed=7), few_digits(32, batch_size=4))
    return own, answers.met, float(trainer.callback_metrics["train/soft_top1"])


def made_precise(rank: int, count: int) -> tuple[dict[str, Any], int]:
    """Compute a net's statistics anew; return them, and how many images this rank gave to them."""
    images = 0

    def note(module: nn.Module, inputs: tuple[Tensor]) -> None:
        nonlocal images
        images += len(inputs[0])

    data = few_digits(50, batch_size=8, augment="pad_crop", pad=1)
    classifier = Classifier(small_net(), model=ModelSettings(precise_bn=count))
    trainer = make_trainer({**QUIET, "limit_test_batches": 1}, timeout=30)
    trainer.test(classifier, data, verbose=False)  # the ranks find each other
    classifier.net.conv1.register_forward_pre_hook(note)
    make_precise(trainer, classifier, data, epoch=3)
    return {name: buffer.numpy() for name, buffer in classifier.net.named_buffers()}, images


def looked(rank: int, asked: list[tuple[int, int, Views]]) -> list[dict[str, Any]]:
    """Ask for logits of (seed of the net, number of digits, views) one after the other.

    Returns:
        Of each what was answered, how many images this rank saw for it, and how many results it
        wrote into the cache.
    """
    found, keep = [], cached.keep
    for seed, count, views in asked:
        torch.manual_seed(seed)
        net = ResNet("cifar_resnet20", classes=10, in_channels=1)
        images: list[int] = []
        written: list[Any] = []

        def seen(module: nn.Module, inputs: tuple[Tensor], images: list[int] = images) -> None:
            images.append(len(inputs[0]))

        def noted(*arguments: Any, written: list[Any] = written, **how: Any) -> None:
            written.append(arguments)
            time.sleep(0.3)  # the others ask for the next one before this one is there
            keep(*arguments, **how)

        net.conv1.register_forward_pre_hook(seen)
        cached.keep = noted
        data = few_digits(count, batch_size=4, eval_resize=11)
        answer = logits(net, data, views, trainer={"accelerator": "cpu"})
        rows = {name: getattr(answer, name).numpy() for name in ("values", "labels", "indices")}
        counts = {"images": sum(images), "kept": len(written)}
        found.append({**rows, **counts, "from_cache": answer.from_cache})
    cached.keep = keep
    return found
