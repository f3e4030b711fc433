"""Making a pack of a data set of image files."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import torch

from resnet_hub.data.files import ImageFiles
from resnet_hub.data.files_module import ImageFilesDataModule
from resnet_hub.data.module import Split
from resnet_hub.data.pack_index import (
    VERSION,
    Index,
    Prepared,
    Table,
    is_pack,
    numbers,
    write_index,
)
from resnet_hub.data.pack_shard import Done, Job, Member, finished, write_shard
from resnet_hub.data.workers import available_cores
from resnet_hub.errors import BadData, InvalidSetting, WorkerLost
from resnet_hub.randomness import permutation
from resnet_hub.weights.store import write_text

_PLAN = ".packing.json"
_SHARD_BYTES = 256 << 20
_LOOKED_AT = 512  # files whose sizes tell how many images make a shard
_MOST_IMAGES = 16_384
_SAFE = re.compile(r"[A-Za-z0-9_/-]{1,90}")  # no dot: WebDataset's key ends at the first


class _Row(NamedTuple):
    """An image of the data set: its split, its name below the folder, its file, its class."""

    split: Split
    name: str
    path: str
    label: int


@dataclass(frozen=True, kw_only=True)
class Made:
    """A pack that was made.

    Attributes:
        images: How many are in it, by split.
        shards: How many tar files.
        size: Bytes of these.
        refused: What could not be read and is left out, a line each.
    """

    images: dict[str, int]
    shards: int
    size: int
    refused: tuple[str, ...] = ()


def pack(
    data: ImageFilesDataModule,
    out: Path,
    *,
    prepared: Prepared | None = None,
    shard_images: int | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Made:
    """Write a data set's images as tar files in WebDataset's form, with an index.

    Broken off, it goes on where it was when it is called again with the same images and arguments;
    without ``shards.json``, which is written last, the folder is no pack. Training images lie in a
    keyed random order, so that each tar file is a fair sample; others in theirs.

    Args:
        data: The data set, not opened; splits are packed as they lie on disk, whatever is held out
            of them. ``data.workers`` processes read (0: one a core). ``data.on_bad_image`` says
            whether what cannot be read is refused or left out.
        out: A folder that is empty, not there, or was begun by an earlier call.
        prepared: Make larger pictures smaller; ``None`` keeps every byte.
        shard_images: Images a tar file; ``None``: so many that it has about 256 MiB.
        advance: Takes how many images were packed, of how many.

    Raises:
        InvalidSetting: ``out`` holds something else, or the data set is a pack.
        BadData: An image that cannot be read, or folders that make no data set.
        DataMissing: Nothing there.
        ResNetHubError: The disk refused.
        WorkerLost: A process was killed.
    """
    whole = type(data)(replace(data.settings, held_out=0), seed=data.seed)
    whole.open()
    if whole.pack is not None:
        raise InvalidSetting(f"{data.root}: is a pack already; pack the folder it was made of")
    if shard_images is not None and shard_images < 1:
        raise InvalidSetting(f"--shard-images: {shard_images} is not at least 1")
    splits = {n: files for n, files in whole.splits.items() if isinstance(files, ImageFiles)}
    count = shard_images or _images_a_shard(splits, prepared)
    _begin(out, _plan(splits, prepared, count))
    rows = _rows(whole, splits)
    jobs = _jobs(rows, out, prepared, count, data.settings.on_bad_image == "skip")
    made: list[Done] = []
    packed = 0
    for done in _done(jobs, data.settings.workers or available_cores()):
        made.append(done)
        packed += len(done.packed) + len(done.refused)
        advance(packed, len(rows))
    result = _finish(whole, rows, out, prepared, made)
    for left in (out / _PLAN, *out.glob(".*.tar.*")):  # notes, and what a killed process left
        left.unlink(missing_ok=True)
    refused = sorted(line for done in made for line in done.refused)
    return replace(result, refused=tuple(refused))


def _images_a_shard(splits: Mapping[Split, ImageFiles], prepared: Prepared | None) -> int:
    paths = [files.path(i) for files in splits.values() for i in range(len(files))]
    chosen = paths[:: max(1, len(paths) // _LOOKED_AT)]
    mean = sum(Path(path).stat().st_size for path in chosen) / len(chosen)
    if prepared is not None:  # some 3 bits a pixel of a picture of 4:3, or what it had
        mean = min(mean, prepared.short_side**2 * 4 / 3 * 3 / 8)
    return max(1, min(_MOST_IMAGES, int(_SHARD_BYTES / max(mean, 1))))


def _plan(splits: Mapping[Split, ImageFiles], prepared: Prepared | None, count: int) -> str:
    stamps = {split: files.stamp() for split, files in splits.items()}
    whole = json.dumps([VERSION, stamps, str(prepared), count])
    return hashlib.sha256(whole.encode()).hexdigest()


def _begin(out: Path, plan: str) -> None:
    """Note what is going to be packed, or check that it is what was begun."""
    if out.exists() and not out.is_dir():
        raise InvalidSetting(f"{out}: is a file; choose another folder")
    if is_pack(out):
        raise InvalidSetting(f"{out}: is a finished pack; remove it, or choose another folder")
    begun = out / _PLAN
    if begun.is_file():
        if begun.read_text(encoding="utf-8", errors="replace") != plan:
            raise InvalidSetting(
                f"{out}: was begun with other images or arguments; remove it, or choose another "
                "folder"
            )
        return
    if out.exists() and any(out.iterdir()):
        raise InvalidSetting(f"{out}: holds other things; choose another folder")
    write_text(begun, plan)


def _rows(data: ImageFilesDataModule, splits: Mapping[Split, ImageFiles]) -> list[_Row]:
    """Return every image, split by split, and class folder by class folder."""
    rows = []
    for split, files in splits.items():
        own = []
        for index, label in enumerate(files.labels.tolist()):
            path = files.path(index)
            own.append(_Row(split, data.packed_name(path, label), path, label))
        rows += sorted(own, key=lambda row: row.name.rpartition("/")[0])
    return rows


def _jobs(
    rows: Sequence[_Row], out: Path, prepared: Prepared | None, count: int, skip: bool
) -> list[Job]:
    """Cut every split into tar files."""
    keys = _keys([row.name for row in rows])
    jobs, first = [], 0
    for split, group in groupby(rows, key=attrgetter("split")):
        images = len(list(group))
        order = permutation(images, "pack") if split == "train" else torch.arange(images)
        whole = (order + first).tolist()
        for number, begin in enumerate(range(0, images, count)):
            chunk = whole[begin : begin + count]
            members = (Member(i, rows[i].path, rows[i].label, keys[i]) for i in chunk)
            path = out / f"{split}-{number:06d}.tar"
            jobs.append(Job(path, tuple(members), prepared, skip))
        first += images
    return jobs


def _keys(names: Sequence[str]) -> list[str]:
    """Return what each image is called in its tar file: its name, where that can be a key."""
    plain = [name.rpartition(".")[0] for name in names]
    twice = Counter(plain)
    return [
        key if _SAFE.fullmatch(key) and twice[key] == 1 else f"+{row:08d}"
        for row, key in enumerate(plain)
    ]


def _done(jobs: Sequence[Job], workers: int) -> Iterator[Done]:
    """Write what is not written yet, and yield all, in the order in which they come."""
    open_jobs = []
    for job in jobs:
        if (done := finished(job.path)) is not None:
            yield done
        else:
            open_jobs.append(job)
    if workers == 1 or len(open_jobs) <= 1:
        yield from map(write_shard, open_jobs)
        return
    pool = ProcessPoolExecutor(min(workers, len(open_jobs)))
    try:
        for future in as_completed([pool.submit(write_shard, job) for job in open_jobs]):
            yield future.result()
    except BrokenProcessPool as error:
        raise WorkerLost(
            "a process that packs was lost; if memory ran out, lower data.workers; the same "
            "command goes on where it was"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _finish(
    data: ImageFilesDataModule,
    rows: Sequence[_Row],
    out: Path,
    prepared: Prepared | None,
    made: list[Done],
) -> Made:
    made = sorted((done for done in made if done.packed), key=lambda done: done.shard.name)
    where = {one.row: (n, one) for n, done in enumerate(made) for one in done.packed}
    there = sorted(where)
    if not there:
        raise BadData(f"{data.root}: not one image can be read")
    found = [where[row] for row in there]
    table = Table(
        names=tuple(rows[row].name for row in there),
        shard=numbers([number for number, _ in found]).to(torch.int32),
        offset=numbers([one.offset for _, one in found]),
        size=numbers([one.size for _, one in found]),
        label=numbers([rows[row].label for row in there]),
        sum=numbers([one.sum for _, one in found]),
    )
    images = dict(Counter[str](rows[row].split for row in there))
    shards = tuple(done.shard for done in made)
    kind, folder = type(data).__name__, data.tree.name(data.root)
    index = Index(kind, folder, prepared, tuple(data.labels), images, shards, "")
    write_index(out, index, table)
    return Made(images=images, shards=len(shards), size=sum(shard.size for shard in shards))
