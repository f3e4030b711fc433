"""What a trainer is about to do with a data set: how many steps, of how many images."""

import math
from typing import Any, cast

import lightning as L

from resnet_hub.data.module import DataModule, Split
from resnet_hub.errors import BadData, InvalidSetting
from resnet_hub.learning.optim.schedules import Length
from resnet_hub.nets.resnet import ResNet


def attached_data(trainer: L.Trainer) -> DataModule | None:
    """Return the data module that a trainer has; none, if it has another's data."""
    data = getattr(trainer, "datamodule", None)
    return data if isinstance(data, DataModule) else None


def planned(trainer: L.Trainer) -> tuple[Length, int]:
    """Return how long a fitting trainer's run is, and the images of one of its steps.

    Raises:
        InvalidSetting: It has no data module of this package, or a run without steps or end.
    """
    if (data := attached_data(trainer)) is None:
        raise InvalidSetting("Classifier: fit needs a data module of this package")
    return run_length(trainer, data), images_per_step(trainer, data)


def run_length(trainer: L.Trainer, data: DataModule) -> Length:
    """Return how long the run of a trainer that has ``data`` attached is.

    Raises:
        InvalidSetting: Neither ``max_epochs`` nor ``max_steps`` bounds it, it has no step, or its
            epochs end before they are validated.
    """
    # trainer.estimated_stepping_batches would build the loader here, and lose its position.
    batches, limit = data.train_batches(), trainer.limit_train_batches
    if limit is not None:
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    every = trainer.val_check_interval
    if isinstance(every, int) and trainer.check_val_every_n_epoch and every > batches > 0:
        raise InvalidSetting(
            f"trainer.val_check_interval: {every} batches are more than the {batches} of an epoch; "
            "with check_val_every_n_epoch: null they are counted over epochs"
        )
    per_epoch = max(1, -(-batches // trainer.accumulate_grad_batches))
    bounds = []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        bounds.append(trainer.max_epochs * per_epoch)
    if trainer.max_steps >= 0:
        bounds.append(trainer.max_steps)
    if not bounds:
        raise InvalidSetting("trainer: give max_epochs or max_steps, the schedule needs an end")
    if limit == 0 or min(bounds) == 0:
        raise InvalidSetting(
            "trainer: nothing to train (max_epochs, max_steps or limit_train_batches is 0)"
        )
    return Length(min(bounds), per_epoch)


def images_per_step(trainer: L.Trainer, data: DataModule) -> int:
    """Return the images of one optimizer step, over all ranks and accumulated batches."""
    return data.train_batch_size() * trainer.world_size * trainer.accumulate_grad_batches


def batches_a_validation(trainer: L.Trainer) -> float:
    """Return the training batches that bring a validation, in the mean; the loaders are set up.

    Infinite where there is none.
    """
    every, epochs = trainer.val_check_batch, trainer.check_val_every_n_epoch
    if not trainer.enable_validation or not every:
        return math.inf
    if epochs is None or every == math.inf:
        return every
    an_epoch = max(1, trainer.num_training_batches // every)
    return trainer.num_training_batches * epochs / an_epoch


def images_validated(trainer: L.Trainer, data: DataModule) -> int:
    """Return the images that all ranks go over in one validation."""
    return _images(trainer, data, data.watched, trainer.limit_val_batches)


def images_tested(trainer: L.Trainer, data: DataModule) -> int:
    """Return the images that all ranks go over in the final test."""
    return _images(trainer, data, data.tested, trainer.limit_test_batches)


def ends_step(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether the optimizer steps with this batch."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch


def is_logged(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether Lightning hands this step to the loggers; logging costs more than the metric."""
    every: int = cast(Any, trainer).log_every_n_steps
    return ends_step(trainer, batch_idx) and every > 0 and (trainer.global_step + 1) % every == 0


def between_steps(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether the optimizer stepped, and its next step is what follows: no validation, no end."""
    each_epoch = trainer.check_val_every_n_epoch is not None
    done = batch_idx + 1 if each_epoch else trainer.fit_loop.total_batch_idx + 1
    validates = trainer.val_check_batch is not None and done % trainer.val_check_batch == 0
    return ends_step(trainer, batch_idx) and not validates and not trainer.is_last_batch


def check_match(net: ResNet, data: DataModule) -> None:
    """Check that a net takes a data set's images and tells its classes apart.

    Raises:
        InvalidSetting: It does not.
    """
    check_channels(net, data)
    name, classes = type(data).__name__, len(data.labels)
    if classes != net.architecture.classes:
        raise InvalidSetting(f"net: {net.architecture.classes} classes, but {name} has {classes}")
    for number, (own, other) in enumerate(zip(net.labels or (), data.labels, strict=False)):
        if own != other:
            raise InvalidSetting(
                f"net: its class {number} is {own!r}, but {name}'s is {other!r}; "
                "from_pretrained(…, classes=NAMES) gives a fresh head for other classes"
            )


def check_channels(net: ResNet, data: DataModule) -> None:
    """Check that a net takes a data set's images.

    Raises:
        InvalidSetting: It does not.
    """
    channels = data.preprocess.channels
    if channels != net.architecture.in_channels:
        raise InvalidSetting(
            f"net: takes {net.architecture.in_channels} image channels, but {type(data).__name__} "
            f"has {channels}; give in_channels={channels}"
        )


def check_all_seen(trainer: L.Trainer, seen: int) -> None:
    """Check that an evaluation that ends saw each image of its split, over all ranks.

    Args:
        trainer: The trainer. Where it was asked for a part of the batches, nothing is checked.
        seen: Images seen, those included that could not be read and were skipped.

    Raises:
        BadData: It saw another number.
    """
    data = attached_data(trainer)
    limit = trainer.limit_test_batches if trainer.testing else trainer.limit_val_batches
    if data is None or trainer.sanity_checking:
        return
    if not isinstance(limit, float) or limit != 1:  # the integer is one batch
        return
    split = data.tested if trainer.testing else data.watched
    if seen != (count := len(data.split(split))):
        raise BadData(
            f"{split}: {seen:,} images were counted, and the split has {count:,}: the score would "
            "be wrong; report this, with the number of processes"
        )


def _images(trainer: L.Trainer, data: DataModule, split: Split, limit: float) -> int:
    count, together = len(data.split(split)), data.settings.batch_size * trainer.world_size
    batches = -(-count // together)
    kept = int(batches * limit) if isinstance(limit, float) else min(batches, limit)
    return min(count, kept * together)
