"""From a source to a model folder: on this machine already, or fetched first."""

import hashlib
from contextlib import suppress
from pathlib import Path
from urllib.parse import urljoin

from torch import Tensor

from resnet_hub.errors import CorruptFile, DataMissing
from resnet_hub.weights import cache
from resnet_hub.weights.card import (
    CARD_NAME,
    MOST_BYTES,
    README_NAME,
    WEIGHTS_NAME,
    Card,
    read_card,
)
from resnet_hub.weights.folder import read_folder
from resnet_hub.weights.huggingface import fetch_repo
from resnet_hub.weights.reach import is_offline
from resnet_hub.weights.readme import write_readme
from resnet_hub.weights.sources import HubRepo, LocalFolder, Published, Source, Url, parse
from resnet_hub.weights.store import write_text
from resnet_hub.weights.transfer import download, shown


def resolve(source: str | Path | Source, *, local_files_only: bool = False) -> Path:
    """Return the model folder that a source names, fetched first if it is not on this machine.

    Args:
        source: See :func:`~resnet_hub.weights.sources.parse`.
        local_files_only: Make no request.

    Raises:
        DataMissing: No such folder, repository or file; or not cached, and the server cannot be
            reached or requests are forbidden; or a net without published weights.
        CorruptFile: What a server gave is not what was asked for.
        UnknownName: No weights are called so.
        InvalidSetting: A source that cannot be one.
    """
    source = parse(source)
    offline = local_files_only or is_offline()
    if isinstance(source, LocalFolder):
        with suppress(OSError, ValueError):  # too long for a path, or with a NUL in it
            if source.path.is_dir():
                return source.path
        raise DataMissing(f"{str(source)!r}: no such folder; a model folder holds {CARD_NAME}")
    if isinstance(source, Published):
        return _published(source, offline)
    if isinstance(source, HubRepo):
        return fetch_repo(source, local_files_only=offline)
    return _fetch_url(source, offline)


def read_model(
    source: str | Path | Source, *, local_files_only: bool = False
) -> tuple[Card, dict[str, Tensor], Path]:
    """Read a model, its weights checked against the digest in its card.

    What the cache holds damaged is fetched again.

    Args:
        source: See :func:`~resnet_hub.weights.sources.parse`.
        local_files_only: Make no request.

    Returns:
        The card, the tensors (memory-mapped, copy-on-write), and the weights' path.

    Raises:
        CorruptFile: A folder is no model folder, or a file of it is damaged.
        ResNetHubError: See :func:`resolve`.
    """
    source = parse(source)
    folder = resolve(source, local_files_only=local_files_only)
    ours = not isinstance(source, LocalFolder) and folder.is_relative_to(cache.root())
    try:
        if ours:
            cache.check(folder)
        return read_folder(folder)
    except CorruptFile as error:
        if not ours:
            raise
        damage = error
    if local_files_only or is_offline():
        raise CorruptFile(
            f"{damage}; online it is fetched anew, as after `resnet-hub cache clear {source}`"
        ) from damage
    with cache.set_aside(folder):
        try:
            return read_folder(resolve(source))
        except DataMissing as error:
            raise DataMissing(f"{damage}, but {error}") from error


def _published(source: Published, offline: bool) -> Path:
    from resnet_hub.weights.catalog import find_weights, packaged
    from resnet_hub.weights.upstream import fetch as fetch_upstream

    if shipped := packaged(source.name):
        return shipped
    entry = find_weights(source.name)
    folder = cache.published(entry.name)
    if offline and not cache.holds(folder):
        raise DataMissing(f"{entry.name}: not cached, and requests are forbidden; fetch it online")
    return cache.filled(folder, lambda place: fetch_upstream(entry, place), source=entry.name)


def _fetch_url(source: Url, offline: bool) -> Path:
    # The card is not in the digest: another server's would be another model.
    place = hashlib.sha256(source.url.encode()).hexdigest()[:16]
    folder = cache.root() / "urls" / f"{source.sha256}-{place}"
    if offline and not cache.holds(folder):
        raise DataMissing(f"{source}: not cached, and requests are forbidden; fetch it once online")

    def fill(place: Path) -> None:
        beside = urljoin(source.url, CARD_NAME)
        download(beside, place / CARD_NAME, most=MOST_BYTES)
        card = read_card(place)
        if card.provenance.sha256 != source.sha256:
            raise CorruptFile(f"{shown(beside)}: is the card of other weights than #sha256= names")
        download(source.url, place / WEIGHTS_NAME, sha256=source.sha256)
        write_text(place / README_NAME, write_readme(card, str(source)))

    return cache.filled(folder, fill, source=str(source))
