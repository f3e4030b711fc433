"""Other projects' checkpoints as our tensors: renaming tables, dict to dict."""

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnet_hub.errors import CorruptFile
from resnet_hub.labels import CIFAR10_LABELS
from resnet_hub.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from resnet_hub.weights.match import HEAD
from resnet_hub.weights.store import read_tensors


@dataclass(frozen=True)
class Converted:
    """A foreign checkpoint, renamed.

    Attributes:
        tensors: Under our names (torchvision's).
        form: What it was recognised as.
        preprocess: What its nets were trained with; ``None`` where the form does not tell.
        labels: Class names, where the form tells.
    """

    tensors: dict[str, Tensor]
    form: str
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] | None = None

    @property
    def classes(self) -> int | None:
        """Outputs, by the classifier's weight, where there is one."""
        weight = self.tensors.get(HEAD[0])
        return None if weight is None or weight.dim() != 2 else len(weight)


# timm's resnetv2 names, as regular expressions, and ours.
_RESNETV2 = (
    (r"^stem\.conv\.", "conv1."),
    (r"^stages\.(\d+)\.blocks\.(\d+)\.norm(\d)\.", r"layer{stage}.\2.bn\3."),
    (r"^stages\.(\d+)\.blocks\.(\d+)\.downsample\.conv\.", r"layer{stage}.\2.downsample.0."),
    (r"^stages\.(\d+)\.blocks\.(\d+)\.", r"layer{stage}.\2."),
    (r"^head\.fc\.", "fc."),
)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a ``.pth``/``.th``/``.ckpt`` or safetensors file; never run its code.

    A state dict may lie at the top or under ``state_dict`` or ``model``.

    Raises:
        CorruptFile: No such file, not a checkpoint, or one that holds more than tensors and plain
            values.
    """
    if not path.is_file():
        raise CorruptFile(f"{path}: no such file")
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of odd pickles; we refuse or read them
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CorruptFile(
            f"{path}: refused, it is damaged or holds more than tensors and plain values, "
            "and code in a checkpoint is never run"
        ) from error
    except Exception as error:  # damaged bytes can raise anything inside the reader
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptFile(f"{path}: not a checkpoint that torch can read ({reason})") from error
    tensors = _state_of(content)
    if not tensors:
        raise CorruptFile(f"{path}: holds no state dict (looked at the top, state_dict and model)")
    return tensors


def convert(tensors: Mapping[str, Tensor]) -> Converted:
    """Rename a foreign state dict and tell what it was.

    Recognised: torchvision and timm's classic nets (the same names as ours), CIFAR nets of
    akamaster/pytorch_resnet_cifar10 (a ``linear`` head), timm's ``resnetv2``; each also with the
    ``module.`` prefix of ``DataParallel``.
    """
    plain = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    if "linear.weight" in plain:
        return Converted(
            {re.sub(r"^linear\.", "fc.", name): tensor for name, tensor in plain.items()},
            "akamaster/pytorch_resnet_cifar10",
            Preprocess(size=32, resize=None, mean=IMAGENET_MEAN, std=IMAGENET_STD),
            CIFAR10_LABELS if len(plain["linear.weight"]) == len(CIFAR10_LABELS) else None,
        )
    if "stem.conv.weight" in plain:
        return Converted(_from_resnetv2(plain), "timm resnetv2")
    return Converted(dict(plain), "torchvision's names")


def _from_resnetv2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for old, tensor in tensors.items():
        name = old
        for pattern, replacement in _RESNETV2:
            if found := re.match(pattern, name):
                stage = int(found[1]) + 1 if "{stage}" in replacement else 0
                name = re.sub(pattern, replacement.replace("{stage}", str(stage)), name)
                break
        # timm's classifier is a 1×1 convolution.
        renamed[name] = tensor.flatten(1) if name == "fc.weight" else tensor
    return renamed


def _state_of(content: Any) -> dict[str, Tensor]:
    places = [content]
    if isinstance(content, Mapping):
        places += [content.get("state_dict"), content.get("model")]
    for place in places:
        if isinstance(place, Mapping):
            tensors = {
                n: t for n, t in place.items() if isinstance(n, str) and isinstance(t, Tensor)
            }
            if tensors and len(tensors) == len(place):
                return tensors
    return {}
