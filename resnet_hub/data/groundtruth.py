"""The official labels of ImageNet's flat validation folder."""

import csv
import importlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from resnet_hub.errors import BadData, CorruptFile, DataMissing

KAGGLE = "LOC_val_solution.csv"
DEVKIT = Path("ILSVRC2012_devkit_t12", "data")


def validation_wnids(root: Path, known: Collection[str]) -> dict[str, str]:
    """Return the wnid of each validation image by its file name without the ending.

    Read from the devkit, ``ILSVRC2012_devkit_t12/data/`` with ``meta.mat`` and
    ``ILSVRC2012_validation_ground_truth.txt`` (which needs SciPy), or else from Kaggle's
    ``LOC_val_solution.csv``.

    Args:
        root: Folder that holds either.
        known: The wnids that there are.

    Raises:
        DataMissing: Neither is there, or SciPy is missing.
        CorruptFile: A file of another format.
        BadData: A line that names no class.
    """
    if (root / KAGGLE).is_file():
        rows = _kaggle(root / KAGGLE)
    elif (root / DEVKIT / "meta.mat").is_file():
        rows = _devkit(root / DEVKIT)
    else:
        raise DataMissing(
            f"ImageNet: {root / 'val'} is flat, and its labels are not in {root}: neither {DEVKIT} "
            f"(unpacked from ILSVRC2012_devkit_t12.tar.gz) nor {KAGGLE}"
        )
    wnids = {}
    for place, image, wnid in rows:
        if wnid not in known:
            raise BadData(f"{place}: {wnid!r:.80} is none of ImageNet's classes")
        wnids[image] = wnid
    return wnids


def _kaggle(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (place, image, wnid); of the boxes that follow each wnid, all are of one class."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                yield f"{path}:{number}", row["ImageId"], row["PredictionString"].split()[0]
    except (UnicodeDecodeError, csv.Error, KeyError, AttributeError, IndexError) as error:
        raise CorruptFile(f"{path}: not Kaggle's list of ImageId,PredictionString") from error


def _devkit(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (place, image, wnid); line i of the ground truth is the class of image i."""
    wnids = _wnids_by_id(folder / "meta.mat")
    truth = folder / "ILSVRC2012_validation_ground_truth.txt"
    if not truth.is_file():
        raise DataMissing(f"ImageNet: {truth} is missing; unpack the devkit again")
    for number, line in enumerate(truth.read_text(encoding="ascii", errors="replace").split(), 1):
        place = f"{truth}:{number}"
        if not line.isdecimal() or int(line) not in wnids:
            raise BadData(f"{place}: {line!r:.80} is no class number from 1 to {len(wnids)}")
        yield place, f"ILSVRC2012_val_{number:08d}", wnids[int(line)]


def _wnids_by_id(path: Path) -> dict[int, str]:
    try:
        scipy_io: Any = importlib.import_module("scipy.io")
    except ImportError as error:
        raise DataMissing(
            f"ImageNet: {path} is read by SciPy: pip install scipy, or put {KAGGLE} in the root"
        ) from error
    try:
        synsets = scipy_io.loadmat(path, variable_names=["synsets"], squeeze_me=True)["synsets"]
        # Synsets with children are nodes above the 1,000 classes.
        return {
            int(row["ILSVRC2012_ID"]): str(row["WNID"])
            for row in synsets
            if int(row["num_children"]) == 0
        }
    except Exception as error:  # SciPy raises anything, given bytes of another format
        raise CorruptFile(f"{path}: not the devkit's table of synsets") from error
