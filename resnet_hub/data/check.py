"""Reading every sample of a data set before it is trained on, to report what is damaged."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from torch.utils.data import ConcatDataset, DataLoader

from resnet_hub.data.cifar import Cifar10, Cifar100
from resnet_hub.data.damage import Examination, Examined
from resnet_hub.data.files import ImageFiles
from resnet_hub.data.jpegs import decoder_warns
from resnet_hub.data.module import DataModule, Split
from resnet_hub.data.pack import are_there, shard_faults
from resnet_hub.data.pack_index import INDEX, is_pack, read_index
from resnet_hub.data.pack_remote import is_address
from resnet_hub.data.workers import available_cores, end, prepare, workers_named
from resnet_hub.errors import WorkerLost

_FILES_AT_ONCE = 16
"""Files that a worker reads before it hands over what it found."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was found.

    Attributes:
        path: The file, or what else it is about.
        reason: What is wrong.
        damage: Whether this file is damaged; otherwise it is a warning.
        splits: The two that a picture is in, if it is in two.
        in_two_classes: Whether it is a picture that is under another class too.
    """

    path: str
    reason: str
    damage: bool = True
    splits: tuple[Split, ...] = ()
    in_two_classes: bool = False


@dataclass(kw_only=True)
class Report:
    """What there is in a data set, and what was found.

    Attributes:
        data: The data set's name.
        samples: How many were read, by split.
        findings: In the order in which they were found.
        official: Paths of the files whose checksum is the published one, of a set that has such.
    """

    data: str
    samples: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    official: list[str] = field(default_factory=list)

    @property
    def damaged(self) -> int:
        """How many files are damaged."""
        return sum(finding.damage for finding in self.findings)


Tell = Callable[[Finding], None]
Advance = Callable[[int, int], None]
See = Callable[[Split, int, Examined], None]


def check_data(
    data: DataModule,
    *,
    tell: Tell = lambda finding: None,
    advance: Advance = lambda done, total: None,
    see: See = lambda split, index, examined: None,
) -> Report:
    """Read every sample of every split and report what is damaged.

    Image files are decoded in ``data.workers`` processes (0: one a core), as
    :func:`~resnet_hub.data.damage.examine` does; warnings tell of classes that nothing sound is
    left of, and of a picture that is in two splits or under two classes, byte for byte. A pack's
    tar files are held against their SHA-256 before, and each image against its CRC-32. CIFAR's
    files are compared with the official checksums and read. A change that a JPEG's decoder does not
    stumble over stays unseen.

    Args:
        data: The data set, opened or not.
        tell: Takes each finding as it is made.
        advance: Takes how many files were read, of how many.
        see: Takes what was found in each image file, with its split and its place there.

    Raises:
        DataMissing: Nothing there.
        BadData: Folders that make no data set.
        WorkerLost: A process that reads was killed, or hangs.
    """
    report = Report(data=type(data).__name__)

    def found(finding: Finding) -> None:
        report.findings.append(finding)
        tell(finding)

    data.prepare_data()
    if isinstance(data, Cifar10 | Cifar100):
        _check_cifar(data, report, found, advance)
        return report
    if is_pack(data.root) and not is_address(data.settings.root):  # what is fetched is verified
        for path, reason in shard_faults(data.root):
            found(Finding(path=path, reason=reason))
        if not are_there(data.root):  # what lies in the others is as good as unread
            report.samples = dict(read_index(data.root / INDEX).images)
            return report
    report.samples = {name: len(split) for name, split in data.open().splits.items()}
    files = {name: split for name, split in data.splits.items() if isinstance(split, ImageFiles)}
    if files:
        _check_files(data, files, found, advance, see)
    return report


def _check_cifar(data: Cifar10 | Cifar100, report: Report, found: Tell, advance: Advance) -> None:
    total = len(data.layout.sums)
    report.samples = {"train": 0, "test": 0}
    for done, file in enumerate(data.examined(), 1):
        if file.wrong:
            found(Finding(path=file.path, reason=file.wrong))
        if file.split:
            report.samples[file.split] += file.images
        if file.official:
            report.official.append(file.path)
        advance(done, total)


def _check_files(
    data: DataModule, splits: Mapping[Split, ImageFiles], found: Tell, advance: Advance, see: See
) -> None:
    jpeg_warnings = decoder_warns()
    if not jpeg_warnings:
        reason = "its JPEG decoder does not tell of damage; JPEGs are only read as in training"
        found(Finding(path="torchvision", reason=reason, damage=False))
    everything = [Examination(split, jpeg_warnings=jpeg_warnings) for split in splits.values()]
    total, done = sum(map(len, everything)), 0
    examined = _examined(data, everything)
    first: dict[bytes, tuple[Split, int]] = {}  # where each picture was seen first
    for name, split in splits.items():
        damaged: Counter[int] = Counter()
        for index, label in enumerate(split.labels.tolist()):
            one = next(examined)
            see(name, index, one)
            if one.damage is not None:
                found(Finding(path=split.path(index), reason=one.damage))
                damaged[label] += 1
            if one.digest is not None:
                before, place = first.setdefault(one.digest, (name, index))
                there = int(splits[before].labels[place])
                if (before, there) != (name, label):
                    found(_repeated(data, splits, (name, index), (before, place)))
            done += 1
            advance(done, total)
        _tell_of_classes(data, name, split, damaged, found)


def _repeated(
    data: DataModule,
    splits: Mapping[Split, ImageFiles],
    here: tuple[Split, int],
    there: tuple[Split, int],
) -> Finding:
    """Return that the picture here, a split and a place in it, is the same as the one there."""
    (name, index), (before, place) = here, there
    label, other = (data.labels[int(splits[split].labels[i])] for split, i in (here, there))
    return Finding(
        path=splits[name].path(index),
        reason=f"in {name} as {label!r}, and the same picture is in {before} as {other!r}: "
        f"{splits[before].path(place)}",
        damage=False,
        splits=(before, name) if name != before else (),
        in_two_classes=label != other,
    )


def _tell_of_classes(
    data: DataModule, name: str, split: ImageFiles, damaged: Counter[int], found: Tell
) -> None:
    """Tell of the classes that nothing sound is left of, beside their files."""
    images = Counter(split.labels.tolist())
    for label, count in sorted(damaged.items()):
        if count == images[label] > 1:
            place = f"{data.root}, {name}, class {data.labels[label]!r}"
            reason = f"not one of its {count:,} images is sound"
            found(Finding(path=place, reason=reason, damage=False))


def _examined(data: DataModule, everything: list[Examination]) -> Iterator[Examined]:
    """Yield what is found in each file, in their order."""
    timeout, name = data.settings.timeout, data.described
    loader: DataLoader[Examined] = DataLoader(
        ConcatDataset(everything),
        batch_size=_FILES_AT_ONCE,
        num_workers=data.settings.workers or available_cores(),
        collate_fn=cast(Any, list),
        worker_init_fn=prepare,
        timeout=timeout,
    )
    with workers_named(name, timeout):
        batches = iter(loader)
    try:
        while True:
            with workers_named(name, timeout, reading=True):
                batch = next(batches, None)
            if batch is None:
                return
            yield from batch
    except WorkerLost:
        end(cast(Any, batches)._workers)
        raise
