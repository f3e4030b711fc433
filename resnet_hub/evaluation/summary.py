"""All that is said of a net's answers on a data set: errors, classes, confusion, calibration."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from resnet_hub.errors import InvalidSetting
from resnet_hub.evaluation.calibration import (
    Calibration,
    calibration,
    cross_fitted,
    fit_temperature,
)
from resnet_hub.evaluation.collected import Logits
from resnet_hub.metrics import bootstrap


@dataclass(frozen=True)
class Rate:
    """A fraction of images, with its bootstrap 95% interval.

    Attributes:
        value: The fraction.
        low: Lower end of the interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, count: int, n: int) -> "Rate":
        """Return the rate of ``count`` images among ``n``, above 0."""
        return cls(count / n, *bootstrap(count, n))

    def __str__(self) -> str:
        return f"{self.value:.2%} ({self.low:.2%} to {self.high:.2%})"


@dataclass(frozen=True)
class ClassScore:
    """One class of the data.

    Attributes:
        name: Its name.
        n: Images of it.
        top1_error: Fraction of them whose first answer is another class; ``None`` of no image.
        top5_error: Fraction of them without it among the first five; likewise.
        precision: Fraction of the images answered so that are of it; ``None`` of no such answer.
        confused_with: The most frequent wrong first answer; ``None`` without any.
        confused: How often that was given.
    """

    name: str
    n: int
    top1_error: float | None
    top5_error: float | None
    precision: float | None
    confused_with: str | None
    confused: int


@dataclass(frozen=True)
class Temperature:
    """The temperature that calibrates best, and what is gained by it.

    Attributes:
        value: By which logits are divided.
        fitted_on: ``validation``: on images that are not the tested ones. ``tested``: on the tested
            ones, as there are no others; ``after`` is cross-fitted then, each half of the images
            with the other half's temperature, so that none is judged by its own.
        n: Images that ``value`` was fitted on.
        after: The tested images' calibration with it.
    """

    value: float
    fitted_on: Literal["validation", "tested"]
    n: int
    after: Calibration


@dataclass(frozen=True, eq=False)
class Summary:
    """What a net, or an ensemble, answered for the images of a split.

    Attributes:
        n: Images.
        top1_error: Of how many the first answer is wrong.
        top5_error: Of how many the right one is not among the first five, or all classes if fewer.
        per_class: Every class, in the order of the labels.
        confusion: int64 ``(K, K)``: images of class (row) that were answered by class (column).
        calibration: Of the probabilities as they are.
        temperature: What mends them; ``None`` where one image is all there is.
        images_per_s: Throughput as measured, without start-up; ``None`` if it was not.
        hardware: What the answers were computed on.
    """

    n: int
    top1_error: Rate
    top5_error: Rate
    per_class: tuple[ClassScore, ...]
    confusion: Tensor
    calibration: Calibration
    temperature: Temperature | None
    images_per_s: float | None
    hardware: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON, the confusion matrix as a list of rows."""
        parts = {name: value for name, value in vars(self).items() if name != "confusion"}
        plain = {name: _plain(value) for name, value in parts.items()}
        return {**plain, "confusion": self.confusion.tolist()}


def summarise(
    logits: Logits,
    classes: Sequence[str],
    *,
    seed: int = 0,
    validation: Logits | None = None,
) -> Summary:
    """Return all that is said of a net's answers.

    Args:
        logits: What it gave for the tested images.
        classes: Names, in the order of the labels.
        seed: Key of the halves of a cross-fitted temperature.
        validation: What it gave for other images, to fit the temperature on.

    Raises:
        InvalidSetting: No image, or another number of classes.
    """
    values, labels, n = logits.values, logits.labels, len(logits.labels)
    if not n or values.shape[1] != len(classes):
        raise InvalidSetting(
            f"logits: {n} images by {values.shape[1]} classes, where there are {len(classes)}"
        )
    top = answers(values)
    first, among = top[:, 0] == labels, (top == labels[:, None]).any(1)
    confusion = confusion_matrix(top[:, 0], labels, len(classes))
    return Summary(
        n=n,
        top1_error=Rate.of(n - int(first.sum()), n),
        top5_error=Rate.of(n - int(among.sum()), n),
        per_class=_per_class(confusion, labels[~among], classes),
        confusion=confusion,
        calibration=calibration(values, labels),
        temperature=temperature_of(logits, seed=seed, validation=validation),
        images_per_s=logits.images_per_s,
        hardware=logits.hardware,
    )


def answers(values: Tensor) -> Tensor:
    """Return the likeliest classes, int64 ``(N, min(5, classes))``, in the metric's order.

    Args:
        values: Logits, float ``(N, classes)``.
    """
    return values.topk(min(5, values.shape[1]), dim=1).indices


def confusion_matrix(given: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return how many images of each class (row) were given each (column), int64 ``(K, K)``.

    Args:
        given: First answers, int64 ``(N,)``.
        labels: int64 ``(N,)``.
        classes: K.
    """
    return torch.bincount(labels * classes + given, minlength=classes**2).view(classes, classes)


def temperature_of(
    logits: Logits, *, seed: int = 0, validation: Logits | None = None
) -> Temperature | None:
    """Fit a temperature, and measure the calibration of the tested images with it.

    Args:
        logits: Of the tested images.
        seed: Key of the halves, where there are no other images.
        validation: Of other images, to fit it on.

    Returns:
        ``None`` where there is one tested image and no other.
    """
    values, labels = logits.values, logits.labels
    if validation is not None:
        value = fit_temperature(validation.values, validation.labels)
        after = calibration(values, labels, value)
        return Temperature(value, "validation", len(validation.labels), after)
    if len(labels) < 2:
        return None
    after = calibration(values, labels, cross_fitted(values, labels, seed=seed))
    return Temperature(fit_temperature(values, labels), "tested", len(labels), after)


def _per_class(confusion: Tensor, missed: Tensor, classes: Sequence[str]) -> tuple[ClassScore, ...]:
    """Return every class's score; ``missed`` has the labels of images without a right answer."""
    right, wrong = confusion.diagonal(), confusion.clone().fill_diagonal_(0)
    most = wrong.max(1)
    columns = (
        *(confusion.sum(1), confusion.sum(0), right),
        *(torch.bincount(missed, minlength=len(classes)), most.indices, most.values),
    )
    return tuple(
        ClassScore(
            name=name,
            n=n,
            top1_error=(n - hits) / n if n else None,
            top5_error=lost / n if n else None,
            precision=hits / given if given else None,
            confused_with=classes[other] if count else None,
            confused=count,
        )
        for name, n, given, hits, lost, other, count in zip(
            classes, *(column.tolist() for column in columns), strict=True
        )
    )


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value
