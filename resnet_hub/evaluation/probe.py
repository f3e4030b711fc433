"""How good a net's features are for a data set, without training it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from resnet_hub.data.module import DataModule
from resnet_hub.errors import BadData, InvalidSetting
from resnet_hub.evaluation.cached import one_device, outputs
from resnet_hub.evaluation.linear import Choice, choose_l2, fit
from resnet_hub.evaluation.neighbours import answers, nearest
from resnet_hub.metrics import wilson
from resnet_hub.nets.resnet import ResNet

Interval = tuple[float, float]


@dataclass(frozen=True)
class Accuracy:
    """How often the answers are right, as fractions with Wilson's 95% intervals.

    Attributes:
        top1: The first answer is right.
        top1_interval: Its interval.
        top5: One of the first five (or all classes, if fewer) is.
        top5_interval: Its interval.
    """

    top1: float
    top1_interval: Interval
    top5: float
    top5_interval: Interval

    @classmethod
    def of(cls, given: Tensor, labels: Tensor) -> "Accuracy":
        """Count answers, int64 ``(N, ≤5)`` in order, against labels, int64 ``(N,)``."""
        right, n = given == labels[:, None], len(labels)
        first, any_ = int(right[:, 0].sum()), int(right.any(1).sum())
        return cls(first / n, wilson(first, n), any_ / n, wilson(any_, n))


@dataclass(frozen=True)
class Probe:
    """What :func:`probe` found.

    Attributes:
        data: Data set and split that everything was measured on.
        n: Images of it.
        training_n: Training images.
        features: Numbers an image.
        classes: Their names.
        seed: Key of the images that the penalty was chosen on.
        linear: A linear classifier's answers.
        l2: Which penalty it has, and what it was chosen by.
        k: Neighbours that vote; fewer than asked for where there are fewer training images.
        temperature: Of the weighted votes.
        knn: The nearest neighbours' answers, weighted by similarity.
        knn_plain: The same, one vote each.
        from_cache: Whether no forward pass was needed.
    """

    data: str
    n: int
    training_n: int
    features: int
    classes: tuple[str, ...]
    seed: int
    linear: Accuracy
    l2: Choice
    k: int
    temperature: float
    knn: Accuracy
    knn_plain: Accuracy
    from_cache: bool


def probe(
    net: ResNet,
    data: DataModule,
    *,
    k: int = 20,
    temperature: float = 0.07,
    seed: int = 0,
    trainer: Mapping[str, Any] | None = None,
) -> Probe:
    """Measure how well the features of a net tell a data set's classes apart.

    Features are what the head is given: of the training split without augmentation, and of
    ``data.tested``. A linear classifier, its penalty chosen on a fifth of the training images held
    out by ``seed``, and the nearest training images (1805.01978 §3.4) answer for each tested
    image.

    Args:
        net: The net; its head is not used.
        data: The data set, opened with the net's own preprocessing.
        k: Neighbours that vote, at least 1.
        temperature: A neighbour of cosine similarity s has exp(s / temperature) votes; above 0.
        seed: Key of the images that the penalty is chosen on.
        trainer: Lightning's ``Trainer`` options ``accelerator``, ``devices``, ``precision``.

    Raises:
        InvalidSetting: Net, data or options do not go together.
        BadData: Training images of fewer than two classes.
        ResNetHubError: The data cannot be read.
    """
    if k < 1:
        raise InvalidSetting(f"k: {k} neighbours cannot vote; take at least 1")
    if not 0 < temperature < math.inf:
        raise InvalidSetting(f"temperature: {temperature:g} is not above 0")
    placed = one_device(trainer or {})
    data.split("train")  # refused before the other split costs anything
    tested = outputs(net, data, data.tested, trainer=placed)
    trained = outputs(net, data, "train", trainer=placed)
    if len(set(trained.labels.tolist())) < 2:
        raise BadData(
            f"{data.described} train: all {len(trained.labels):,} images are of one class, and "
            "telling classes apart needs two"
        )
    device, classes = placed.strategy.root_device, len(data.labels)
    features = trained.values.to(device)
    choice = choose_l2(features, trained.labels, seed=seed)
    linear = fit(features, trained.labels, l2=choice.l2).answers(tested.values)
    near, numbers = nearest(trained.values, tested.values, k=k, device=device)
    labels = trained.labels[numbers]
    weighted, plain = (
        answers(near, labels, classes=classes, temperature=t) for t in (temperature, None)
    )
    return Probe(
        data=data.measured,
        n=len(tested.labels),
        training_n=len(trained.labels),
        features=features.shape[1],
        classes=tuple(data.labels),
        seed=seed,
        linear=Accuracy.of(linear, tested.labels),
        l2=choice,
        k=numbers.shape[1],
        temperature=temperature,
        knn=Accuracy.of(weighted, tested.labels),
        knn_plain=Accuracy.of(plain, tested.labels),
        from_cache=tested.from_cache and trained.from_cache,
    )
