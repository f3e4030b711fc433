"""ImageNet's validation images by their reassessed labels, ReaL (2006.07159)."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from resnet_hub.data.files import ImageFiles
from resnet_hub.data.module import DataModule
from resnet_hub.errors import BadData, CorruptFile, DataMissing, InvalidSetting
from resnet_hub.evaluation.summary import Rate

Labels = tuple[tuple[int, ...], ...]
"""The labels of each validation image, in the official order; none where people found none."""

_IMAGES, _CLASSES = 50_000, 1000
_NAME = re.compile(r"ILSVRC2012_val_(\d{8})")


@dataclass(frozen=True)
class Real:
    """How often answers are none of an image's reassessed labels.

    Attributes:
        n: Images that have a label; the others are left out.
        top1_error: Of how many of them the first answer is none of them.
    """

    n: int
    top1_error: Rate


def read_real(path: Path) -> Labels:
    """Read ``real.json``: a list with a list of labels for each validation image.

    Raises:
        DataMissing: There is no such file.
        CorruptFile: It holds something else.
    """
    if not path.is_file():
        raise DataMissing(
            f"{path}: no such file; real.json is in google-research/reassessed-imagenet"
        )
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path}: not JSON") from error
    if not isinstance(content, list) or len(content) != _IMAGES:
        raise CorruptFile(f"{path}: not a list of {_IMAGES:,} lists of labels, as real.json is")
    for number, labels in enumerate(content, 1):
        if not isinstance(labels, list) or not all(_is_label(label) for label in labels):
            raise CorruptFile(f"{path}: entry {number:,} is no list of labels from 0 to 999")
    return tuple(tuple(labels) for labels in content)


def real_score(given: Tensor, indices: Tensor, data: DataModule, labels: Labels) -> Real:
    """Count first answers against the reassessed labels.

    Args:
        given: First answers, int64 ``(N,)``.
        indices: The images' numbers in ``data.tested``, int64 ``(N,)``.
        data: ImageNet, opened: its files' names tell which validation image each is.
        labels: What :func:`read_real` returns.

    Raises:
        InvalidSetting: The images are no validation images of ImageNet.
        BadData: None of them has a label.
    """
    known = [labels[number - 1] for number in _numbers(indices, data)]
    pairs = [(a, own) for a, own in zip(given.tolist(), known, strict=True) if own]
    if not pairs:
        raise BadData("ReaL: none of the images has a label there")
    wrong = sum(answer not in own for answer, own in pairs)
    return Real(len(pairs), Rate.of(wrong, len(pairs)))


def _numbers(indices: Tensor, data: DataModule) -> list[int]:
    files, numbers = data.split(data.tested), []
    for index in indices.tolist():
        name = Path(files.path(index)).stem if isinstance(files, ImageFiles) else data.described
        found = _NAME.fullmatch(name)
        if found is None or not 1 <= int(found[1]) <= _IMAGES:
            raise InvalidSetting(
                f"--real: {name} is no validation image of ImageNet, such as "
                "ILSVRC2012_val_00000001.JPEG; ReaL labels are for these"
            )
        numbers.append(int(found[1]))
    return numbers


def _is_label(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _CLASSES
