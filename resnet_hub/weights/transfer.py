"""Fetching a file from a web server: resumed where the connection was cut, whole or not at all."""

import errno
import hashlib
import os
import re
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from threading import Timer
from typing import Any, BinaryIO, cast
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

import torch

from resnet_hub.errors import CorruptFile, DataMissing
from resnet_hub.weights.reach import probe

MOST_BYTES = 8 << 30
_ANSWER = 10.0  # seconds in which the head of an answer has to be whole
_STALLED = 20.0  # seconds without a byte
_GRACE, _SLOWEST = 60.0, 1000  # seconds, after which a mean of so many bytes a second is due
_TRIES = 5  # in a row that bring nothing new
_BLOCK = 1 << 20
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # ours, not the network's


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    most: int = MOST_BYTES,
    headers: Mapping[str, str] | None = None,
    shows: bool = True,
) -> str:
    """Fetch a file, and verify it before it has its name.

    Args:
        url: Where from.
        path: Where to; its folder is there. What was there stays if anything fails.
        sha256: Its hex digest, or the beginning of it; ``None`` leaves verifying to the caller.
        size: Its length in bytes, where known.
        most: A longer file is refused.
        headers: To be sent to this server alone, never to one that it redirects to.
        shows: Whether a terminal sees how far it is.

    Returns:
        Its whole SHA-256, in hex.

    Raises:
        DataMissing: The server or the network refused.
        CorruptFile: What came is another file than was asked for.
        OSError: The disk refused.
    """
    probe(url)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w+b") as file:
            _fill(file, url, size=size, most=most, headers=headers or {}, shows=shows)
            file.seek(0)
            found = hashlib.sha256()
            while block := file.read(_BLOCK):
                found.update(block)
        digest = found.hexdigest()
        if sha256 is not None and not digest.startswith(sha256):
            raise CorruptFile(
                f"{shown(url)}: what came is another file (SHA-256 {digest[:12]}…, not "
                f"{sha256[:12]}…); nothing was kept, try again"
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return digest


def shown(url: str) -> str:
    """Return a URL without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def _fill(
    file: BinaryIO,
    url: str,
    *,
    size: int | None,
    most: int,
    headers: Mapping[str, str],
    shows: bool,
) -> None:
    """Ask again, from where it broke off, until the file is whole or nothing new comes."""
    tries, reached, begun = 0, 0, time.monotonic()
    quiet = not (shows and sys.stderr.isatty())
    with cast(Any, torch.hub).tqdm(unit="B", unit_scale=True, disable=quiet) as bar:
        while tries < _TRIES:
            before = file.seek(0, os.SEEK_END)
            try:
                with closing(_open(url, before, headers)) as response:
                    if _receive(response, file, shown(url), begun, size=size, most=most, bar=bar):
                        return
                reason: object = "the connection ended early"
            except HTTPError as error:
                error.close()
                if error.code < 500:
                    raise DataMissing(f"{shown(url)}: the server answers {error.code}") from error
                reason = f"the server answers {error.code}"
            except (OSError, HTTPException, ValueError) as error:
                if getattr(error, "errno", None) in _DISK:
                    raise
                reason = getattr(error, "reason", None) or error
            tries = 0 if file.seek(0, os.SEEK_END) > reached else tries + 1
            reached = max(reached, file.tell())
            time.sleep(0.2 * tries)
    raise DataMissing(f"{shown(url)}: could not be fetched ({reason}); try again")


class _Redirects(HTTPRedirectHandler):
    """Follows a redirect over the web alone, and never from https to http."""

    def redirect_request(self, req: Request, *answer: Any) -> Request | None:
        """Return the request for the new place, or ``None`` to refuse it."""
        answer[0].close()  # else its body would be read first, however long
        scheme = urlsplit(answer[-1]).scheme
        return super().redirect_request(req, *answer) if scheme in ("https", req.type) else None


class _Connection(HTTPConnection):
    """Hangs up on a server that sends something all the time, but never the whole head."""

    def getresponse(self) -> HTTPResponse:
        """Return the answer, its head read.

        Raises:
            TimeoutError: It is not whole in time.
        """
        begun = time.monotonic()
        late = Timer(_ANSWER, partial(_hang_up, self.sock))
        late.daemon = True
        late.start()
        try:
            return super().getresponse()
        finally:
            late.cancel()
            if time.monotonic() - begun >= _ANSWER:  # what looks whole may have been cut
                raise TimeoutError(f"no answer in {_ANSWER:.0f} seconds")


class _TLSConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class _HTTP(HTTPHandler):
    def http_open(self, req: Request) -> HTTPResponse:
        """Ask by a connection of ours."""
        return self.do_open(_Connection, req)


class _HTTPS(HTTPSHandler):
    def https_open(self, req: Request) -> HTTPResponse:
        """Ask by a connection of ours; its defaults verify the certificate."""
        return self.do_open(_TLSConnection, req)


def _hang_up(connected: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        # Not the method of a TLS socket, which takes it apart while another thread reads.
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


def _opener() -> OpenerDirector:
    """Return what speaks http and https, and nothing else: no file, no ftp."""
    opener = OpenerDirector()
    for handler in (
        *(ProxyHandler(), _HTTP(), _HTTPS(), HTTPDefaultErrorHandler()),
        *(_Redirects(), HTTPErrorProcessor()),
    ):
        opener.add_handler(handler)
    return opener


def _open(url: str, begin: int, headers: Mapping[str, str]) -> HTTPResponse:
    own = {"Accept-Encoding": "identity", "User-Agent": "resnet-hub"}
    request = Request(url, headers=own)  # noqa: S310 - the opener speaks http and https alone
    if begin:
        request.add_header("Range", f"bytes={begin}-")
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    response: HTTPResponse = _opener().open(request, timeout=_STALLED)
    return response


def _receive(
    response: HTTPResponse,
    file: BinaryIO,
    name: str,
    begun: float,
    *,
    size: int | None,
    most: int,
    bar: Any,
) -> bool:
    """Append an answer's bytes to the file, or begin it anew; tell whether it is whole now."""
    another = f"{name}: what came is another file"
    begin = 0
    if response.status == 206:
        found = re.match(r"bytes (\d{1,15})-", response.headers.get("Content-Range", ""))
        if not found or int(found[1]) > file.tell():
            raise HTTPException("the server answers with another part than was asked for")
        begin = int(found[1])
    file.seek(begin)
    file.truncate()
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and len(length) > 15:
        raise CorruptFile(f"{another} (of a length that no file has)")
    stated = begin + int(length) if length.isdecimal() else None
    if None not in (size, stated) and size != stated:
        raise CorruptFile(f"{another} ({stated:,} bytes, not {size:,})")
    whole = stated if size is None else size
    limit = most if whole is None else min(most, whole)
    bar.total = whole
    bar.update(begin - bar.n)
    while block := response.read1(_BLOCK):
        file.write(block)
        bar.update(len(block))
        waited = time.monotonic() - begun
        if waited > _GRACE and file.tell() < waited * _SLOWEST:
            raise DataMissing(f"{name}: given up (under {_SLOWEST:,} bytes a second); try again")
        if file.tell() > limit:
            raise CorruptFile(f"{another} (over {limit:,} bytes)")
    return whole is None or file.tell() == whole
