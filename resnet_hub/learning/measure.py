"""The final score of a net: each image once, with what it takes to measure it again."""

import lightning as L

from resnet_hub.data.module import DataModule
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.fingerprints import Witness
from resnet_hub.learning.trainer import losses_named, refusals_named, watching
from resnet_hub.weights.provenance import Receipt, Score, software


def measure(trainer: L.Trainer, classifier: Classifier, data: DataModule) -> Score:
    """Score a classifier's finished net on ``data.tested``, each image once; same on every rank.

    The score has a receipt unless ``trainer.limit_test_batches`` leaves images out.

    Raises:
        InvalidSetting: The trainer's options leave no image.
    """
    witness = Witness()
    with refusals_named(), losses_named(data, train=False), watching(trainer, witness):
        results = trainer.test(classifier, data, verbose=False)
    values = results[0] if results else {"test/n": 0}
    n = round(values["test/n"])
    if n == 0:
        raise InvalidSetting("trainer.limit_test_batches, or the data: no image to measure on")
    # Logged values are float32; of a known n the fraction is exact.
    top1, top5 = (round(values[f"test/{name}"] * n) / n for name in ("top1", "top5"))
    limit = trainer.limit_test_batches
    whole = isinstance(limit, float) and limit == 1  # the integer is one batch
    receipt = Receipt(
        **witness.found,
        preprocess=data.preprocess,
        precision=str(trainer.precision),
        device=trainer.strategy.root_device.type,
        versions=software(),
    )
    return Score(data=data.measured, top1=top1, top5=top5, n=n, receipt=receipt if whole else None)
