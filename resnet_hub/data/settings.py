"""What a recipe says of its data: one flat class, torch-free."""

from dataclasses import dataclass
from typing import Literal

DataName = Literal["Digits", "Cifar10", "Cifar100", "ImageNet", "Folder"]
Augment = Literal["none", "pad_crop", "pad_crop_flip", "resized_crop_flip", "scale_crop_flip"]


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The ``data:`` section of a recipe.

    Attributes:
        name: The data set; ``open_data`` finds its class.
        root: Folder that holds it (``cifar-10-batches-py``, or ``train/`` and ``val/``); ``~`` is
            expanded.
        download: Fetch what is missing, where the data set can be fetched.
        batch_size: Images a forward pass on one device.
        workers: Processes that read images; sets held in memory need none.
        timeout: Seconds that a batch of a worker is waited for; then the run ends, as the worker
            hangs.
        held_out: Training images kept out for validation; ``None`` takes the data set's own. With
            a validation split there is a best checkpoint; without one only the last counts, and
            the test curves steer nothing.
        augment: ``none``; ``pad_crop`` (pad by ``pad``, crop at random); ``pad_crop_flip`` (then
            flip at random, 1512.03385 §4.2); ``resized_crop_flip`` (random area and aspect ratio,
            1409.4842 §6); ``scale_crop_flip`` (shorter side drawn from ``scale``, 1512.03385
            §3.4). ``None`` takes the data set's own.
        pad: Pixels added on each side before the random crop.
        scale: Bounds of the shorter side in pixels, for ``scale_crop_flip``.
        per_pixel_mean: Subtract the training set's mean image instead of mean and std a channel
            (1512.03385 §4.2); for sets held in memory, and nets whose weights bring no other mean.
        size: Side of training images in pixels; ``None`` takes the evaluation's.
        eval_size: Side of evaluation images in pixels; ``None`` takes the data set's own.
        eval_resize: Shorter side before the central crop, in pixels; ``None`` takes the own.
        interpolation: Filter of every resizing.
        on_bad_image: ``raise`` names the file and stops; ``skip`` leaves it out, counts, reports
            (and trains on the next image where none is left of a batch).
        exif: ``apply`` turns photographs upright as their EXIF says; ``ignore`` reads as stored.
        classes: Limit to these class folders (ImageNet: their indices are kept).
    """

    name: DataName = "Cifar10"
    root: str = "data"
    download: bool = True
    batch_size: int = 128
    workers: int = 0
    timeout: float = 300.0
    held_out: int | None = None
    augment: Augment | None = None
    pad: int = 4
    scale: tuple[int, int] = (256, 480)
    per_pixel_mean: bool = False
    size: int | None = None
    eval_size: int | None = None
    eval_resize: int | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    on_bad_image: Literal["raise", "skip"] = "raise"
    exif: Literal["apply", "ignore"] = "ignore"
    classes: tuple[str, ...] | None = None
