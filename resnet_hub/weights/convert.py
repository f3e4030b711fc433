"""Other projects' checkpoints as our tensors: renaming tables, dict to dict."""

import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor

from resnet_hub.errors import CorruptFile, InvalidSetting, WeightsMismatch
from resnet_hub.labels import CIFAR10_LABELS
from resnet_hub.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from resnet_hub.weights.match import HEAD, oddity
from resnet_hub.weights.peers import Peer, from_resnetv2
from resnet_hub.weights.store import read_tensors, write_file, write_tensors


@dataclass(frozen=True)
class Converted:
    """A foreign checkpoint, renamed.

    Attributes:
        tensors: Under our names (torchvision's).
        form: What it was recognised as.
        preprocess: What its nets were trained with; ``None`` where the form does not tell.
        labels: Class names, where the form tells.
        original: Under the names they came with, less a wrapper's prefix.
        peers: Libraries whose nets take the original.
    """

    tensors: dict[str, Tensor]
    original: dict[str, Tensor]
    form: str
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] | None = None
    peers: tuple[Peer, ...] = ()

    @property
    def classes(self) -> int | None:
        """Outputs, by the classifier's weight, where there is one."""
        return _classes(self.tensors)


AKAMASTER = "akamaster/pytorch_resnet_cifar10"
"""Form of the published CIFAR checkpoints."""

_ZIP = b"PK\x03\x04"


def read_checkpoint(path: Path, *, where: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a ``.pth``/``.th``/``.ckpt`` or safetensors file; never run its code.

    A state dict may lie at the top or under ``state_dict`` or ``model``.

    Args:
        path: The file.
        where: What messages call it; its path by default.

    Raises:
        CorruptFile: No such file, not a checkpoint, or one that holds more than plain tensors and
            plain values.
    """
    where = where or str(path)
    if path.is_dir():
        raise CorruptFile(
            f"{where}: a folder; `resnet-hub export` makes a model of a run or its checkpoint"
        )
    if not path.is_file():
        raise CorruptFile(f"{where}: no such file")
    if path.suffix.lower() == ".safetensors":
        return read_tensors(path)
    if fault := _fault_of_archive(path):
        raise CorruptFile(f"{where}: {fault}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of odd pickles; we refuse or read them
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CorruptFile(
            f"{where}: refused, it is damaged or holds more than tensors and plain values, "
            "and code in a checkpoint is never run"
        ) from error
    except Exception as error:  # damaged bytes raise anything, and torch's words may advise to run
        raise CorruptFile(
            f"{where}: not a checkpoint that torch can read; "
            "it is cut, damaged or of another format"
        ) from error
    tensors = _state_of(content)
    if not tensors:
        raise CorruptFile(f"{where}: holds no state dict (looked at the top, state_dict and model)")
    if "net" in content:
        tensors = _trained(tensors)
    for name, tensor in tensors.items():
        if odd := oddity(tensor):
            raise CorruptFile(f"{where}: {name} is no plain tensor ({odd})")
    return tensors


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a state dict as a safetensors or a torch file, by its ending, whole or not at all.

    Raises:
        InvalidSetting: Another ending than ``.safetensors`` and ``.pth``.
        ResNetHubError: The disk refused; the file that was there is intact.
    """
    if path.suffix == ".safetensors":
        write_tensors(path, tensors)
    elif path.suffix == ".pth":
        # Clones: of a tensor that is part of a larger memory, torch would write the whole of it.
        own = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        content = BytesIO()  # as torch keeps a disk's reason to itself
        torch.save(own, content)
        write_file(path, lambda file: file.write(content.getbuffer()))
    else:
        raise InvalidSetting(f"{path}: a checkpoint's name ends in .safetensors or .pth")


def convert(tensors: Mapping[str, Tensor], *, where: str = "the checkpoint") -> Converted:
    """Rename a foreign state dict and tell what it was.

    Recognised: torchvision and timm's classic nets (the same names as ours), CIFAR nets of
    akamaster/pytorch_resnet_cifar10 (a ``linear`` head), timm's ``resnetv2``; each also with the
    ``module.`` prefix of ``DataParallel``.

    Args:
        tensors: By their foreign names, dense.
        where: Their file, for messages.

    Raises:
        WeightsMismatch: Two of them would have one name.
    """
    original = _renamed(tensors, lambda name: name.removeprefix("module."), where)
    if "linear.weight" in original:
        plain = _renamed(original, lambda name: re.sub(r"^linear\.", "fc.", name), where)
        return Converted(
            plain,
            original,
            AKAMASTER,
            Preprocess(size=32, resize=None, mean=IMAGENET_MEAN, std=IMAGENET_STD),
            CIFAR10_LABELS if _classes(plain) == len(CIFAR10_LABELS) else None,
        )
    deep = "stem.conv1.weight" in original
    if deep or "stem.conv.weight" in original:
        plain = _renamed(original, partial(from_resnetv2, pooled=deep), where)
        head = plain.get(HEAD[0])
        if head is None or head.shape[2:] != (1, 1):
            return Converted(plain, original, "timm resnetv2")
        plain[HEAD[0]] = head[:, :, 0, 0]  # its classifier is a 1×1 convolution
        return Converted(plain, original, "timm resnetv2", peers=("timm",))
    return Converted(original, original, "torchvision's names", peers=("torchvision", "timm"))


def _classes(tensors: Mapping[str, Tensor]) -> int | None:
    weight = tensors.get(HEAD[0])
    return None if weight is None or weight.dim() != 2 else len(weight)


def _renamed(
    tensors: Mapping[str, Tensor], rename: Callable[[str], str], where: str
) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for old, tensor in tensors.items():
        if (new := rename(old)) in renamed:
            raise WeightsMismatch(f"{where}: holds {new} twice, once as {old}; leave one out")
        renamed[new] = tensor
    return renamed


def _fault_of_archive(path: Path) -> str | None:
    """Return why a zip file is none of torch's own checkpoints, by its table of contents."""
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            return None  # torch's older format, perhaps
    try:
        with ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception:  # damaged bytes raise anything
        return "a damaged zip file; fetch it again"
    if any(PurePosixPath(entry.filename).name == "constants.pkl" for entry in entries):
        return "a TorchScript program, and code in a file is never run; save its state_dict() alone"
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        return "a compressed zip file, which torch never writes and which may unfold to any size"
    return None


def _trained(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the net's tensors of a Classifier that Lightning saved, its average where it has one.

    Others' state dicts stay as they are.
    """
    for prefix in ("averaged.module.", "net."):
        own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if own:
            return own
    return tensors


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
