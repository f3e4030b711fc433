"""Sets in memory that live on the training device: a batch is gathered where it is used."""

from collections.abc import Iterable

import torch
from torch import Tensor

from resnet_hub.data.settings import DataSettings

_SHARE = 4
"""Part of a GPU's free memory, one in so many, that a set may take unasked."""


class Resident:
    """Copies of tensors on a device, each made once: splits of one array share it.

    Attributes:
        device: The device.

    Args:
        device: See above.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._made: dict[int, tuple[Tensor, Tensor]] = {}  # with the original: its id stays its own

    def copy(self, tensor: Tensor) -> Tensor:
        """Return the tensor's copy on the device; where it lies there already, itself."""
        if id(tensor) not in self._made:
            self._made[id(tensor)] = (tensor, tensor.to(self.device))
        return self._made[id(tensor)][1]


def stays(settings: DataSettings, device: torch.device, images: Iterable[Tensor]) -> bool:
    """Return whether a set's images are to live on a device.

    Args:
        settings: ``resident`` decides; where it is ``None``, images live on a GPU that has room,
            unless the CPU has work with each of them.
        device: What trains on them, or scores.
        images: Of all splits; what splits share counts once.
    """
    if settings.resident is not None:
        return settings.resident
    if device.type != "cuda" or settings.workers or settings.policy != "none":
        return False
    size = sum({id(one): one.nbytes for one in images}.values())
    free, _ = torch.cuda.mem_get_info(device)
    return size <= free // _SHARE
