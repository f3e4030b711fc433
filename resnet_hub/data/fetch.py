"""Fetching a data set's archive: verified, and there whole or not at all."""

import sys
import tarfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from http.client import HTTPException
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import HTTPError

from resnet_hub.errors import CorruptFile, DataMissing


def fetch_folder(folder: Path, *, url: str, md5: str, files: Sequence[str]) -> None:
    """Download a tar archive through torchvision and make ``folder`` of some of its files.

    The folder is filled under another name beside its place and then renamed: no one sees a part of
    it, and of two processes that fetch it at once the first one's stays. Progress goes to standard
    error.

    Args:
        folder: Where the files go; in the archive they lie in a folder of the same name.
        url: Address of the archive.
        md5: Its checksum, in hexadecimal.
        files: Names of the files to take out; whatever else the archive holds is left.

    Raises:
        DataMissing: The network or the disk refused.
        CorruptFile: What came is not the archive that the checksum is of.
    """
    download = import_module("torchvision.datasets.utils").download_url
    archive = Path(url).name
    by_hand = f"or extract {archive} in {folder.parent} by hand"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            with redirect_stdout(sys.stderr):  # standard out is for results
                download(url, temporary, filename=archive, md5=md5)
            fresh = Path(temporary, folder.name)
            fresh.mkdir()
            with tarfile.open(Path(temporary, archive)) as tar:
                for name in files:
                    # Only what is asked for, by name: no path of the archive's own choosing.
                    member = tar.extractfile(f"{folder.name}/{name}")
                    if member is None:
                        raise KeyError(name)
                    with member:
                        (fresh / name).write_bytes(member.read())
            _place(fresh, folder)
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataMissing(
            f"{folder} is not there, and {url} could not be fetched ({reason}); try again online, "
            f"{by_hand}"
        ) from error
    except (RuntimeError, KeyError, tarfile.TarError, EOFError) as error:
        raise CorruptFile(
            f"{url}: what came is not the official archive (MD5 {md5}); try again, {by_hand}"
        ) from error


def _place(fresh: Path, folder: Path) -> None:
    try:
        fresh.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process has placed it meanwhile
            raise
