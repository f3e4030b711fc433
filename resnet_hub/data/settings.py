"""What a recipe says of its data: one flat class, torch-free."""

import math
from dataclasses import dataclass
from typing import Literal

from resnet_hub.errors import InvalidSetting

DataName = Literal[
    "Digits",
    "Cifar10",
    "Cifar100",
    "ImageNet",
    "ImageNetV2",
    "ImageNetA",
    "ImageNetR",
    "ImageNetSketch",
    "Folder",
]
Augment = Literal[
    "none",
    "pad_crop",
    "pad_crop_flip",
    "pad_crop_alternating_flip",
    "resized_crop_flip",
    "scale_crop_flip",
]
Policy = Literal[
    "none",
    "trivial",
    "autoaugment_imagenet",
    "autoaugment_cifar10",
    "randaugment",
    "randaugment_increasing",
]
Knots = tuple[tuple[int, int], ...]

_MOST_MAGNITUDE = {"randaugment": 30, "randaugment_increasing": 10}


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The ``data:`` section of a recipe.

    Attributes:
        name: The data set; ``open_data`` finds its class.
        root: Folder that holds it (``cifar-10-batches-py``, or ``train/`` and ``val/``), or a pack
            of it; ``~`` is expanded. A pack may be an ``https://`` address too.
        download: Fetch what is missing, where the data set can be fetched.
        batch_size: Images a forward pass on one device.
        workers: Processes that read images; sets held in memory need none.
        resident: Whether a set held in memory lives on the training device, whole and in bytes, and
            batches are gathered there; ``None``: on a GPU whose free memory is four times the set,
            without ``workers`` and ``policy``. It changes no number.
        timeout: Seconds that a batch of a worker is waited for; then the run ends, as the worker
            hangs.
        held_out: Training images kept out for validation; ``None`` takes the data set's own. With
            a validation split there is a best checkpoint; without one only the last counts, and
            the test curves steer nothing.
        augment: ``none``; ``pad_crop`` (pad by ``pad``, crop at random); ``pad_crop_flip`` (then
            flip at random, 1512.03385 §4.2); ``pad_crop_alternating_flip`` (mirrored in every
            second epoch, half of the images in the even ones, 2404.00498 §3.6);
            ``resized_crop_flip`` (random area and aspect ratio, 1409.4842 §6);
            ``scale_crop_flip`` (shorter side drawn from ``scale``, 1512.03385 §3.4). ``None`` takes
            the data set's own.
        pad: Pixels added on each side before the random crop.
        pad_mode: What they hold: ``zeros`` after normalisation, the mean; ``reflect``, the image
            mirrored at its border.
        scale: Bounds of the shorter side in pixels, for ``scale_crop_flip``.
        policy: What else happens to a training image, in ``workers``: ``trivial``
            (TrivialAugmentWide, 2103.10158); ``autoaugment_imagenet`` and ``autoaugment_cifar10``
            (1805.09501, by what they were searched on); ``randaugment`` (1909.13719 as torchvision
            has it); ``randaugment_increasing`` (timm's form: every operation is stronger at a
            higher magnitude, each is left out half of the time). Of files after the crop, of sets
            in memory before it.
        policy_magnitude: Strength of RandAugment's operations: 0 to 30 of ``randaugment``, 0 to 10
            of ``randaugment_increasing``.
        policy_std: Standard deviation of the magnitude, drawn for each operation;
            ``randaugment_increasing`` alone.
        policy_ops: Operations an image of either RandAugment.
        lighting: Standard deviation of the colour shift along ImageNet's principal components
            (Krizhevsky et al. 2012 §4.1, where it is 0.1); 0 leaves it out.
        erase: Probability that a rectangle of a training image is erased (1708.04896); 0 leaves it
            out.
        erase_area: Bounds of its share of the image.
        erase_aspect: Bounds of its height over its width, drawn by logarithm.
        erase_fill: What it holds then: ``zeros`` after normalisation, the mean; ``noise``, a
            standard normal number a pixel and channel.
        repeats: How often an image comes in one epoch, each time augmented anew (1901.09335); an
            epoch keeps its length, and so sees this fraction of the images.
        sampling: ``shuffled``: an epoch has each training image once; ``balanced``: each class
            equally often, and the images of a class once each before any comes again. An epoch
            keeps its number of images.
        shuffle_shards: Of a pack, train through its shards in a random order, the images of each
            mixed over so many of them; ``None`` mixes all images, which needs all shards at hand.
        cache_gb: Of a pack that is fetched, how many gigabytes to keep on disk; ``None``: all.
        per_pixel_mean: Subtract the training set's mean image instead of mean and std a channel
            (1512.03385 §4.2); for sets held in memory, and nets whose weights bring no other mean.
        size: Side of training images in pixels; ``None`` takes the evaluation's.
        sizes: The same by epoch, in place of ``size``: ``[[epoch, side], ...]``. Between two of
            them the side goes straight, rounded to a multiple of 32 as FFCV's recipe does; before
            the first and behind the last it stays. ``[[4, 128], [5, 160]]`` is a step.
        eval_size: Side of evaluation images in pixels; ``None`` takes the data set's own.
        eval_resize: Shorter side before the central crop, in pixels; ``None`` takes the own.
        interpolation: Filter of every resizing.
        on_bad_image: ``raise`` names the file and stops; ``skip`` leaves it out, counts, reports
            (and trains on the next image where none is left of a batch; on the next of its class
            where classes are balanced).
        exif: ``apply`` turns photographs upright as their EXIF says; ``ignore`` reads as stored.
        classes: Limit to these class folders (ImageNet: their indices are kept).
    """

    name: DataName = "Cifar10"
    root: str = "data"
    download: bool = True
    batch_size: int = 128
    workers: int = 0
    resident: bool | None = None
    timeout: float = 300.0
    held_out: int | None = None
    augment: Augment | None = None
    pad: int = 4
    pad_mode: Literal["zeros", "reflect"] = "zeros"
    scale: tuple[int, int] = (256, 480)
    policy: Policy = "none"
    policy_magnitude: int = 9
    policy_std: float = 0.0
    policy_ops: int = 2
    lighting: float = 0.0
    erase: float = 0.0
    erase_area: tuple[float, float] = (0.02, 0.33)
    erase_aspect: tuple[float, float] = (0.3, 3.3)
    erase_fill: Literal["zeros", "noise"] = "zeros"
    repeats: int = 1
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    shuffle_shards: int | None = None
    cache_gb: float | None = None
    per_pixel_mean: bool = False
    size: int | None = None
    sizes: Knots | None = None
    eval_size: int | None = None
    eval_resize: int | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    on_bad_image: Literal["raise", "skip"] = "raise"
    exif: Literal["apply", "ignore"] = "ignore"
    classes: tuple[str, ...] | None = None

    def check_channels(self, channels: int) -> None:
        """Check that images of so many channels can be augmented as asked.

        Raises:
            InvalidSetting: They cannot.
        """
        if self.policy != "none" and channels not in (1, 3):
            raise InvalidSetting(
                f"data.policy: {self.policy} is for 1 or 3 channels; these images have {channels}"
            )
        if self.lighting and channels != 3:
            raise InvalidSetting(
                f"data.lighting: is for 3 channels, red, green and blue; these images have "
                f"{channels}"
            )

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise InvalidSetting(f"data.repeats: {self.repeats} is not at least 1")
        if self.sampling == "balanced" and self.repeats > 1:
            raise InvalidSetting(
                "data.sampling: balanced repeats images of small classes by itself; leave "
                "data.repeats out"
            )
        if self.shuffle_shards is not None and (
            self.shuffle_shards < 1 or self.sampling == "balanced"
        ):
            raise InvalidSetting(
                f"data.shuffle_shards: {self.shuffle_shards} is not at least 1, or data.sampling "
                "is balanced, which takes images of all shards"
            )
        if self.cache_gb is not None and not 0 < self.cache_gb < math.inf:
            raise InvalidSetting(f"data.cache_gb: {self.cache_gb!r} is no size of a cache")
        if not 0 <= self.lighting < math.inf:
            raise InvalidSetting(f"data.lighting: {self.lighting!r} is no standard deviation")
        self._check_policy()
        self._check_erasing()
        if self.sizes is not None:
            self._check_sizes(self.sizes)

    def _check_policy(self) -> None:
        most = _MOST_MAGNITUDE.get(self.policy)
        if most is not None and not 0 <= self.policy_magnitude <= most:
            raise InvalidSetting(
                f"data.policy_magnitude: {self.policy_magnitude} is not 0 to {most}, which "
                f"{self.policy} takes"
            )
        if not 0 <= self.policy_std < math.inf:
            raise InvalidSetting(f"data.policy_std: {self.policy_std!r} is no standard deviation")
        if self.policy_std and self.policy != "randaugment_increasing":
            raise InvalidSetting(
                f"data.policy_std: is for randaugment_increasing; data.policy is {self.policy}"
            )
        if self.policy_ops < 1:
            raise InvalidSetting(f"data.policy_ops: {self.policy_ops} is not at least 1")

    def _check_erasing(self) -> None:
        if not 0 <= self.erase <= 1:
            raise InvalidSetting(f"data.erase: {self.erase!r} is no probability")
        low, high = self.erase_area
        if not 0 < low <= high <= 1:
            raise InvalidSetting(
                f"data.erase_area: {low:g} to {high:g} are not bounds of a share of the image"
            )
        low, high = self.erase_aspect
        if not 0 < low <= high < math.inf:
            raise InvalidSetting(
                f"data.erase_aspect: {low:g} to {high:g} are not bounds of a ratio"
            )

    def _check_sizes(self, sizes: Knots) -> None:
        if self.size is not None:
            raise InvalidSetting("data.sizes: takes the place of data.size; leave one of them out")
        epochs = [epoch for epoch, _ in sizes]
        if not sizes or epochs[0] < 0 or epochs != sorted(set(epochs)):
            raise InvalidSetting(
                f"data.sizes: {epochs} are not rising epochs, counted from 0; give [[epoch, size], "
                "...]"
            )
        for _, size in sizes:
            if size < 1:
                raise InvalidSetting(f"data.sizes: {size} is no side of an image")
