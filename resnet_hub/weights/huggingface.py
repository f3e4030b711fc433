"""Model folders out of Hugging Face Hub repositories: every word of the server is checked.

The Hub's own client asks and authorises; it would let an ETag name a file and keep wrong bytes of
the right length, so the files themselves are fetched and verified here.
"""

import hashlib
import os
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast
from urllib.parse import urljoin, urlsplit

from resnet_hub.counting import parameters
from resnet_hub.errors import CorruptFile, DataMissing, InvalidSetting, ResNetHubError
from resnet_hub.weights import cache
from resnet_hub.weights.card import CARD_NAME, MOST_BYTES, README_NAME, WEIGHTS_NAME, read_card
from resnet_hub.weights.reach import in_time, is_offline, probe
from resnet_hub.weights.readme import write_readme
from resnet_hub.weights.sources import HubRepo, is_address
from resnet_hub.weights.store import sha256_of, write_text
from resnet_hub.weights.tokens import hidden_token
from resnet_hub.weights.transfer import download

_ANSWER = 30.0  # seconds that the client may take for an answer, redirects included
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def fetch_repo(source: HubRepo, *, local_files_only: bool = False) -> Path:
    """Return a repository's model folder, out of the cache if it is there.

    What a branch or tag was when it was first asked for is what it stays, until the cache is
    cleared. A copy that the Hub's own client keeps is used too, if its weights are those of its
    card.

    Raises:
        DataMissing: Not cached and offline, or no such repository, revision or file, or no right to
            read it.
        CorruptFile: What the server gave is not what it said, or no model folder.
        InvalidSetting: ``HF_ENDPOINT`` is no web address.
    """
    home = cache.root() / "hub" / source.repo.replace("/", "--")
    given = source.revision if _COMMIT.fullmatch(source.revision) else None
    commit = given or cache.read_revision(source.repo, source.revision)
    if commit and cache.holds(home / commit):
        return home / commit
    if find_spec("huggingface_hub") is None:
        raise DataMissing(f"{source}: needs the Hub's client; pip install huggingface_hub")
    check_endpoint()
    if found := _of_client(source):
        return found
    if local_files_only or is_offline():
        raise DataMissing(f"{source}: not cached, and requests are forbidden; fetch it once online")
    commit = _current_commit(source)
    folder = cache.filled(
        home / commit,
        lambda place: _fill(source, commit, place),
        source=str(HubRepo(source.repo, commit)),
    )
    if commit != source.revision:
        write_text(cache.revision_file(source.repo, source.revision), commit)
    return folder


def check_endpoint() -> None:
    """Check ``HF_ENDPOINT``, before the client's import prints of it and fails.

    Raises:
        InvalidSetting: It is no web address.
    """
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if not is_address(endpoint) or urlsplit(endpoint).scheme not in ("http", "https"):
        raise InvalidSetting(
            "HF_ENDPOINT: is no web address, such as https://huggingface.co; mend or unset it"
        )


def _fill(source: HubRepo, commit: str, folder: Path) -> None:
    """Fetch the card, and by it the weights."""
    _fetch_file(source, commit, CARD_NAME, folder, most=MOST_BYTES)
    card = read_card(folder)
    most = 9 * parameters(card.architecture) + MOST_BYTES  # float64, and a header
    digest = _fetch_file(source, commit, WEIGHTS_NAME, folder, most=most)
    if digest != card.provenance.sha256:
        raise CorruptFile(
            f"{source}: {WEIGHTS_NAME} has SHA-256 {digest[:12]}…, its card says "
            f"{card.provenance.sha256[:12]}…; nothing was kept"
        )
    write_text(folder / README_NAME, write_readme(card, str(HubRepo(source.repo, commit))))


def _fetch_file(source: HubRepo, commit: str, name: str, folder: Path, *, most: int) -> str:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public, untyped

    url = hf_hub_url(source.repo, name, revision=commit)
    told = _metadata(source, url)
    digest, size = str(told.etag), told.size
    if told.commit_hash != commit or not _DIGEST.fullmatch(digest):
        raise CorruptFile(f"{source}: the server names no digest of {name} at {commit[:12]}…")
    if size is not None and not 0 < size <= most:
        stated = f"over {most:,} bytes" if size > 0 else "no byte at all"
        raise CorruptFile(f"{source}: by what the server states, {name} has {stated}")
    if not is_address(place := _joined(url, told.location)):
        raise CorruptFile(f"{source}: the server sends to what is no address")
    here, there = urlsplit(url), urlsplit(place)
    if there.scheme != here.scheme:
        raise CorruptFile(f"{source}: the server sends to {there.scheme}:, not {here.scheme}:")
    headers = build_hf_headers()
    if there.netloc != here.netloc:
        headers.pop("authorization", None)  # the token is the Hub's alone
    path = folder / name
    found = download(place, path, size=size, most=most, headers=headers)
    if digest not in (found, _git_digest(path)):
        raise CorruptFile(
            f"{source}: the bytes of {name} that came are not those that the Hub lists; nothing "
            "was kept, try again"
        )
    return found


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        return ""


def _current_commit(source: HubRepo) -> str:
    from huggingface_hub import constants, hf_hub_url

    probe(constants.ENDPOINT)
    told = _metadata(source, hf_hub_url(source.repo, CARD_NAME, revision=source.revision))
    if not _COMMIT.fullmatch(commit := str(told.commit_hash)):
        raise CorruptFile(f"{source}: the server names no commit")
    if _COMMIT.fullmatch(source.revision) and commit != source.revision:
        raise CorruptFile(f"{source}: the server has another commit under that name")
    return commit


def _metadata(source: HubRepo, url: str) -> Any:
    from huggingface_hub import get_hf_file_metadata

    try:
        # The client's own timeout is that of each byte, and a server may send some for ever.
        return in_time(hidden_token()(lambda: get_hf_file_metadata(url, timeout=10)), _ANSWER)
    except Exception as error:
        if (reason := _reason(source, error)) is None:
            raise
    # Raised here, where no cause clings to it: a server's words may repeat the token.
    raise DataMissing(f"{source}: {reason}")


def _of_client(source: HubRepo) -> Path | None:
    """Return a snapshot that ``hf download`` or another program cached, if it is whole."""
    from huggingface_hub import try_to_load_from_cache

    paths = [
        try_to_load_from_cache(source.repo, name, revision=source.revision)
        for name in (CARD_NAME, WEIGHTS_NAME)
    ]
    if not all(isinstance(path, str) for path in paths):
        return None
    folder = Path(str(paths[0])).parent
    try:
        # Where it can, the client links to a file called by its digest.
        listed = (folder / CARD_NAME).resolve().name
        if _DIGEST.fullmatch(listed) and listed != _git_digest(folder / CARD_NAME):
            return None
        sha256 = read_card(folder).provenance.sha256
        return folder if sha256_of(folder / WEIGHTS_NAME) == sha256 else None
    except (ResNetHubError, OSError):
        return None


def http_error() -> type[Exception]:
    """Return the base of what the client's HTTP library raises: httpx, or its successor."""
    from huggingface_hub import utils

    library = getattr(utils, "httpx", None) or import_module("httpx")
    return cast(type[Exception], library.HTTPError)


def _reason(source: HubRepo, error: Exception) -> str | None:
    """Return in words of ours what the client raised; ``None`` for what it does not raise."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "is gated: ask for access on its page, then set HF_TOKEN or run `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"has no revision {source.revision!r}"
    if isinstance(error, errors.EntryNotFoundError):
        return f"no model folder (it lacks {CARD_NAME} or {WEIGHTS_NAME})"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository, or a private one: set HF_TOKEN or run `hf auth login`"
    if isinstance(error, errors.HfHubHTTPError):
        status = getattr(error.response, "status_code", "with an error")
        hint = "is HF_TOKEN right?" if status in (401, 403) else "try again"
        return f"the Hub answers {status}; {hint}"
    if isinstance(error, (http_error(), OSError)):
        return f"the Hub cannot be reached ({type(error).__name__}); try again"
    if isinstance(error, ValueError):  # a name, a token or an answer that cannot be
        return f"cannot be asked for ({type(error).__name__}); are its name and HF_TOKEN right?"
    return None


def _git_digest(path: Path) -> str:
    """Return what git, and the Hub for small files, calls a file by."""
    content = path.read_bytes() if path.stat().st_size <= MOST_BYTES else b""
    head = b"blob %d\0" % len(content)
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()
