"""What there is in a folder of pictures: all that is to be known before a net is trained on it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median_low

from resnet_hub.data.check import Advance, Finding, check_data
from resnet_hub.data.damage import Examined
from resnet_hub.data.files import ImageFiles
from resnet_hub.data.folder import Folder
from resnet_hub.data.module import Split
from resnet_hub.errors import BadData, DataMissing

Size = tuple[int, int]
"""Width and height, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen in a folder of pictures.

    Attributes:
        root: The folder, as it was named.
        labels: The classes.
        counts: Pictures that can be read, by split, one number a class.
        held_out: Files that validation takes of the training ones; 0 where it has its own.
        smallest: Size of the picture with the fewest pixels, upright.
        median: Size of the one in the middle.
        largest: Size of the one with the most.
        side: The shorter side of a picture, in pixels: the median of all.
        grey: Pictures without any colour.
        turned: Pictures that are stored turned or mirrored, by their EXIF.
        unreadable: Files that cannot be read as pictures.
        damaged: Pictures that can be read, though damaged.
        in_two_splits: Pictures that are in another split too, byte for byte.
        tested_twice: Of these, the ones that the final score is measured on.
        in_two_classes: Pictures that are under another class too, byte for byte.
        findings: All of these, and what else was found, in words.
        example: Path of a picture that scores are measured on.
    """

    root: str
    labels: tuple[str, ...]
    counts: Mapping[Split, tuple[int, ...]]
    held_out: int
    smallest: Size
    median: Size
    largest: Size
    side: int
    grey: int = 0
    turned: int = 0
    unreadable: int = 0
    damaged: int = 0
    in_two_splits: int = 0
    tested_twice: int = 0
    in_two_classes: int = 0
    findings: tuple[Finding, ...] = ()
    example: str = ""

    @property
    def pictures(self) -> int:
        """Pictures that can be read, in all splits."""
        return sum(map(sum, self.counts.values()))

    @property
    def trained(self) -> int:
        """Pictures to train on."""
        return sum(self.counts["train"])

    @property
    def tested(self) -> Split:
        """The split that the final score is measured on."""
        return "test" if "test" in self.counts else "val"

    @property
    def skew(self) -> float:
        """Training pictures of the largest class over those of the smallest."""
        return max(self.counts["train"]) / min(self.counts["train"])


def look(data: Folder, *, advance: Advance = lambda done, total: None) -> Look:
    """Read every picture of a folder, once, and return what there is.

    Args:
        data: The folder, opened or not; pictures are read by its ``data.exif``, in as many
            processes as its ``data.workers`` says (0: one a core).
        advance: Takes how many files were read, of how many.

    Raises:
        DataMissing: No folder, no classes, or no training or validation pictures.
        BadData: Folders that make no data set, or a class that no training picture of can be read.
        WorkerLost: A process that reads was killed, or hangs.
    """
    for split in ("train", data.open().tested):
        data.split(split)
    seen = _Seen(data)
    report = check_data(data, advance=advance, see=seen.take)
    counts = {
        split: tuple(seen.counts[split, label] for label in range(len(data.labels)))
        for split in data.splits
    }
    for label, count in zip(data.labels, counts["train"], strict=True):
        if not count:
            raise BadData(
                f"{data.root}: not one training picture of class {label!r} can be read; see "
                f"`resnet-hub data check Folder --data.root {data.root}`"
            )
    if not seen.example:
        raise DataMissing(f"{data.root}: not one {data.tested} picture can be read")
    sizes = sorted(seen.sizes, key=lambda size: (size[0] * size[1], size))
    return Look(
        root=data.settings.root,
        labels=tuple(data.labels),
        counts=counts,
        held_out=len(data.splits["val"]) if data.holds_out else 0,
        smallest=sizes[0],
        median=sizes[(len(sizes) - 1) // 2],
        largest=sizes[-1],
        side=median_low(map(min, sizes)),
        grey=seen.grey,
        turned=seen.turned,
        unreadable=seen.unreadable,
        damaged=report.damaged - seen.unreadable,
        in_two_splits=sum(bool(finding.splits) for finding in report.findings),
        tested_twice=sum(data.tested in finding.splits for finding in report.findings),
        in_two_classes=sum(finding.in_two_classes for finding in report.findings),
        findings=tuple(report.findings),
        example=seen.example,
    )


class _Seen:
    """Adds up what the pictures of a data set are.

    Args:
        data: The data set, opened.
    """

    def __init__(self, data: Folder) -> None:
        self._tested = data.tested
        self._files = {
            n: files for n, files in data.splits.items() if isinstance(files, ImageFiles)
        }
        self.counts: Counter[tuple[Split, int]] = Counter()
        self.sizes: list[Size] = []
        self.grey = self.turned = self.unreadable = 0
        self.example = ""

    def take(self, split: Split, index: int, examined: Examined) -> None:
        """Add one file."""
        if (picture := examined.picture) is None:
            self.unreadable += 1
            return
        self.counts[split, int(self._files[split].labels[index])] += 1
        self.sizes.append((picture.width, picture.height))
        self.grey += picture.grey
        self.turned += picture.turned
        if split == self._tested and not self.example:
            self.example = self._files[split].path(index)
