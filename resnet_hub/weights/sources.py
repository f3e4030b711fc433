"""What people write for weights, taken apart: a folder, a name, a Hub repository, a URL."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from resnet_hub.errors import InvalidSetting
from resnet_hub.paths import expanded

_PART = r"\w([\w.-]{0,94}\w)?"
_REPO = re.compile(rf"(?!.*(\.\.|--|\.git\Z)){_PART}/{_PART}", re.ASCII)  # as the Hub's client
# A slash takes three bytes of the file name that a revision becomes, and 255 are all it may have.
_REVISION = re.compile(
    r"(?!.*(\.\.|//))(?!([^/]*/){17})[A-Za-z0-9][\w./-]{0,199}(?<![./])", re.ASCII
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_OWN_MACHINE = (("http", "localhost"), ("http", "127.0.0.1"), ("http", "::1"))


@dataclass(frozen=True)
class LocalFolder:
    """A model folder on this machine."""

    path: Path

    def __str__(self) -> str:
        """Return the path as it is written."""
        return str(self.path)


@dataclass(frozen=True)
class Published:
    """Weights of this package or its catalog: ``resnet50``, ``resnet50.tv_v2``."""

    name: str

    def __str__(self) -> str:
        """Return the name."""
        return self.name


@dataclass(frozen=True)
class HubRepo:
    """A repository on the Hugging Face Hub, at a branch, tag or commit."""

    repo: str
    revision: str = "main"

    def __str__(self) -> str:
        """Return the form that is read back."""
        return f"hf:{self.repo}" + (f"@{self.revision}" if self.revision != "main" else "")


@dataclass(frozen=True)
class Url:
    """A safetensors file on a web server, its card ``config.json`` beside it.

    Attributes:
        url: Without the digest.
        sha256: Hex digest of the safetensors file.
    """

    url: str
    sha256: str

    def __str__(self) -> str:
        """Return the form that is read back."""
        return f"{self.url}#sha256={self.sha256}"


Source = LocalFolder | Published | HubRepo | Url


def parse(source: "str | Path | Source") -> Source:
    """Tell what a source names.

    ``https://…/model.safetensors#sha256=…`` is a URL; what starts with ``.``, ``/`` or ``~``, or
    is there, is local; ``hf:org/repo@revision`` or ``org/repo@revision`` is a Hub
    repository; anything else is a published name.

    Raises:
        InvalidSetting: A URL or repository that cannot be one, or the home of nobody.
    """
    if isinstance(source, LocalFolder | Published | HubRepo | Url):
        return source
    if not isinstance(source, str | Path):
        raise InvalidSetting(f"{source!r}: weights are named by a text or a path")
    if isinstance(source, Path) or source.startswith((".", "/", "~")):
        return LocalFolder(expanded(source))
    if "://" in source:
        return _url(source)
    if source.startswith("hf:"):
        return _repo(source.removeprefix("hf:"))
    try:
        here = Path(source)
        if source and (here.is_dir() or ("/" in source and here.exists())):
            return LocalFolder(here)
    except (OSError, ValueError):  # too long for a path, or with a NUL in it
        pass
    return _repo(source) if "/" in source else Published(source)


def is_address(url: str) -> bool:
    """Whether a URL has a host, one that IDNA can encode, and no port that cannot be."""
    try:
        parts = urlsplit(url)
        return parts.port != 0 and bool((parts.hostname or "").encode("idna"))
    except ValueError:
        return False


def may_be_fetched(url: str) -> bool:
    """Whether a URL is one of https, or of this machine."""
    parts = urlsplit(url if is_address(url) else "")
    return parts.scheme == "https" or (parts.scheme, parts.hostname) in _OWN_MACHINE


def _url(source: str) -> Url:
    url, _, fragment = source.partition("#")
    parts = urlsplit(url if is_address(url) else "")
    host = parts.hostname
    if not may_be_fetched(url):
        raise InvalidSetting("weights are fetched by https:// alone, from an address that is one")
    shown = f"{parts.scheme}://{host}{parts.path}"
    if parts.query or parts.username or parts.password or not url.isascii():
        raise InvalidSetting(
            f"{shown}: a URL with a password, a query or other letters than ASCII is not taken, "
            "for it would be written into recipes and cards; download the folder instead"
        )
    digest = fragment.removeprefix("sha256=").lower()
    if not fragment.startswith("sha256=") or not _SHA256.fullmatch(digest):
        raise InvalidSetting(
            f"{shown}: append #sha256=… with the file's 64 hex digits, so that what comes is known"
        )
    if not parts.path.endswith(".safetensors"):
        raise InvalidSetting(
            f"{shown}: not a .safetensors file; `resnet-hub convert` reads others, once downloaded"
        )
    return Url(url, digest)


def _repo(text: str) -> HubRepo:
    repo, at, revision = text.partition("@")
    if not _REPO.fullmatch(repo):
        raise InvalidSetting(
            f"{text!r}: no Hub repository is called so; they are written org/repo or "
            "org/repo@revision, and a folder of this machine ./folder"
        )
    if at and not _REVISION.fullmatch(revision):
        raise InvalidSetting(f"{text!r}: {revision!r} cannot be a branch, tag or commit")
    return HubRepo(repo, revision if at else "main")
