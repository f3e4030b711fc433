"""Weights that other projects publish, fetched and turned into model folders of ours."""

from pathlib import Path
from typing import cast

from resnet_hub import __version__
from resnet_hub.labels import imagenet_classes
from resnet_hub.preprocess import Interpolation, Preprocess
from resnet_hub.weights.cache import remember
from resnet_hub.weights.card import Card
from resnet_hub.weights.catalog import PublishedWeights
from resnet_hub.weights.convert import convert, read_checkpoint
from resnet_hub.weights.folder import fill_folder
from resnet_hub.weights.match import matched
from resnet_hub.weights.provenance import Provenance, Score, software
from resnet_hub.weights.shapes import expected_tensors
from resnet_hub.weights.transfer import download
from resnet_hub.zoo import find_row

IMAGENET_VAL, IMAGENET_VAL_IMAGES = "ImageNet val", 50_000


def fetch(entry: PublishedWeights, folder: Path) -> None:
    """Download weights, verify them, and write them as a model folder.

    The file must have the hash that upstream states, and from the second download on the whole
    digest that the first good one had. It is a pickle: read as plain tensors alone, and gone when
    this returns or fails.

    Args:
        entry: A row of the catalog.
        folder: An empty folder that appears whole later, or goes if this fails.

    Raises:
        DataMissing: The server or the network refused.
        CorruptFile: What came is another file than was asked for, or holds more than tensors.
        WeightsMismatch: Its tensors are not those of the net.
        Diverged: A tensor holds numbers that are not finite.
        ResNetHubError: The disk refused.
    """
    architecture = find_row(entry.net).architecture
    pickled = folder / "upstream.pth"
    try:
        digest = download(entry.url, pickled, sha256=entry.sha256)
        tensors = read_checkpoint(pickled, where=entry.url)
    finally:
        pickled.unlink(missing_ok=True)
    foreign = convert(tensors, where=entry.url).tensors
    tensors = matched(foreign, expected_tensors(architecture), entry.url)
    remember(entry.name, digest)
    card = Card(
        architecture=architecture,
        preprocess=preprocess_of(entry),
        labels=tuple(imagenet_classes().values()),
        provenance=provenance_of(entry, digest),
    )
    fill_folder(folder, card, tensors, uses=entry.name)


def preprocess_of(entry: PublishedWeights) -> Preprocess:
    """Return what upstream does to images before its net."""
    return Preprocess(
        size=entry.size,
        resize=entry.resize,
        interpolation=cast(Interpolation, entry.interpolation),
        mean=entry.mean,
        std=entry.std,
    )


def provenance_of(entry: PublishedWeights, digest: str) -> Provenance:
    """Return where weights come from, with the scores that upstream published.

    Args:
        entry: A row of the catalog.
        digest: SHA-256 of the file that was fetched.
    """
    score = Score(data=IMAGENET_VAL, top1=entry.top1, top5=entry.top5, n=IMAGENET_VAL_IMAGES)
    return Provenance(
        source=f"{entry.url} (SHA-256 {digest})",
        recipe={"published": entry.recipe},
        scores=(score,),
        licence=None if entry.licence == "unstated" else entry.licence,
        version=__version__,
        versions=software(),
    )
