"""Whether servers may be asked and answer at all, and how long an answer may take."""

import os
import socket
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from threading import Thread
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from resnet_hub.errors import DataMissing

_PATIENCE = 4.0  # seconds that a server has to answer a first knock
_Answer = TypeVar("_Answer")


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids every request."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def probe(url: str) -> None:
    """Knock at a server's door, so that one that is down costs seconds and one line.

    Raises:
        DataMissing: Nobody answers.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if host not in ("localhost", "127.0.0.1", "::1") and parts.scheme in getproxies():
        return  # the proxy's door is another one, and what is behind it is its own affair

    def knock() -> None:
        socket.create_connection((host, port), timeout=_PATIENCE).close()

    try:
        in_time(knock, _PATIENCE)  # looking a name up heeds no timeout
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
        raise DataMissing(
            f"{host}:{port} cannot be reached ({reason}); try again online"
        ) from error


def in_time(call: Callable[[], _Answer], seconds: float) -> _Answer:
    """Return what a call returns that heeds no timeout, or not that of the whole.

    Args:
        call: Goes on in a thread of its own, and beyond its time without anybody who listens.
        seconds: How long it may take.

    Raises:
        TimeoutError: It took longer.
        Exception: What the call raised.
    """
    answer: Future[_Answer] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # what a thread does not catch, it prints
            answer.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        return answer.result(seconds)
    except Late as error:
        if answer.done():  # the call's own, or just now
            return answer.result()
        raise TimeoutError(f"no answer in {seconds:.0f} seconds") from error
