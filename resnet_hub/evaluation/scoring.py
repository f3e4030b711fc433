"""A net's score on a data set's test split, by the same metric as in training."""

from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from resnet_hub.data.module import DataModule
from resnet_hub.evaluation.restricted import answering
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.measure import measure
from resnet_hub.learning.trainer import make_trainer, watching
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.provenance import Score


def score(
    net: ResNet,
    data: DataModule,
    *,
    trainer: Mapping[str, Any] | None = None,
    witness: Callback | None = None,
) -> Score:
    """Score a net on ``data.tested``, each image once, on any number of devices.

    Args:
        net: The net; its classes must be the data's (see
            :func:`~resnet_hub.evaluation.restricted.answering`).
        data: The data set, opened with the net's own preprocessing.
        trainer: Lightning's ``Trainer`` options: devices, strategy, precision, ...
        witness: Sees every batch and its logits beside, such as
            :class:`~resnet_hub.evaluation.collected.Collector`.

    Returns:
        Top-1, top-5 and the number of images seen, the same on every rank; with a receipt, unless
        ``limit_test_batches`` leaves images out.

    Raises:
        InvalidSetting: Net, data or trainer options do not go together.
        ResNetHubError: The data cannot be read.
    """
    placed = quiet_trainer(trainer or {})
    with watching(placed, *([] if witness is None else [witness])):
        return measure(placed, Classifier(answering(net, data)), data)


def quiet_trainer(options: Mapping[str, Any]) -> L.Trainer:
    """Return Lightning's Trainer with these options, which shows and writes nothing of its own.

    Raises:
        InvalidSetting: Lightning refuses them.
    """
    shown = {"enable_progress_bar": False, "enable_model_summary": False, **options}
    return make_trainer({**shown, "logger": False, "enable_checkpointing": False})
