"""Distillation: a teacher's answers on the same batch as further targets (1503.02531)."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_hub.data.module import DataModule
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings import DistillationSettings
from resnet_hub.nets.resnet import ResNet
from resnet_hub.preprocess import Preprocess

_KEY = "distillation.teacher"


class Teacher:
    """A trained net that answers a student's batches; no part of the student's module.

    It is in evaluation mode and takes no gradient. What it sees is the batch as the student does,
    augmented and mixed, brought from the data's normalisation to its own: an affine map, which
    mixing leaves in its place.

    Args:
        net: The net, with its preprocessing.
        settings: Temperature and weight.
        labels: The data's classes.
        preprocess: The data's preprocessing.

    Raises:
        InvalidSetting: Other classes, channels, or a mean image that is not the data's.
    """

    def __init__(
        self,
        net: ResNet,
        settings: DistillationSettings,
        *,
        labels: Sequence[str],
        preprocess: Preprocess,
    ) -> None:
        self.net, self.settings = net.eval().requires_grad_(False), settings
        self._columns = _columns(net.labels, labels)
        self._affine = _affine(preprocess, net.preprocess)

    @classmethod
    def load(cls, settings: DistillationSettings, data: DataModule) -> "Teacher | None":
        """Return the settings' teacher of a data set, on the CPU; none, if they name none.

        Raises:
            InvalidSetting: It does not go with the data.
            ResNetHubError: It cannot be loaded.
        """
        if settings.teacher is None:
            return None
        net = ResNet.from_pretrained(settings.teacher)
        return cls(net, settings, labels=data.labels, preprocess=data.preprocess)

    def to(self, device: torch.device, *, channels_last: bool) -> None:
        """Move to a device; lay the tensors out as the student's."""
        layout = torch.channels_last if channels_last else torch.contiguous_format
        cast(Any, self.net).to(device, memory_format=layout)
        self._columns = None if self._columns is None else self._columns.to(device)
        if self._affine is not None:
            scale, shift = self._affine
            self._affine = scale.to(device), shift.to(device)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Return the teacher's logits ``(N, classes)``, in the order of the data's classes.

        Args:
            images: float ``(N, C, H, W)``, as the student has them.
        """
        if self._affine is not None:
            scale, shift = self._affine
            images = images * scale + shift
        logits: Tensor = self.net(images)
        return logits if self._columns is None else logits[:, self._columns]

    def guide(self, loss: Tensor, logits: Tensor, images: Tensor) -> Tensor:
        """Return the labels' loss and the teacher's, weighted.

        Args:
            loss: The student's loss against its labels, a scalar.
            logits: The student's ``(N, classes)``.
            images: float ``(N, C, H, W)`` that they are of.
        """
        alpha = self.settings.alpha
        soft = divergence(logits, self.logits(images), temperature=self.settings.temperature)
        return (1 - alpha) * loss + alpha * soft


def divergence(logits: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Return T² · KL(teacher ‖ student) of the softened answers, the images' mean (1503.02531 §2).

    The factor T² keeps the gradients' scale whatever the temperature; less the teacher's entropy,
    which no student changes, this is the paper's cross-entropy.

    Args:
        logits: The student's ``(N, classes)``.
        teacher: The teacher's, of the same shape.
        temperature: T.
    """
    student, target = (F.log_softmax(x.float() / temperature, 1) for x in (logits, teacher))
    kl = F.kl_div(student, target, reduction="batchmean", log_target=True)
    return kl * temperature**2


def _columns(own: Sequence[str] | None, labels: Sequence[str]) -> Tensor | None:
    """Return where the data's classes stand among the teacher's; none where they stand alike."""
    if own is None:
        raise InvalidSetting(f"{_KEY}: its classes have no names to match the data's by")
    if list(own) == list(labels):
        return None
    if sorted(own) != sorted(labels):
        gone, more = (sorted({*a} - {*b})[:4] for a, b in ((labels, own), (own, labels)))
        raise InvalidSetting(
            f"{_KEY}: has {len(own)} classes, and the data {len(labels)} (missing in it: "
            f"{', '.join(map(repr, gone)) or 'none'}; in it alone: "
            f"{', '.join(map(repr, more)) or 'none'}); take a teacher of the same classes"
        )
    if len({*own}) < len(own):
        raise InvalidSetting(
            f"{_KEY}: names of classes come twice, and stand otherwise in the data"
        )
    return torch.tensor([list(own).index(name) for name in labels])


def _affine(given: Preprocess, own: Preprocess) -> tuple[Tensor, Tensor] | None:
    """Return scale and shift ``(C, 1, 1)`` from one normalisation to another; none if equal."""
    if given.channels != own.channels:
        raise InvalidSetting(
            f"{_KEY}: takes {own.channels} image channels, and the data have {given.channels}"
        )
    if (given.mean, given.std) == (own.mean, own.std):
        return None
    if max(len(given.mean), len(own.mean)) > given.channels:
        raise InvalidSetting(
            f"{_KEY}: was trained with another mean image than the data's; leave "
            "data.per_pixel_mean as it was in the teacher's training"
        )
    (mean, std), (own_mean, own_std) = (
        (torch.tensor(p.mean).view(-1, 1, 1), torch.tensor(p.std).view(-1, 1, 1))
        for p in (given, own)
    )
    return std / own_std, (mean - own_mean) / own_std
